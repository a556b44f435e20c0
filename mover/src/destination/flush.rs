//! Flushes in the background while a pass runs, so that the end of the pass flushes little.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use livmig_proto::control::Fault;

use super::state::Destination;

/// Bytes that may be written before they are flushed.
const EVERY: u64 = 32 << 20;

/// How often is looked whether so much was written.
const LOOK: Duration = Duration::from_millis(100);

/// Whoever has a volume flushed in the background: that ends when this is dropped, however that
/// comes.
#[derive(Debug)]
pub struct Flusher(Arc<Watch>);

/// Whether to go on flushing.
#[derive(Debug, Default)]
pub struct Watch {
    over: Mutex<bool>,
    changed: Condvar,
}

impl Flusher {
    /// Something to be flushed as long as this is there.
    pub fn new() -> Self {
        Self(Arc::default())
    }

    /// For the thread that flushes.
    pub fn watch(&self) -> Arc<Watch> {
        Arc::clone(&self.0)
    }
}

impl Default for Flusher {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        *self.0.over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.changed.notify_all();
    }
}

impl Watch {
    /// Flushes until the [`Flusher`] is dropped; the first failure.
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
                let left = destination.early.flushing();
                destination.sync()?;
                destination.early.flushed(left);
                flushed = written;
            }
        }
    }
}
