//! Threads that read back early: through a session, or beyond it where a pass leaves its read-back
//! to the next.

use std::sync::Arc;

use livmig_proto::control::VerifyLevel;

use super::{early::When, state::Destination};

/// Threads that read back beside other work: they wait for the device most of the time.
const READERS: usize = 2;

/// Reading back early, until this is dropped.
#[derive(Debug)]
pub struct Reading {
    destination: Arc<Destination>,
    level: VerifyLevel,
}

impl Reading {
    /// Begins it. Must be called within a runtime.
    pub fn begin(destination: &Arc<Destination>, level: VerifyLevel, when: When) -> Self {
        destination.early.open(when);
        let threads = match level {
            // Nothing is read back at all.
            VerifyLevel::Wire => 0,
            VerifyLevel::Readback | VerifyLevel::Full => READERS,
        };
        for _ in 0..threads {
            let destination = Arc::clone(destination);
            tokio::task::spawn_blocking(move || destination.survey_early(level));
        }
        Self {
            destination: Arc::clone(destination),
            level,
        }
    }

    /// How hard it looks.
    pub fn level(&self) -> VerifyLevel {
        self.level
    }

    /// Ends it and waits, off the network's threads, for what is being read back: perhaps a large
    /// file.
    pub async fn end(self) {
        let destination = Arc::clone(&self.destination);
        let _ = tokio::task::spawn_blocking(move || destination.early.close()).await;
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.destination.early.stop();
    }
}
