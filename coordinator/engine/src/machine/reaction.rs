//! What follows from a failed step.

use std::time::Duration;

use super::{
    Machine,
    history::StepTrouble,
    state::{Round, State},
};
use crate::{
    record::{Cause, Decision},
    result::FailureKind,
    step::Step,
    time::Timestamp,
};

/// What to do about a failure.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reaction {
    /// Try again, not before this moment.
    Retry(Timestamp),
    /// Something else.
    Decide(Decision),
}

/// Failures in a row after which a step is not tried again, by how much hangs on it.
const TRIES_BEFORE_QUIESCE: u32 = 5;
const TRIES_IN_DOWNTIME: u32 = 3;
const TRIES_AFTER_COMMIT: u32 = 5;

/// How long a step on a cluster is tried again that nobody can do without: the workload is down and
/// waits for it. An API server that is restarted or moved is back within minutes; on a host it is a
/// person's command that fails, and that person should hear of it.
const PATIENCE: Duration = Duration::from_mins(10);

/// The first pause before trying again; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

impl Machine {
    /// The reaction to the last failure, if one is unanswered.
    pub(super) fn reaction(&self) -> Option<Reaction> {
        let trouble = self.history.trouble.as_ref()?;
        let retry = |tries: u32| {
            let count = self.history.failures_of(trouble.step);
            (trouble.failure.is_transient() && count < tries)
                .then(|| Reaction::Retry(trouble.at.after(pause(count))))
        };
        let patient = |tries: u32| {
            let waited = trouble.at.since(trouble.since);
            let on_cluster = self.spec.target.kubernetes().is_some();
            let patient = on_cluster && waited < PATIENCE;
            retry(if patient { u32::MAX } else { tries })
        };
        let undecided = trouble.failure.kind == FailureKind::Undecided;
        let halt = || Reaction::Decide(halt(trouble));
        let roll_back = || Reaction::Decide(roll_back(trouble));
        let reaction = match (&self.state, trouble.step) {
            (State::Planned | State::Preparing { checked: false }, _) => retry(TRIES_IN_DOWNTIME)
                .unwrap_or_else(|| {
                    Reaction::Decide(Decision::Refuse {
                        failure: trouble.failure.clone(),
                    })
                }),
            // The workload runs: leaving it alone is safe whatever the failure was.
            (State::Preparing { .. } | State::Precopy { .. }, _) => {
                retry(TRIES_BEFORE_QUIESCE).unwrap_or_else(roll_back)
            }
            (state, _) if state.is_uncommitted_downtime() && undecided => halt(),
            (
                State::FinalPass(round) | State::Verifying { round, .. },
                Step::Pass { .. } | Step::Verify,
            ) => another_round(*round, trouble).unwrap_or_else(roll_back),
            (state, _) if state.is_uncommitted_downtime() => {
                retry(TRIES_IN_DOWNTIME).unwrap_or_else(roll_back)
            }
            (State::Swapping, _) if undecided => halt(),
            (State::Swapping, _) => retry(TRIES_AFTER_COMMIT).unwrap_or_else(roll_back),
            (State::Unquiescing | State::Settling | State::RollingBack { .. }, _) => {
                patient(TRIES_AFTER_COMMIT).unwrap_or_else(halt)
            }
            _ => return None,
        };
        Some(reaction)
    }
}

/// A final pass or verification that failed in a way that may pass is made once more.
fn another_round(round: Round, trouble: &StepTrouble) -> Option<Reaction> {
    (trouble.failure.is_transient() && !round.retried)
        .then_some(Reaction::Decide(Decision::AnotherRound))
}

fn pause(count: u32) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << count.saturating_sub(1).min(10));
    doubled.min(LONGEST_PAUSE)
}

fn halt(trouble: &StepTrouble) -> Decision {
    Decision::Halt {
        step: trouble.step,
        failure: trouble.failure.clone(),
    }
}

fn roll_back(trouble: &StepTrouble) -> Decision {
    Decision::RollBack {
        cause: Cause::Failed {
            step: trouble.step,
            failure: trouble.failure.clone(),
        },
    }
}
