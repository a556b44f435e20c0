//! Where a journal is stored: the trait, and a store in memory.

use std::{
    error::Error,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use livmig_engine::record::Record;

/// A journal of one migration, held by one coordinator.
///
/// Opening a store takes whatever lock keeps a second coordinator away; dropping it gives the
/// lock back.
pub trait Journal: Send + Sync {
    /// Every record, in order. A torn last line (a crash during an append) is left out and
    /// removed before the next append; damage anywhere else is an error.
    fn load(&mut self) -> impl Future<Output = Result<Vec<Record>, JournalError>> + Send;

    /// Appends `record`. `Ok` means it survives a crash of the machine. After an error it is
    /// unknown whether the record is stored, so the driver stops and never appends again.
    fn append(&mut self, record: &Record) -> impl Future<Output = Result<(), JournalError>> + Send;

    /// Appends `records` in order, where the store can by one write. After an error it is unknown
    /// how many of them are stored; never a later one without an earlier one.
    ///
    /// A store that may be away for a while tries for minutes; meanwhile it tells `doubts` why.
    fn append_all(
        &mut self,
        records: &[Record],
    ) -> impl Future<Output = Result<(), JournalError>> + Send {
        async move {
            for record in records {
                self.append(record).await?;
            }
            Ok(())
        }
    }

    /// Has it tell through `doubts` what keeps an append waiting.
    fn tell(&mut self, _doubts: Doubts) {}
}

/// Where a journal tells what keeps an append waiting; nothing once it is stored.
#[derive(Clone)]
pub struct Doubts(Arc<dyn Fn(Option<String>) + Send + Sync>);

impl Doubts {
    /// Somewhere that is called.
    pub fn new(tell: impl Fn(Option<String>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    /// Tells what keeps an append waiting.
    pub fn tell(&self, doubt: Option<String>) {
        (self.0)(doubt);
    }
}

impl Default for Doubts {
    fn default() -> Self {
        Self::new(|_| ())
    }
}

/// A journal of which everything that was read and stored is also kept in memory, for whoever
/// tells about the run at its end.
#[derive(Debug)]
pub struct Recorded<J> {
    journal: J,
    records: Arc<Mutex<Vec<Record>>>,
}

impl<J> Recorded<J> {
    /// The journal, and what it holds as it grows.
    pub fn new(journal: J) -> (Self, Arc<Mutex<Vec<Record>>>) {
        let records = Arc::<Mutex<Vec<Record>>>::default();
        let kept = Arc::clone(&records);
        (Self { journal, records }, kept)
    }

    fn records(&self) -> std::sync::MutexGuard<'_, Vec<Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<J: Journal> Journal for Recorded<J> {
    async fn load(&mut self) -> Result<Vec<Record>, JournalError> {
        let loaded = self.journal.load().await?;
        self.records().clone_from(&loaded);
        Ok(loaded)
    }

    async fn append(&mut self, record: &Record) -> Result<(), JournalError> {
        self.append_all(std::slice::from_ref(record)).await
    }

    async fn append_all(&mut self, records: &[Record]) -> Result<(), JournalError> {
        self.journal.append_all(records).await?;
        self.records().extend_from_slice(records);
        Ok(())
    }

    fn tell(&mut self, doubts: Doubts) {
        self.journal.tell(doubts);
    }
}

/// Why a journal cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct JournalError {
    /// What happened and where, without the cause.
    pub message: String,
    /// Whether another coordinator writes to it now.
    pub taken_over: bool,
    /// The cause.
    #[source]
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl JournalError {
    /// An error without a further cause.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            taken_over: false,
            source: None,
        }
    }

    /// Another coordinator has written to the journal.
    pub fn taken_over() -> Self {
        Self {
            taken_over: true,
            ..Self::new("Somebody else has written to the journal")
        }
    }

    /// An error with its cause.
    pub fn because(
        message: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self {
            source: Some(source.into()),
            ..Self::new(message)
        }
    }
}
