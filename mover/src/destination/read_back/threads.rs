//! Threads that read back early: through a session, or beyond it where a pass leaves its read-back
//! to the next.

use std::sync::Arc;

use livmig_proto::{control::VerifyLevel, name::RelPath};

use super::survey::Surveyor;
use crate::catalog::log::Key;
use crate::destination::{
    early::{Early, When},
    state::Destination,
};

/// Threads that read back beside other work: they wait for the device most of the time.
const READERS: usize = 2;

/// Reading back early, until this is dropped.
#[derive(Debug)]
pub struct BackgroundReading {
    destination: Arc<Destination>,
    level: VerifyLevel,
}

impl BackgroundReading {
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

impl Drop for BackgroundReading {
    fn drop(&mut self) {
        self.destination.early.stop();
    }
}

/// Gives a directory back, also if its survey panics: the end of the pass would wait for ever.
struct Turn<'a> {
    early: &'a Early,
    key: Key,
    surveyed: Option<RelPath>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.early.done(self.key, self.surveyed.take());
    }
}

impl Destination {
    /// Surveys directories early until [`Early::close`]. To be run on a thread of its own, or
    /// several.
    pub fn survey_early(&self, level: VerifyLevel) {
        let mut surveyor = Surveyor::new(self, level);
        while let Some(key) = self.early.take() {
            let mut turn = Turn {
                early: &self.early,
                key,
                surveyed: None,
            };
            match surveyor.early(key) {
                Ok(surveyed) => turn.surveyed = surveyed,
                // It will show again at the end, and count.
                Err(fault) => tracing::debug!("read back early: {fault}"),
            }
        }
    }
}
