//! Reads back while the pass still runs: a directory that its lane has left, and that a background
//! flush has made durable since, can be surveyed before everything else is there. So the device is
//! read while the network and the other processors are busy, and not after.
//!
//! A first copy may be left to be read back beside the passes that follow: then this goes on between
//! them, and during the copy itself only while a processor is idle.
//!
//! Nothing is judged here. What is found as claimed is noted in the catalog, where the survey at
//! the end finds it and need not read it again; anything else is left to that survey. What is
//! written to a directory meanwhile or later is noted as touched after what was taken up here, and
//! so is read at the end.

use std::{
    collections::HashSet,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use livmig_proto::name::RelPath;

use super::idle::{self, Idle};
use crate::catalog::log::Key;

/// Directories that one pass surveys early at most: their paths are remembered until its end.
const EARLY_MAX: usize = 1 << 16;

/// Bytes of those paths, from which on no more are taken: in a deep tree they are long.
const PATH_BYTES: usize = 8 << 20;

/// Directories between the lane that has left them and the thread that surveys them.
#[derive(Debug, Default)]
pub struct Early {
    state: Mutex<EarlyState>,
    changed: Condvar,
}

/// When to read back.
#[derive(Debug, Default)]
pub enum When {
    /// Not at all.
    #[default]
    Never,
    /// While a processor has nothing else to do.
    Idle(Idle),
    /// As soon as there is something.
    AtOnce,
}

impl When {
    fn is_never(&self) -> bool {
        matches!(self, Self::Never)
    }

    fn is_now(&mut self) -> bool {
        match self {
            Self::Never => false,
            Self::Idle(idle) => idle.is_spare(),
            Self::AtOnce => true,
        }
    }
}

#[derive(Debug, Default)]
struct EarlyState {
    when: When,
    /// Left by their lanes since the last flush began.
    left: Vec<Key>,
    /// Flushed since.
    durable: Vec<Key>,
    /// Being surveyed. One at a time for each, or one thread would take up what another has noted.
    busy: HashSet<Key>,
    /// Those that were surveyed.
    surveyed: Vec<RelPath>,
    /// Bytes of their paths.
    path_bytes: usize,
}

impl EarlyState {
    /// How many more directories may come.
    fn room(&self) -> usize {
        if self.path_bytes > PATH_BYTES {
            return 0;
        }
        let taken = self.left.len() + self.durable.len() + self.surveyed.len();
        EARLY_MAX.saturating_sub(taken)
    }
}

impl Early {
    /// A session begins, or ends and leaves what is durable to be read back.
    pub fn open(&self, when: When) {
        self.lock().when = when;
        self.changed.notify_all();
    }

    /// A lane has left the directory of `key`.
    pub fn left(&self, key: Key) {
        let mut state = self.lock();
        if !state.when.is_never() && state.room() > 0 {
            state.left.push(key);
        }
    }

    /// A flush begins: what it will have made durable.
    pub fn flushing(&self) -> Vec<Key> {
        std::mem::take(&mut self.lock().left)
    }

    /// The flush that began with `keys` is over.
    pub fn flushed(&self, keys: Vec<Key>) {
        let mut state = self.lock();
        if !state.when.is_never() {
            let room = state.room();
            state.durable.extend(keys.into_iter().take(room));
            self.changed.notify_all();
        }
    }

    /// Ends it; the surveys that are under way go on to their ends.
    pub fn stop(&self) {
        let mut state = self.lock();
        state.when = When::Never;
        state.left.clear();
        state.durable.clear();
        self.changed.notify_all();
    }

    /// Ends it and waits for the surveys that are under way. May be called again.
    pub fn close(&self) {
        self.stop();
        let mut state = self.lock();
        while !state.busy.is_empty() {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The directories that were surveyed since this was last asked.
    pub(super) fn take_surveyed(&self) -> Vec<RelPath> {
        let mut state = self.lock();
        state.path_bytes = 0;
        std::mem::take(&mut state.surveyed)
    }

    /// The next directory; none once it is closed. Each is given back with [`Early::done`].
    pub(super) fn take(&self) -> Option<Key> {
        let mut state = self.lock();
        loop {
            if state.when.is_never() {
                return None;
            }
            if !state.durable.is_empty() && !state.when.is_now() {
                (state, _) = self
                    .changed
                    .wait_timeout(state, idle::LOOK)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            match state.durable.pop() {
                // Somebody else is at it: what is new in it is left to the end.
                Some(key) if !state.busy.insert(key) => {}
                Some(key) => return Some(key),
                None => {
                    state = self
                        .changed
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// `key` was surveyed: as the directory at this path, if all of it was as claimed.
    pub(super) fn done(&self, key: Key, surveyed: Option<RelPath>) {
        let mut state = self.lock();
        state.busy.remove(&key);
        state.path_bytes += surveyed.as_ref().map_or(0, |path| path.as_bytes().len());
        state.surveyed.extend(surveyed);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, EarlyState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Key = Key([1; 16]);
    const B: Key = Key([2; 16]);

    #[test]
    fn only_what_was_left_before_a_flush_is_surveyed_after_it() {
        let early = Early::default();
        early.left(A);
        assert!(early.flushing().is_empty(), "no session has begun");
        early.open(When::AtOnce);
        early.left(A);
        let durable = early.flushing();
        early.left(B);
        early.flushed(durable);
        assert_eq!(early.take(), Some(A));
        early.done(A, None);
        early.flushed(early.flushing());
        assert_eq!(early.take(), Some(B));
        early.done(B, Some(RelPath::ROOT));
        early.close();
        assert_eq!(early.take(), None);
        assert_eq!(early.take_surveyed(), [RelPath::ROOT]);
    }

    #[test]
    fn no_more_directories_are_taken_than_can_be_remembered() {
        let early = Early::default();
        early.open(When::AtOnce);
        // As a pass that leaves its read-back hands over all that it touched.
        early.flushed(vec![A; EARLY_MAX + 1]);
        early.left(B);
        assert!(early.flushing().is_empty());
        early.flushed(vec![B]);
        assert_eq!(early.lock().durable.len(), EARLY_MAX);
        assert!(!early.lock().durable.contains(&B));
    }

    #[test]
    fn a_directory_is_surveyed_by_one_thread_at_a_time_and_the_end_waits_for_it() {
        let early = Early::default();
        early.open(When::AtOnce);
        early.flushed(vec![A, A]);
        assert_eq!(early.take(), Some(A));
        early.flushed(vec![A, B]);
        assert_eq!(early.take(), Some(B));
        early.done(B, None);
        std::thread::scope(|scope| {
            let closing = scope.spawn(|| early.close());
            assert_eq!(early.take(), None);
            early.done(A, None);
            closing.join().unwrap();
        });
    }
}
