//! Flushes in the background while a pass runs, so that the end of the pass flushes little.

use std::{
    sync::{Condvar, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use livmig_proto::control::Fault;

use super::state::Destination;

/// Bytes that may be written before they are flushed.
const EVERY: u64 = 96 << 20;

/// How often is looked whether so much was written.
const LOOK: Duration = Duration::from_millis(100);

/// Tells a background flusher that the session is over.
#[derive(Debug, Default)]
pub struct Flusher {
    over: Mutex<bool>,
    changed: Condvar,
}

impl Flusher {
    /// Flushes until [`Flusher::end`]; the first failure.
    pub fn run(&self, destination: &Destination) -> Result<(), Fault> {
        let mut flushed = destination.written.load(Ordering::Relaxed);
        loop {
            let over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
            let (over, _) = self
                .changed
                .wait_timeout_while(over, LOOK, |over| !*over)
                .unwrap_or_else(PoisonError::into_inner);
            if *over {
                return Ok(());
            }
            drop(over);
            let written = destination.written.load(Ordering::Relaxed);
            if written.wrapping_sub(flushed) >= EVERY {
                destination.sync()?;
                flushed = written;
            }
        }
    }

    /// Ends the flushing.
    pub fn end(&self) {
        *self.over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }
}
