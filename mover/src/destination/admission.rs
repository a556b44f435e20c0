//! Whose turn it is at a destination: one session at a time touches the volume, and what one leaves
//! is the next one's.

use std::sync::{Mutex, PoisonError};

use livmig_proto::{
    control::{Fault, FaultCode, PassKind, Side, VerifyLevel},
    session::{Begin, Ready},
};

use super::read_back::threads::BackgroundReading;
use crate::{fault, transport::accept::Incoming};

/// Sees to it that one session at a time touches the volume.
#[derive(Debug, Default)]
pub(super) struct Admission {
    current: Mutex<Option<Current>>,
    /// Whose turn it is, and what the session before has left to it.
    pub(super) turn: tokio::sync::Mutex<LeftBehind>,
}

/// The session that has begun last.
#[derive(Debug)]
struct Current {
    /// The run of a pass that it belongs to.
    run: [u8; 16],
    connection: Incoming,
}

/// What a session leaves to the next.
#[derive(Debug, Default)]
pub(super) struct LeftBehind {
    /// Whether it may leave its read-back to the next pass.
    pub(super) leaves: bool,
    /// What is still being read back for it.
    pub(super) reading: Option<BackgroundReading>,
}

impl Admission {
    /// Makes `connection` the current session, and ends the one that was.
    pub(super) fn replace(&self, begin: &Begin, connection: &Incoming) -> Result<(), Fault> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if !may_take_over(begin, current.as_ref().map(|current| current.run)) {
            return Err(fault::plain(
                Side::Destination,
                FaultCode::Stopped,
                "destination: another run of the pass has begun since the connection was lost",
            ));
        }
        let older = current.replace(Current {
            run: begin.run,
            connection: connection.clone(),
        });
        if let Some(older) = older {
            older.connection.close(1, "a newer session has begun");
        }
        Ok(())
    }
}

/// Whether a session may take the place of the one of the run `current`. A source that was cut off
/// may come back when its successor, or a later pass of its own, is served already: only what begins
/// anew takes over then.
fn may_take_over(begin: &Begin, current: Option<[u8; 16]>) -> bool {
    !begin.resumes || current == Some(begin.run)
}

/// Whether what this pass copies may be read back beside the next. What it copied already, over a
/// connection that was lost, does not end that: it is as unread as the rest.
pub(super) fn may_leave_read_back(begin: &Begin, ready: &Ready, before: &LeftBehind) -> bool {
    let reads_back = begin.verify != VerifyLevel::Wire;
    let is_first_copy = ready.empty || begin.resumes && before.leaves;
    begin.may_leave_read_back && begin.kind == PassKind::Live && reads_back && is_first_copy
}

#[cfg(test)]
mod tests {
    use livmig_proto::{
        attributes::Kinds,
        ids::{Epoch, MigrationUid, PassNumber},
        session::VERSION,
    };

    use super::*;

    fn begin(run: u8, resumes: bool) -> Begin {
        Begin {
            version: VERSION,
            migration: MigrationUid([1; 16]),
            epoch: Epoch(1),
            pass: PassNumber(1),
            run: [run; 16],
            resumes,
            kind: PassKind::Live,
            verify: VerifyLevel::Readback,
            adopt: false,
            may_leave_read_back: true,
            sees: Kinds::plain(),
            tag_key: [0; 32],
            root: None,
        }
    }

    #[test]
    fn a_run_that_was_cut_off_takes_over_from_itself_alone() {
        assert!(may_take_over(&begin(1, false), None));
        assert!(may_take_over(&begin(1, false), Some([2; 16])));
        assert!(may_take_over(&begin(1, true), Some([1; 16])));
        assert!(!may_take_over(&begin(1, true), Some([2; 16])));
        // A destination that was started anew does not know which one came last.
        assert!(!may_take_over(&begin(1, true), None));
    }

    #[test]
    fn a_first_copy_that_was_cut_off_is_still_one() {
        let ready = |empty| Ready {
            instance: [0; 16],
            empty,
            lost_and_found: false,
            stores: Kinds::plain(),
            tells_reserved: false,
            unlisted: false,
            root: None,
        };
        let before = |leaves| LeftBehind {
            leaves,
            reading: None,
        };
        let (leaves, nothing) = (before(true), before(false));
        assert!(may_leave_read_back(
            &begin(1, false),
            &ready(true),
            &nothing
        ));
        assert!(may_leave_read_back(&begin(1, true), &ready(false), &leaves));
        assert!(!may_leave_read_back(
            &begin(1, true),
            &ready(false),
            &nothing
        ));
        assert!(!may_leave_read_back(
            &begin(1, false),
            &ready(false),
            &leaves
        ));
    }
}
