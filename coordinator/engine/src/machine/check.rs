//! Which records may follow, and which are refused.

use livmig_proto::control::PassKind;

use super::{
    Machine, history,
    state::{Round, State},
};
use crate::{
    record::{Decision, Event, Record, SCHEMA},
    result::Probe,
    step::Step,
};

/// A record that cannot follow the ones before it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("record {seq} of the journal ({event}) is illegal: {why}")]
pub struct Illegal {
    seq: u64,
    event: String,
    why: &'static str,
}

impl Illegal {
    pub(super) fn new(record: &Record, why: &'static str) -> Self {
        Self {
            seq: record.seq,
            event: history::word(&record.event),
            why,
        }
    }

    pub(super) fn empty() -> Self {
        Self {
            seq: 0,
            event: "missing".to_owned(),
            why: "the journal is empty",
        }
    }
}

impl Machine {
    /// Whether `record` may follow, before anything is changed.
    pub(super) fn check(&self, record: &Record) -> Result<(), &'static str> {
        if record.schema > SCHEMA {
            return Err("it is of a newer schema");
        }
        if record.seq != self.history.next_seq {
            return Err("it is out of sequence");
        }
        let adopted = record.event == Event::Adopted;
        let expected = if adopted {
            self.history.epoch.next()
        } else {
            self.history.epoch
        };
        if record.epoch != expected {
            return Err("its epoch is not that of the coordinator in charge");
        }
        if self.outcome().is_some_and(|outcome| outcome.is_final()) {
            return Err("the migration has ended");
        }
        if self.state.is_at_rest() && !adopted {
            return Err("the migration is at rest until a coordinator takes it up");
        }
        self.check_event(&record.event)
    }

    fn check_event(&self, event: &Event) -> Result<(), &'static str> {
        match event {
            Event::Planned { .. } => Err("a migration is planned once"),
            Event::Adopted => Ok(()),
            Event::Intent { step } => self.check_intent(*step),
            Event::Outcome { step, outcome } => {
                must(self.history.is_open(*step), "the step is not under way")?;
                must(outcome.fits(*step), "the outcome belongs to another step")
            }
            Event::Failure { step, .. } => must(
                self.history.is_open(*step) || self.doubts(*step),
                "the step is neither under way nor in doubt",
            ),
            Event::Probed { step, found } => {
                must(self.doubts(*step), "the step is not in doubt")?;
                match found {
                    Probe::Done { outcome } => {
                        must(outcome.fits(*step), "the outcome belongs to another step")
                    }
                    Probe::NotDone => Ok(()),
                }
            }
            Event::Abandoned { step } => {
                must(self.history.is_open(*step), "the step is not under way")?;
                must(
                    matches!(self.state, State::RollingBack { .. }),
                    "steps are cut off only to roll back",
                )
            }
            Event::Requested { request } => self.check_request(*request),
            Event::Decided { decision } => self.check_decision(decision),
            Event::Commit { volumes, proof } => match &self.state {
                State::Verifying {
                    proven: Some(proven),
                    ..
                } => must(
                    proven.volumes == *volumes && proven.proof == *proof,
                    "it is not what was verified",
                ),
                _ => Err("nothing is proven"),
            },
        }
    }

    fn check_intent(&self, step: Step) -> Result<(), &'static str> {
        if !self.history.doubt.is_empty() {
            return Err("a step is in doubt and must be probed first");
        }
        let beside = matches!(self.state, State::Quiescing { .. })
            && !self.history.is_open(step)
            && (step == Step::Quiesce || self.history.open_pass().is_none());
        if !self.history.open.is_empty() && !beside {
            return Err("another step is under way");
        }
        let ready = self.history.movers_ready;
        let next_pass = self.history.next_pass();
        let fits = match (&self.state, step) {
            (State::Planned | State::Preparing { checked: false }, Step::Check)
            | (State::Preparing { checked: true }, Step::StartMovers)
            | (
                State::Precopy {
                    switching: true, ..
                }
                | State::Quiescing { stopped: false, .. },
                Step::Quiesce,
            )
            | (State::Fencing(_), Step::Fence)
            | (State::Verifying { proven: None, .. }, Step::Verify)
            | (State::Swapping, Step::Swap)
            | (State::Unquiescing, Step::Unquiesce)
            | (State::Settling, Step::Settle) => true,
            (State::Precopy { .. } | State::FinalPass(_), Step::StartMovers) => !ready,
            (
                State::Precopy {
                    switching: false, ..
                }
                | State::Quiescing {
                    stopped: false,
                    overlap: true,
                },
                Step::Pass { number, kind },
            ) => ready && number == next_pass && kind == PassKind::Live,
            (State::FinalPass(_), Step::Pass { number, kind }) => {
                ready && number == next_pass && kind == PassKind::Final
            }
            (State::RollingBack { remaining, .. }, step) => remaining.first() == Some(&step),
            _ => false,
        };
        if fits {
            Ok(())
        } else {
            Err("the step does not belong here")
        }
    }

    fn check_decision(&self, decision: &Decision) -> Result<(), &'static str> {
        let idle = self.history.open.is_empty();
        match decision {
            Decision::Switch { .. } => must(
                matches!(
                    self.state,
                    State::Precopy {
                        fresh: true,
                        switching: false
                    }
                ) && idle,
                "a switch follows a complete live pass",
            ),
            Decision::Refuse { .. } => must(
                matches!(
                    self.state,
                    State::Planned | State::Preparing { checked: false }
                ) && idle,
                "something was changed already",
            ),
            Decision::AnotherRound => must(
                matches!(
                    self.state,
                    State::FinalPass(Round { retried: false, .. })
                        | State::Verifying {
                            round: Round { retried: false, .. },
                            proven: None,
                        }
                ) && idle
                    && self.history.trouble.is_some(),
                "a failed final pass is tried again once",
            ),
            Decision::RollBack { .. } => {
                must(
                    !self.is_past_return(),
                    "the workload may have written to the destination",
                )?;
                must(
                    !matches!(self.state, State::RollingBack { .. }),
                    "it rolls back already",
                )
            }
            Decision::Halt { .. } => Ok(()),
            Decision::Interrupt => must(
                self.state.is_before_quiesce() && idle,
                "only what has not stopped the workload can be left alone",
            ),
        }
    }

    fn doubts(&self, step: Step) -> bool {
        self.history
            .doubt
            .iter()
            .any(|intended| intended.step == step)
    }
}

/// `Ok` if it holds, else why not.
fn must(holds: bool, why: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(why) }
}
