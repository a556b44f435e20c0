//! The machine's states; each owns what is true only in it.

use crate::{
    phase::Phase,
    record::Cause,
    result::{Proof, StepFailure, Verification},
    step::Step,
};

/// Where the machine is.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// Asked for, nothing done.
    Planned,
    /// Checking, then starting movers.
    Preparing {
        /// Whether the checks have passed.
        checked: bool,
    },
    /// Live passes.
    Precopy {
        /// Whether this coordinator has seen a complete pass end.
        fresh: bool,
        /// Whether the switch is decided: the next thing is to stop the workload.
        switching: bool,
    },
    /// The workload is going down while live passes go on.
    Quiescing {
        /// Whether it is down; then only the pass under way is awaited.
        stopped: bool,
        /// Whether further live passes are worth starting.
        overlap: bool,
    },
    /// Making the proof of no writers.
    Fencing(Round),
    /// Moving the last differences.
    FinalPass(Round),
    /// Comparing both ends.
    Verifying {
        /// Which attempt.
        round: Round,
        /// Both ends were equal and the proof stood: ready to commit.
        proven: Option<ProvenVolumes>,
    },
    /// Committed; re-binding.
    Swapping,
    /// Re-bound; starting the workload. Once the intent is recorded, nothing leads back.
    Unquiescing,
    /// The workload runs; cleaning up.
    Settling,
    /// Done.
    Completed,
    /// Undoing.
    RollingBack {
        /// Why.
        cause: Cause,
        /// What is left to undo, in order.
        remaining: Vec<Step>,
    },
    /// Undone.
    RolledBack {
        /// Why.
        cause: Cause,
    },
    /// The checks said no.
    Refused {
        /// What they found.
        failure: StepFailure,
    },
    /// Waiting for a person.
    Halted {
        /// The step that cannot go on.
        step: Step,
        /// Why.
        failure: StepFailure,
        /// Where a resume goes on.
        at: Box<State>,
    },
    /// Stopped on request.
    Interrupted {
        /// Where a resume goes on.
        at: Box<State>,
    },
}

/// One attempt at fence, final pass and verification. A later attempt has a higher number, so
/// (number, phase) never goes backwards although the phases repeat.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Round {
    /// Counted from 0.
    pub number: u32,
    /// Whether this coordinator has already tried again after a failure.
    pub retried: bool,
}

/// What COMMIT will say.
#[derive(Clone, Debug, PartialEq)]
pub struct ProvenVolumes {
    /// Both ends of every volume.
    pub volumes: Vec<Verification>,
    /// The standing proof of no writers.
    pub proof: Proof,
}

impl State {
    /// Whether the workload was asked to stop and COMMIT is not recorded: the time in which a
    /// failure rolls back and the budget is watched.
    pub fn is_uncommitted_downtime(&self) -> bool {
        matches!(
            self,
            Self::Quiescing { .. } | Self::Fencing(_) | Self::FinalPass(_) | Self::Verifying { .. }
        )
    }

    /// Whether the workload has not yet been asked to stop.
    pub fn is_before_quiesce(&self) -> bool {
        matches!(
            self,
            Self::Planned | Self::Preparing { .. } | Self::Precopy { .. }
        )
    }

    /// Whether nothing is under way or to be done without a person.
    pub fn is_at_rest(&self) -> bool {
        matches!(
            self,
            Self::Completed
                | Self::RolledBack { .. }
                | Self::Refused { .. }
                | Self::Halted { .. }
                | Self::Interrupted { .. }
        )
    }

    /// The phase people see; passes are numbered by the machine.
    pub(super) fn phase(&self, pass: livmig_proto::ids::PassNumber) -> Phase {
        match self {
            // A refused migration has changed nothing: it is still only planned.
            Self::Planned | Self::Refused { .. } => Phase::Planned,
            Self::Preparing { .. } => Phase::Preparing,
            Self::Precopy { .. } => Phase::Precopy { pass },
            Self::Quiescing { .. } => Phase::Quiescing,
            Self::Fencing(_) => Phase::Fencing,
            Self::FinalPass(_) => Phase::FinalPass,
            Self::Verifying { .. } => Phase::Verifying,
            Self::Swapping => Phase::Swapping,
            Self::Unquiescing => Phase::Unquiescing,
            Self::Settling => Phase::Settling,
            Self::Completed => Phase::Completed,
            Self::RollingBack { .. } => Phase::RollingBack,
            Self::RolledBack { .. } => Phase::RolledBack,
            Self::Halted { .. } => Phase::Halted,
            Self::Interrupted { at } => at.phase(pass),
        }
    }
}
