//! The directories that wait to be visited: a stack that all workers share.
//!
//! Last in, first out keeps it short: what waits is the siblings along the way down, not a whole
//! level of the tree.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use livmig_proto::name::RelPath;

/// A directory to visit. It holds no handle: many may wait, in a deep tree some at every level.
#[derive(Debug)]
pub struct Job {
    /// Where it is.
    pub path: RelPath,
    /// What is known of it at the destination.
    pub baseline: Baseline,
    /// Whether the directories in it are visited too. Off when only its own listing is in doubt.
    pub deep: bool,
}

/// How far a second visit of a directory goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Depth {
    /// Its own listing, and what is new in it.
    NewBelow,
    /// All that lies below it.
    AllBelow,
}

/// What is known of a directory at the destination before it is visited.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Baseline {
    /// There is no such directory.
    Absent,
    /// What the catalog says; where it says nothing, the destination must be asked.
    Remembered,
    /// It exists and nothing is known of it.
    Unknown,
}

/// A stack of jobs that knows when the last one is done.
#[derive(Debug, Default)]
pub struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    jobs: Vec<Job>,
    /// Jobs taken and not yet done: they may bring more.
    active: usize,
    stopped: bool,
}

impl Queue {
    /// Adds jobs; the last is taken first.
    pub fn push(&self, jobs: impl IntoIterator<Item = Job>) {
        self.lock().jobs.extend(jobs);
        self.changed.notify_all();
    }

    /// Takes a job, waiting while others may bring some; nothing when all is done or stopped.
    /// Each job taken is given back with [`Queue::done`].
    pub fn take(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if state.stopped {
                return None;
            }
            if let Some(job) = state.jobs.pop() {
                state.active += 1;
                return Some(job);
            }
            if state.active == 0 {
                return None;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A job that was taken is done.
    pub fn done(&self) {
        let mut state = self.lock();
        state.active -= 1;
        if state.active == 0 {
            self.changed.notify_all();
        }
    }

    /// Nobody gets a job any more. What waits is dropped.
    pub fn stop(&self) {
        let mut state = self.lock();
        state.stopped = true;
        state.jobs.clear();
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(name: &[u8]) -> Job {
        Job {
            path: RelPath::new(name).unwrap(),
            baseline: Baseline::Absent,
            deep: true,
        }
    }

    #[test]
    fn it_ends_only_after_the_last_job_is_done() {
        let queue = Queue::default();
        queue.push([job(b"a")]);
        std::thread::scope(|scope| {
            let first = queue.take().unwrap();
            let waiter = scope.spawn(|| queue.take().map(|job| job.path));
            queue.push([job(b"b")]);
            queue.done();
            assert_eq!(waiter.join().unwrap(), Some(RelPath::new(b"b").unwrap()));
            drop(first);
        });
        queue.done();
        assert!(queue.take().is_none());
    }

    #[test]
    fn a_stopped_queue_gives_nothing() {
        let queue = Queue::default();
        queue.push([job(b"a"), job(b"b")]);
        queue.stop();
        assert!(queue.take().is_none());
    }
}
