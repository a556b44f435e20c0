//! The machine: from the journal to what happens next.
//!
//! [`Machine::replay`] turns the records of a journal into a state and refuses a history that
//! could not have happened. [`Machine::next`] says what to do; whatever that brings is appended
//! as a record and [applied](Machine::apply). The machine performs nothing and reads no clock, so
//! a journal and a time always give the same answer.
//!
//! # Rules
//!
//! * Before COMMIT every failure rolls back; the workload runs on the source as before.
//! * COMMIT is recorded once both ends are proven equal while the proof of no writers stands.
//! * After COMMIT the machine goes forward. It rolls back only when the swap is blocked for good
//!   or a person asks for it.
//! * **The point of no return is the durable intent to unquiesce.** From there the workload may
//!   have written to the destination, and no rollback is legal, whoever asks.
//! * A coordinator that takes over has not watched for writers, so it makes the proof anew:
//!   fence, final pass and verification start over in a new [`Round`](state::Round).
//!
//! # Transitions
//!
//! What leads from phase to phase. A test walks every reachable state, renders this table and
//! compares.
//!
//! <!-- transitions -->
//! | From | To | By |
//! |---|---|---|
//! | `Planned` | `Preparing` | intent of check |
//! | `Planned` | `RolledBack` | decision roll back |
//! | `Preparing` | `Planned` | decision refuse |
//! | `Preparing` | `Precopy` | outcome of start movers |
//! | `Preparing` | `RollingBack` | decision roll back |
//! | `Preparing` | `RolledBack` | decision roll back |
//! | `Precopy` | `Quiescing` | intent of quiesce |
//! | `Precopy` | `RollingBack` | decision roll back |
//! | `Quiescing` | `Fencing` | adopted, failure of live pass, outcome of live pass, outcome of quiesce, probe of quiesce |
//! | `Quiescing` | `RollingBack` | decision roll back |
//! | `Quiescing` | `Halted` | decision halt |
//! | `Fencing` | `FinalPass` | outcome of fence |
//! | `Fencing` | `RollingBack` | decision roll back |
//! | `Fencing` | `Halted` | decision halt |
//! | `FinalPass` | `Fencing` | adopted |
//! | `FinalPass` | `Verifying` | outcome of final pass |
//! | `FinalPass` | `RollingBack` | decision roll back |
//! | `FinalPass` | `Halted` | decision halt |
//! | `Verifying` | `Fencing` | adopted |
//! | `Verifying` | `FinalPass` | decision another round |
//! | `Verifying` | `Swapping` | commit |
//! | `Verifying` | `RollingBack` | decision roll back |
//! | `Verifying` | `Halted` | decision halt |
//! | `Swapping` | `Unquiescing` | outcome of swap, probe of swap |
//! | `Swapping` | `RollingBack` | decision roll back |
//! | `Swapping` | `Halted` | decision halt |
//! | `Unquiescing` | `Settling` | outcome of unquiesce, probe of unquiesce |
//! | `Unquiescing` | `RollingBack` | decision roll back |
//! | `Unquiescing` | `Halted` | decision halt |
//! | `Settling` | `Completed` | outcome of settle, probe of settle |
//! | `Settling` | `Halted` | decision halt |
//! | `RollingBack` | `RolledBack` | outcome of stop movers, probe of stop movers |
//! | `RollingBack` | `Halted` | decision halt |
//! | `Halted` | `Quiescing` | adopted |
//! | `Halted` | `Fencing` | adopted |
//! | `Halted` | `Swapping` | adopted |
//! | `Halted` | `Unquiescing` | adopted |
//! | `Halted` | `Settling` | adopted |
//! | `Halted` | `RollingBack` | adopted |
//! <!-- end of transitions -->
//!
//! Everything else either stays in its phase or is refused.

mod apply;
mod budget;
mod check;
mod history;
mod next;
mod reaction;
mod request;
pub mod state;
mod whereabouts;

pub use check::Illegal;
pub use next::{Next, Question};
pub use request::RequestRefusal;
pub use whereabouts::Whereabouts;

use livmig_proto::ids::Epoch;

use self::{history::MachineHistory, state::State};
use crate::{
    convergence::{Assessment, Assumptions, PassCost, Prediction, assess},
    outcome::Outcome,
    phase::Phase,
    record::{Event, Record, SCHEMA},
    spec::MigrationSpec,
    step::Step,
    time::Timestamp,
};

/// A migration's state as its journal tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    spec: MigrationSpec,
    assumptions: Assumptions,
    history: MachineHistory,
    state: State,
}

impl Machine {
    /// The state after `records`.
    ///
    /// # Errors
    /// When the records cannot be the history of a migration.
    pub fn replay(records: &[Record]) -> Result<Self, Illegal> {
        let Some((first, rest)) = records.split_first() else {
            return Err(Illegal::empty());
        };
        let mut machine = Self::planned(first)?;
        for record in rest {
            machine.apply(record)?;
        }
        Ok(machine)
    }

