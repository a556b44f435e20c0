//! Why there is no mover to talk to.

use std::{io, path::PathBuf, time::Duration};

use livmig_proto::control::Side;

use super::keys::KeysError;
use crate::movers::control::ControlError;

/// Why there is no mover to talk to.
#[derive(Debug, thiserror::Error)]
pub enum MoverError {
    /// The program is nowhere.
    #[error("The mover's program was not found (looked at {looked})")]
    NoProgram {
        /// Where it was looked for.
        looked: String,
    },
    /// The program could not be started, or its files not written.
    #[error("Could not start the {side} mover ({what})")]
    Start {
        /// Which.
        side: Side,
        /// The failing part.
        what: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It ended before it listened.
    #[error("The {side} mover ended at its start: {output} (its log: {})", .log.display())]
    Ended {
        /// Which.
        side: Side,
        /// Its last words.
        output: String,
        /// All its words.
        log: PathBuf,
    },
    /// It did not come up in time.
    #[error(
        "The {side} mover did not listen within {} s and was ended (its log: {})",
        .limit.as_secs(), .log.display()
    )]
    Slow {
        /// Which.
        side: Side,
        /// What it was given.
        limit: Duration,
        /// Its log.
        log: PathBuf,
    },
    /// One that runs could not be ended.
    #[error("Could not end the {side} mover, process {pid}")]
    End {
        /// Which.
        side: Side,
        /// Its process.
        pid: u32,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// What answers is a mover of something else.
    #[error("The {side} mover serves another migration or the other end")]
    Stranger {
        /// Which was expected.
        side: Side,
    },
    /// It could not be asked.
    #[error("The {side} mover cannot be asked")]
    Control {
        /// Which.
        side: Side,
        /// Why.
        #[source]
        source: ControlError,
    },
    /// The keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
}
