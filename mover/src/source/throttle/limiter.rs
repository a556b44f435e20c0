//! The load that live passes put on the source and the network: limits that may change at any
//! time, and the threads that keep them.

use std::{
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use livmig_proto::control::{Bandwidth, IoPriority, Limits};

use super::pace::{self, Pace};
use crate::fs::sys;

/// The limits of all passes of a source.
#[derive(Debug)]
pub struct Limiter {
    begun: Instant,
    state: Mutex<(Limits, Pace)>,
}

impl Default for Limiter {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            state: Mutex::default(),
        }
    }
}

impl Limiter {
    /// Sets the limits, also of a pass under way.
    pub fn set(&self, load: Limits) {
        self.lock().0 = load;
    }

    /// The limits.
    pub fn get(&self) -> Limits {
        self.lock().0
    }

    /// Waits until the first of `bytes` may leave, and says how many. All of them at once where
    /// nothing is limited or `exempt` says that nothing is now.
    pub fn admit(&self, bytes: usize, exempt: impl Fn() -> bool) -> usize {
        loop {
            if exempt() {
                return bytes;
            }
            let wait = match self.ask(bytes) {
                Ok(granted) => return granted,
                Err(wait) => wait,
            };
            // A fiftieth of a second at most: what changes meanwhile is heeded soon enough.
            thread::sleep(wait);
        }
    }

    fn ask(&self, bytes: usize) -> Result<usize, Duration> {
        let mut state = self.lock();
        let (load, pace) = &mut *state;
        let Some(rate) = load.bandwidth.map(Bandwidth::get) else {
            return Ok(bytes);
        };
        let bytes = bytes.min(pace::part(rate));
        pace.grant(self.begun.elapsed(), bytes, rate)?;
        Ok(bytes)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (Limits, Pace)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The I/O priority of one thread, which does nothing else until it ends.
#[derive(Debug, Default)]
pub struct ThreadPriority(Option<IoPriority>);

impl ThreadPriority {
    /// Gives the calling thread the priority that is wanted now.
    pub fn follow(&mut self, limiter: &Limiter) {
        let wanted = limiter.get().io_priority;
        if self.0.replace(wanted) != Some(wanted)
            && let Err(errno) = sys::set_io_priority(wanted)
        {
            tracing::debug!(%errno, %wanted, "the priority of reads could not be set");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn limited(rate: u64) -> Limits {
        Limits {
            bandwidth: Some(Bandwidth::try_from(rate).unwrap()),
            ..Limits::default()
        }
    }

    #[test]
    fn what_is_not_limited_leaves_whole() {
        let limiter = Limiter::default();
        assert_eq!(limiter.admit(1 << 30, || false), 1 << 30);
        limiter.set(limited(1 << 20));
        assert_eq!(limiter.admit(1 << 30, || false), pace::part(1 << 20));
        assert_eq!(limiter.admit(1 << 30, || true), 1 << 30);
    }

    #[test]
    fn whoever_waits_hears_that_nothing_is_limited_any_more() {
        let limiter = Limiter::default();
        limiter.set(limited(Bandwidth::MIN));
        let (stopped, waiting) = (AtomicBool::new(false), AtomicBool::new(false));
        thread::scope(|scope| {
            let admitted = scope.spawn(|| {
                loop {
                    waiting.store(true, Ordering::SeqCst);
                    let granted = limiter.admit(1 << 30, || stopped.load(Ordering::SeqCst));
                    if granted == 1 << 30 {
                        return;
                    }
                }
            });
            while !waiting.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            stopped.store(true, Ordering::SeqCst);
            admitted.join().unwrap();
        });
    }
}