    /// The state after the first record.
    fn planned(record: &Record) -> Result<Self, Illegal> {
        let Event::Planned { spec } = &record.event else {
            return Err(Illegal::new(record, "a journal starts with the plan"));
        };
        if record.seq != 0 {
            return Err(Illegal::new(record, "a journal starts with record 0"));
        }
        if record.schema > SCHEMA {
            return Err(Illegal::new(record, "it is of a newer schema"));
        }
        Ok(Self {
            spec: (**spec).clone(),
            assumptions: Assumptions::default(),
            history: MachineHistory {
                next_seq: 1,
                epoch: record.epoch,
                last_at: record.at,
                ..MachineHistory::default()
            },
            state: State::Planned,
        })
    }

    /// The record that says `event`, to be appended and then [applied](Self::apply).
    pub fn record(&self, event: Event, now: Timestamp) -> Record {
        let epoch = match event {
            Event::Adopted => self.history.epoch.next(),
            _ => self.history.epoch,
        };
        Record {
            schema: SCHEMA,
            seq: self.history.next_seq,
            epoch,
            // Within one coordinator time only advances; an earlier one's clock may have been
            // ahead, and a journal that runs backwards would confuse whoever reads it.
            at: now.max(self.history.last_at),
            event,
        }
    }

    /// What was asked for.
    pub fn spec(&self) -> &MigrationSpec {
        &self.spec
    }

    /// The epoch of the coordinator in charge.
    pub fn epoch(&self) -> Epoch {
        self.history.epoch
    }

    /// When the last record was written.
    pub fn last_at(&self) -> Timestamp {
        self.history.last_at
    }

    /// The state.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The phase people see.
    pub fn phase(&self) -> Phase {
        self.state.phase(self.history.shown_pass())
    }

    /// The steps under way; none at rest, when nobody performs anything.
    pub fn under_way(&self) -> Vec<Step> {
        if self.state.is_at_rest() {
            return Vec::new();
        }
        self.history
            .open
            .iter()
            .map(|intended| intended.step)
            .collect()
    }

    /// The steps of an earlier coordinator of which nobody knows whether they were done.
    pub fn in_doubt(&self) -> Vec<Step> {
        self.history
            .doubt
            .iter()
            .map(|intended| intended.step)
            .collect()
    }

    /// What the check found that people should know.
    pub fn warnings(&self) -> &[String] {
        &self.history.warnings
    }

    /// Every pass that ended with a report, in order.
    pub fn passes(&self) -> &[PassCost] {
        &self.history.passes
    }

    /// The state of convergence; none while no live pass was complete.
    pub fn assessment(&self) -> Option<Assessment> {
        assess(self.live_passes(), &self.spec.options, &self.assumptions)
    }

    /// The prediction the switch was decided on; before it, the current one.
    pub fn prediction(&self) -> Option<Prediction> {
        match &self.history.switched_on {
            Some(prediction) => Some(prediction.clone()),
            None => self.assessment().map(|assessment| assessment.prediction),
        }
    }

    /// The last failure, while its step has not succeeded since.
    pub fn trouble(&self) -> Option<String> {
        self.history
            .trouble
            .as_ref()
            .map(|trouble| format!("{} failed: {}", trouble.step, trouble.failure))
    }

    /// When the workload was asked to stop, and when it was ready again.
    pub fn downtime(&self) -> Option<DowntimeSpan> {
        self.history.down_at.map(|began| DowntimeSpan {
            began,
            ended: self.history.up_at,
        })
    }

    /// Whether the intent to start the workload on the destination is durable.
    pub fn is_past_return(&self) -> bool {
        self.history.intended.unquiesce
    }

    /// How it ended, when it is at rest.
    pub fn outcome(&self) -> Option<Outcome> {
        match &self.state {
            State::Completed => Some(Outcome::Completed),
            State::RolledBack { cause } => {
                let cause = cause.clone();
                Some(if self.history.intended.quiesce {
                    Outcome::RolledBack { cause }
                } else {
                    Outcome::Failed { cause }
                })
            }
            State::Refused { failure } => Some(Outcome::Refused {
                failure: failure.clone(),
            }),
            State::Halted { step, failure, .. } => Some(Outcome::Halted {
                step: *step,
                failure: failure.clone(),
            }),
            State::Interrupted { .. } => Some(Outcome::Interrupted),
            _ => None,
        }
    }

    /// The passes up to the final one.
    fn live_passes(&self) -> &[PassCost] {
        let passes = &self.history.passes;
        let live = passes
            .iter()
            .position(|pass| pass.kind == livmig_proto::control::PassKind::Final)
            .unwrap_or(passes.len());
        passes.get(..live).unwrap_or_default()
    }
}

/// The time in which the workload did not serve.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DowntimeSpan {
    /// When it was asked to stop.
    pub began: Timestamp,
    /// When it was ready again; none while it is down.
    pub ended: Option<Timestamp>,
}

#[cfg(test)]
pub(crate) mod tests;
