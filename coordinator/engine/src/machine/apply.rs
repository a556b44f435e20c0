//! What a record does to the machine.

use livmig_proto::control::FaultCode;

use super::{
    Machine,
    check::Illegal,
    history::Wishes,
    state::{ProvenVolumes, Round, State},
};
use crate::{
    convergence::combine,
    left_out::unaccepted,
    record::{Cause, Decision, Event, Record},
    request::Request,
    result::{FailureKind, Probe, StepFailure, StepOutcome, pass_failure},
    step::{Redo, Step},
    time::Timestamp,
};

impl Machine {
    /// Takes `record` into account.
    ///
    /// # Errors
    /// When it cannot follow; the machine is then as before.
    pub fn apply(&mut self, record: &Record) -> Result<(), Illegal> {
        self.check(record)
            .map_err(|why| Illegal::new(record, why))?;
        self.history.next_seq = record.seq.saturating_add(1);
        self.history.epoch = record.epoch;
        self.history.last_at = self.history.last_at.max(record.at);
        let at = record.at;
        match &record.event {
            Event::Planned { .. } => {}
            Event::Adopted => self.adopt(),
            Event::Intent { step } => self.intend(*step, at),
            Event::Outcome { step, outcome } => {
                let began = self.close(*step).unwrap_or(at);
                self.succeed(*step, outcome, began, at);
            }
            Event::Failure { step, failure } => {
                self.close(*step);
                self.fail(*step, failure.clone(), at);
            }
            Event::Probed { step, found } => {
                let began = self.settle_doubt(*step).unwrap_or(at);
                if let Probe::Done { outcome } = found {
                    self.succeed(*step, outcome, began, at);
                }
            }
            Event::Abandoned { step } => {
                self.close(*step);
            }
            Event::Requested { request } => self.wish(*request),
            Event::Decided { decision } => self.decide(decision.clone()),
            Event::Commit { .. } => self.state = State::Swapping,
        }
        Ok(())
    }

    /// Ends the step's being under way or in doubt; says when it was intended.
    fn close(&mut self, step: Step) -> Option<Timestamp> {
        let index = self
            .history
            .open
            .iter()
            .position(|intended| intended.step == step)?;
        Some(self.history.open.remove(index).at)
    }

    fn settle_doubt(&mut self, step: Step) -> Option<Timestamp> {
        let index = self
            .history
            .doubt
            .iter()
            .position(|intended| intended.step == step)?;
        Some(self.history.doubt.remove(index).at)
    }

    /// Another coordinator takes over: nothing it has not seen itself still counts.
    fn adopt(&mut self) {
        if let State::Halted { at, .. } | State::Interrupted { at } = &self.state {
            self.state = if self.is_way_back_closed() {
                State::Swapping
            } else {
                (**at).clone()
            };
        }
        let open = std::mem::take(&mut self.history.open);
        self.history.doubt.extend(
            open.into_iter()
                .filter(|intended| intended.step.redo() == Redo::Probe),
        );
        self.history.movers_ready = false;
        // Somebody may have mended the source; a pass comes first in any case.
        self.history.unaccepted.clear();
        self.history.failures.clear();
        self.history.trouble = None;
        self.history.wishes.interrupt = false;
        self.state = match std::mem::replace(&mut self.state, State::Planned) {
            State::Precopy { .. } => {
                // What was predicted is out of date, a decided switch with it.
                self.history.switched_on = None;
                PRECOPY
            }
            State::Quiescing { stopped: false, .. } => {
                // A live pass of before is not worth a probe inside the downtime.
                self.history
                    .doubt
                    .retain(|intended| intended.step == Step::Quiesce);
                QUIESCING
            }
            State::Quiescing { stopped: true, .. } => {
                self.history.doubt.clear();
                State::Fencing(Round::default())
            }
            State::Fencing(round) | State::FinalPass(round) | State::Verifying { round, .. } => {
                State::Fencing(Round {
                    number: round.number.saturating_add(1),
                    retried: false,
                })
            }
            State::RollingBack { cause, remaining } => {
                self.history
                    .doubt
                    .retain(|intended| remaining.contains(&intended.step));
                State::RollingBack { cause, remaining }
            }
            other => other,
        };
    }

