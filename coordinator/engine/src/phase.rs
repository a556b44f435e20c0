//! The phases of a migration, as people see them.

use std::fmt;

use livmig_proto::ids::PassNumber;
use serde::{Deserialize, Serialize};

/// Where a migration is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "name")]
pub enum Phase {
    /// Nothing was done yet.
    Planned,
    /// Checks are made and movers started.
    Preparing,
    /// The workload runs while passes bring the destination close.
    Precopy {
        /// The pass under way, or the last one.
        pass: PassNumber,
    },
    /// The workload is being stopped.
    Quiescing,
    /// The proof of no writers is made.
    Fencing,
    /// The last differences are moved.
    FinalPass,
    /// Both ends are compared.
    Verifying,
    /// COMMIT is recorded; the destination becomes what the workload will find.
    Swapping,
    /// The workload is being started on the destination.
    Unquiescing,
    /// The workload runs on the destination; movers are removed.
    Settling,
    /// All done.
    Completed,
    /// What was done is being undone.
    RollingBack,
    /// The workload runs on the source as before.
    RolledBack,
    /// A person must decide.
    Halted,
}

impl Phase {
    /// The name alone.
    pub fn name(self) -> &'static str {
        match self {
            Self::Planned => "Planned",
            Self::Preparing => "Preparing",
            Self::Precopy { .. } => "Precopy",
            Self::Quiescing => "Quiescing",
            Self::Fencing => "Fencing",
            Self::FinalPass => "FinalPass",
            Self::Verifying => "Verifying",
            Self::Swapping => "Swapping",
            Self::Unquiescing => "Unquiescing",
            Self::Settling => "Settling",
            Self::Completed => "Completed",
            Self::RollingBack => "RollingBack",
            Self::RolledBack => "RolledBack",
            Self::Halted => "Halted",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Precopy { pass } => write!(f, "Precopy (pass {pass})"),
            _ => f.write_str(self.name()),
        }
    }
}
