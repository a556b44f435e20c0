//! A journal in memory.

use std::sync::{Arc, Mutex, PoisonError};

use livmig_coord::journal::{Journal, JournalError};
use livmig_engine::record::Record;

/// A journal in memory: clones share it, so it outlives the coordinator that wrote it.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryJournal {
    lines: Arc<Mutex<Vec<String>>>,
}

impl MemoryJournal {
    /// What is stored.
    pub(crate) fn records(&self) -> Result<Vec<Record>, JournalError> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines
            .iter()
            .map(|line| {
                Record::decode(line)
                    .map_err(|error| JournalError::because("cannot read the journal", error))
            })
            .collect()
    }
}

impl Journal for MemoryJournal {
    async fn load(&mut self) -> Result<Vec<Record>, JournalError> {
        self.records()
    }

    async fn append(&mut self, record: &Record) -> Result<(), JournalError> {
        // Stored encoded, so that every test that keeps its journal here exercises the codec.
        let line = record
            .encode()
            .map_err(|error| JournalError::because("cannot encode a record", error))?;
        self.lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(line);
        Ok(())
    }
}