    /// Whether the way back from COMMIT ended at its first step because it might lose what was written
    /// on the destination since. Everything is there: whoever resumes goes forward.
    fn is_way_back_closed(&self) -> bool {
        let State::Halted { step, failure, at } = &self.state else {
            return false;
        };
        let is_first = matches!(&**at, State::RollingBack { remaining, .. }
            if remaining.first() == Some(&Step::Unswap));
        *step == Step::Unswap && is_first && failure.kind == FailureKind::Undecided
    }

    fn intend(&mut self, step: Step, at: Timestamp) {
        self.history.note_intent(step, at);
        match (&self.state, step) {
            (State::Planned, _) => self.state = State::Preparing { checked: false },
            (State::Precopy { .. }, Step::Quiesce) => self.state = QUIESCING,
            _ => {}
        }
    }

    fn succeed(&mut self, step: Step, outcome: &StepOutcome, began: Timestamp, at: Timestamp) {
        if let Some(failure) = self.take_reports(outcome, began, at) {
            return self.fail(step, failure, at);
        }
        if let StepOutcome::Verified { volumes, .. } = outcome
            && let Some(unequal) = volumes.iter().find(|volume| !volume.equal())
        {
            let mut failure = StepFailure::transient(format!(
                "{} is not proven equal: the source has digest {:?}, the destination {:?}",
                unequal.volume, unequal.digest_source, unequal.digest_destination
            ));
            failure.code = Some(FaultCode::Mismatch);
            return self.fail(step, failure, at);
        }
        if let StepOutcome::Checked { warnings } = outcome {
            self.history.warnings.clone_from(warnings);
        }
        self.history.note_success(step);
        self.advance(step, outcome, at);
    }

    /// The state after a step that succeeded.
    fn advance(&mut self, step: Step, outcome: &StepOutcome, at: Timestamp) {
        let passing = self.history.open_pass().is_some();
        self.state = match (std::mem::replace(&mut self.state, State::Planned), step) {
            (State::Preparing { .. }, Step::Check) => State::Preparing { checked: true },
            (State::Preparing { .. }, Step::StartMovers) => {
                self.history.movers_ready = true;
                PRECOPY
            }
            (state, Step::StartMovers) => {
                self.history.movers_ready = true;
                state
            }
            (State::Precopy { fresh, switching }, Step::Pass { .. }) => State::Precopy {
                switching,
                // A pass that was stopped on request is no failure and proves nothing.
                fresh: self
                    .history
                    .passes
                    .last()
                    .map_or(fresh, |pass| pass.complete),
            },
            (State::Quiescing { overlap, .. }, Step::Quiesce) if passing => State::Quiescing {
                stopped: true,
                overlap,
            },
            (State::Quiescing { .. }, Step::Quiesce)
            | (State::Quiescing { stopped: true, .. }, Step::Pass { .. }) => {
                State::Fencing(Round::default())
            }
            (State::Fencing(round), Step::Fence) => State::FinalPass(round),
            (State::FinalPass(round), Step::Pass { .. }) => State::Verifying {
                round,
                proven: None,
            },
            (State::Verifying { round, .. }, Step::Verify) => State::Verifying {
                round,
                proven: match outcome {
                    StepOutcome::Verified { volumes, proof } => Some(ProvenVolumes {
                        volumes: volumes.clone(),
                        proof: proof.clone(),
                    }),
                    _ => None,
                },
            },
            (State::Swapping, Step::Swap) => State::Unquiescing,
            (State::Unquiescing, Step::Unquiesce) => {
                self.history.up_at = Some(at);
                State::Settling
            }
            (State::Settling, Step::Settle) => State::Completed,
            (
                State::RollingBack {
                    cause,
                    mut remaining,
                },
                step,
            ) => {
                if step == Step::Restart {
                    self.history.up_at = Some(at);
                }
                remaining.retain(|left| *left != step);
                undone(cause, remaining)
            }
            (state, _) => state,
        };
    }

