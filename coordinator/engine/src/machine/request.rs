//! Which requests are legal when, and what each becomes.

use super::{Machine, state::State};
use crate::{
    record::{Cause, Decision, Event},
    request::Request,
};

/// Why a request is not possible now.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RequestRefusal {
    /// The migration is over.
    #[error("the migration has already ended")]
    Ended,
    /// It waits for a resume.
    #[error("the migration is at rest; resume it first")]
    AtRest,
    /// It is undoing everything already.
    #[error(
        "the migration is rolling back already; it ends when the workload runs on its source again"
    )]
    RollingBack,
    /// The workload is being switched already.
    #[error("the migration is switching already")]
    Switching,
    /// COMMIT is recorded.
    #[error(
        "the destination is proven and committed; the migration goes forward until the workload \
         runs there"
    )]
    Committed,
    /// The workload may have written to the destination.
    #[error(
        "the workload was already started on the destination and may have written there, which \
         the source lacks; to go back, migrate in the other direction"
    )]
    PastReturn,
}

impl Machine {
    /// The event that `request` becomes, to be recorded.
    ///
    /// # Errors
    /// When it is not possible now.
    pub fn request(&self, request: Request) -> Result<Event, RequestRefusal> {
        if let Some(outcome) = self.outcome() {
            return Err(if outcome.is_final() {
                RequestRefusal::Ended
            } else {
                RequestRefusal::AtRest
            });
        }
        if matches!(self.state, State::RollingBack { .. }) {
            return Err(RequestRefusal::RollingBack);
        }
        let roll_back = |cause| Event::Decided {
            decision: Decision::RollBack { cause },
        };
        match request {
            Request::RollBack if self.is_past_return() => Err(RequestRefusal::PastReturn),
            Request::RollBack => Ok(roll_back(Cause::Requested)),
            _ if self.state.is_before_quiesce() => Ok(Event::Requested { request }),
            Request::Interrupt if self.state.is_uncommitted_downtime() => {
                Ok(roll_back(Cause::Interrupted))
            }
            Request::Interrupt => Err(RequestRefusal::Committed),
            Request::Switch | Request::Proceed | Request::KeepPassing => {
                Err(RequestRefusal::Switching)
            }
        }
    }

    /// Whether a stored request could have been made here.
    pub(super) fn check_request(&self, request: Request) -> Result<(), &'static str> {
        match request {
            Request::RollBack => Err("a rollback is recorded as a decision"),
            _ if self.state.is_before_quiesce() => Ok(()),
            _ => Err("the workload was already asked to stop"),
        }
    }
}
