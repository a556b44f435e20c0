//! Why a driver stops without an outcome.

use livmig_engine::{
    machine::{Illegal, Machine, RequestRefusal, Whereabouts},
    spec::MigrationName,
};

use crate::journal::JournalError;

/// Why a driver stopped. What it says about the workload holds at that moment.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// A migration of that name is on record.
    #[error("a migration named {0} is on record already; resume it or clean it up first")]
    Exists(MigrationName),
    /// The journal cannot be read.
    #[error("cannot read the journal; nothing was done")]
    Load(#[source] JournalError),
    /// A record could not be stored, so nothing more was done.
    #[error(
        "cannot write the journal of {name}, so nothing more is done: {whereabouts}; make the \
         journal writable, then run: livmig-coord resume {name}"
    )]
    Append {
        /// The migration.
        name: MigrationName,
        /// Where the workload is.
        whereabouts: Whereabouts,
        /// The cause.
        #[source]
        source: JournalError,
    },
    /// Another coordinator writes to the journal, and decides from here on.
    #[error(
        "another coordinator has taken over {name}; this one does nothing more; what the other \
         does, shows: livmig-coord status {name}"
    )]
    TakenOver {
        /// The migration.
        name: MigrationName,
        /// How it was noticed.
        #[source]
        source: JournalError,
    },
    /// The journal tells a story that cannot have happened, or was about to: it is damaged, or
    /// livmig has a defect.
    #[error(
        "a record of the journal cannot follow the ones before it, so nothing more is done; where \
         the workload is, says: livmig-coord get"
    )]
    Illegal(#[from] Illegal),
    /// The request to begin with is not possible.
    #[error(transparent)]
    Refused(#[from] RequestRefusal),
}

impl DriverError {
    pub(super) fn load(source: JournalError) -> Self {
        Self::Load(source)
    }

    pub(super) fn append(machine: &Machine, source: JournalError) -> Self {
        if source.taken_over {
            return Self::TakenOver {
                name: machine.spec().name.clone(),
                source,
            };
        }
        Self::Append {
            name: machine.spec().name.clone(),
            whereabouts: machine.whereabouts(),
            source,
        }
    }
}