    /// Notes the reports of a pass; says why it did not do what it was for, unless somebody asked
    /// it to stop or the workload is going down anyway.
    fn take_reports(
        &mut self,
        outcome: &StepOutcome,
        began: Timestamp,
        at: Timestamp,
    ) -> Option<StepFailure> {
        let StepOutcome::Passed { reports } = outcome else {
            return None;
        };
        self.history.passes.extend(combine(reports, began, at));
        // One that did not visit everything may have missed what the one before it reported, and
        // what one beside the stop saw may be gone with the workload: the final pass looks again.
        let decides = !matches!(self.state, State::Quiescing { .. });
        if decides && reports.iter().all(|volume| volume.report.complete) {
            self.history.unaccepted = unaccepted(reports, &self.spec.options.leave_out);
        }
        pass_failure(reports).filter(|failure| {
            failure.code != Some(FaultCode::Stopped) || matches!(self.state, State::FinalPass(_))
        })
    }

    fn fail(&mut self, step: Step, failure: StepFailure, at: Timestamp) {
        match (&self.state, step) {
            // The final pass repairs what a pass beside the stop did not do.
            (State::Quiescing { stopped, .. }, Step::Pass { .. }) => {
                self.history.movers_ready = false;
                self.state = if *stopped {
                    State::Fencing(Round::default())
                } else {
                    State::Quiescing {
                        stopped: false,
                        overlap: false,
                    }
                };
            }
            _ => self.history.note_failure(step, failure, at),
        }
    }

    fn wish(&mut self, request: Request) {
        let wishes = &mut self.history.wishes;
        match request {
            Request::Switch => wishes.switch = true,
            Request::Proceed => wishes.accept = true,
            Request::KeepPassing => wishes.keep_passing = true,
            Request::Interrupt => wishes.interrupt = true,
            // A rollback is a decision, not a wish.
            Request::RollBack => {}
        }
    }

    fn decide(&mut self, decision: Decision) {
        match decision {
            Decision::Switch { prediction } => {
                self.forget_trouble();
                self.history.switched_on = Some(*prediction);
                self.state = State::Precopy {
                    fresh: true,
                    switching: true,
                };
            }
            Decision::Refuse { failure } => self.state = State::Refused { failure },
            Decision::AnotherRound => {
                self.forget_trouble();
                if let State::FinalPass(round) | State::Verifying { round, .. } = self.state {
                    self.state = State::FinalPass(Round {
                        number: round.number.saturating_add(1),
                        retried: true,
                    });
                }
            }
            Decision::RollBack { cause } => {
                self.forget_trouble();
                self.history.doubt.clear();
                self.history.wishes = Wishes::default();
                self.state = undone(cause, self.history.undos());
            }
            Decision::Halt { step, failure } => {
                let at = Box::new(std::mem::replace(&mut self.state, State::Planned));
                self.state = State::Halted { step, failure, at };
            }
            Decision::Interrupt => {
                self.history.wishes.interrupt = false;
                let at = Box::new(std::mem::replace(&mut self.state, State::Planned));
                self.state = State::Interrupted { at };
            }
        }
    }

    fn forget_trouble(&mut self) {
        self.history.trouble = None;
        self.history.failures.clear();
    }
}

/// The live phase before this coordinator has seen a pass.
const PRECOPY: State = State::Precopy {
    fresh: false,
    switching: false,
};

/// The beginning of the downtime.
const QUIESCING: State = State::Quiescing {
    stopped: false,
    overlap: true,
};

/// Rolling back while something remains, rolled back when nothing does.
fn undone(cause: Cause, remaining: Vec<Step>) -> State {
    if remaining.is_empty() {
        State::RolledBack { cause }
    } else {
        State::RollingBack { cause, remaining }
    }
}

impl StepFailure {
    /// Whether trying again is worth it.
    pub(super) fn is_transient(&self) -> bool {
        self.kind == FailureKind::Transient
    }
}
