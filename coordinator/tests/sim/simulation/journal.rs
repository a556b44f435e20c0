//! A journal in memory whose every record is checked against the world.

use std::sync::{Arc, Mutex, PoisonError};

use livmig_engine::record::Record;

use livmig_coord::journal::{Journal, JournalError};

use super::{clock::yield_once, memory::MemoryJournal, world::World};

/// A journal in memory that the world watches.
#[derive(Clone, Debug)]
pub(crate) struct SimJournal {
    memory: MemoryJournal,
    world: Arc<Mutex<World>>,
    /// Appends left until one fails; none never does.
    failing_after: Arc<Mutex<Option<u32>>>,
}

impl SimJournal {
    pub(super) fn new(world: Arc<Mutex<World>>) -> Self {
        Self {
            memory: MemoryJournal::default(),
            world,
            failing_after: Arc::default(),
        }
    }

    /// Lets the append after `appends` more fail, and all that follow.
    pub(crate) fn fail_after(&self, appends: Option<u32>) {
        *self
            .failing_after
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = appends;
    }

    pub(super) fn records(&self) -> Vec<Record> {
        // What memory holds was encoded here; the tests see a journal that cannot be read as an
        // empty one and fail.
        self.memory.records().unwrap_or_default()
    }

    fn fails(&self) -> bool {
        let mut left = self
            .failing_after
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match left.as_mut() {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }
}

impl Journal for SimJournal {
    async fn load(&mut self) -> Result<Vec<Record>, JournalError> {
        self.memory.records()
    }

    async fn append(&mut self, record: &Record) -> Result<(), JournalError> {
        // A coordinator may die on either side of the write.
        yield_once().await;
        if self.fails() {
            return Err(JournalError::new("no space left on the journal's device"));
        }
        self.memory.append(record).await?;
        self.world
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .recorded(record);
        yield_once().await;
        Ok(())
    }
}
