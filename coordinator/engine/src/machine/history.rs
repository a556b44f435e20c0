//! What the machine remembers across its states.

use std::collections::BTreeMap;

use livmig_proto::{
    control::Reason,
    ids::{Epoch, PassNumber},
};

use crate::{
    convergence::{PassCost, Prediction},
    record::Event,
    result::StepFailure,
    step::Step,
    time::Timestamp,
};

/// Facts of the whole run so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct MachineHistory {
    /// The number of the next record.
    pub(super) next_seq: u64,
    /// The coordinator in charge.
    pub(super) epoch: Epoch,
    /// When the last record was written.
    pub(super) last_at: Timestamp,
    /// Steps under way.
    pub(super) open: Vec<Intended>,
    /// Steps an earlier coordinator intended, of which nobody knows whether they were done.
    pub(super) doubt: Vec<Intended>,
    /// What the check found that people should know.
    pub(super) warnings: Vec<String>,
    /// Every pass that ended with a report.
    pub(super) passes: Vec<PassCost>,
    /// What the last complete pass left out that is grave and that nobody consented to.
    pub(super) unaccepted: BTreeMap<Reason, u64>,
    /// The highest pass number used.
    pub(super) last_pass: Option<PassNumber>,
    /// Which kinds of step were ever intended; a rollback undoes these.
    pub(super) intended: TouchedWorkload,
    /// Whether movers run and obey this coordinator.
    pub(super) movers_ready: bool,
    /// Failures in a row, by kind of step.
    pub(super) failures: BTreeMap<&'static str, u32>,
    /// The last failure, while its step has not succeeded since.
    pub(super) trouble: Option<StepTrouble>,
    /// What a person asked for.
    pub(super) wishes: Wishes,
    /// The prediction the switch was decided on.
    pub(super) switched_on: Option<Prediction>,
    /// When the workload was first asked to stop.
    pub(super) down_at: Option<Timestamp>,
    /// When it was ready again.
    pub(super) up_at: Option<Timestamp>,
}

/// A step with a durable intent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Intended {
    pub(super) step: Step,
    pub(super) at: Timestamp,
}

/// A failure that awaits a reaction.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct StepTrouble {
    pub(super) step: Step,
    pub(super) failure: StepFailure,
    pub(super) at: Timestamp,
    /// When the first of these failures in a row came.
    pub(super) since: Timestamp,
}

/// The steps with effects that a rollback must undo.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
// Five independent facts, not a hidden enumeration: each says that one intent is durable.
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub(super) struct TouchedWorkload {
    pub(super) movers: bool,
    pub(super) quiesce: bool,
    pub(super) fence: bool,
    pub(super) swap: bool,
    pub(super) unquiesce: bool,
}

/// What a person asked for and has not got yet.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "independent wishes")]
pub(super) struct Wishes {
    pub(super) switch: bool,
    pub(super) accept: bool,
    pub(super) keep_passing: bool,
    pub(super) interrupt: bool,
}

impl MachineHistory {
    pub(super) fn is_open(&self, step: Step) -> bool {
        self.open.iter().any(|intended| intended.step == step)
    }

    /// The pass under way.
    pub(super) fn open_pass(&self) -> Option<PassNumber> {
        self.open.iter().find_map(|intended| match intended.step {
            Step::Pass { number, .. } => Some(number),
            _ => None,
        })
    }

    pub(super) fn next_pass(&self) -> PassNumber {
        self.last_pass.map_or(PassNumber::FIRST, PassNumber::next)
    }

    /// The number people see beside "Precopy".
    pub(super) fn shown_pass(&self) -> PassNumber {
        self.last_pass.unwrap_or(PassNumber::FIRST)
    }

    pub(super) fn failures_of(&self, step: Step) -> u32 {
        self.failures.get(step.word()).copied().unwrap_or_default()
    }

    pub(super) fn note_intent(&mut self, step: Step, at: Timestamp) {
        self.open.push(Intended { step, at });
        match step {
            Step::StartMovers => self.intended.movers = true,
            Step::Pass { number, .. } => self.last_pass = Some(number),
            Step::Quiesce => {
                self.intended.quiesce = true;
                self.down_at = self.down_at.or(Some(at));
            }
            Step::Fence => self.intended.fence = true,
            Step::Swap => self.intended.swap = true,
            Step::Unquiesce => self.intended.unquiesce = true,
            Step::Check
            | Step::Verify
            | Step::Settle
            | Step::Unswap
            | Step::Unfence
            | Step::Restart
            | Step::StopMovers => {}
        }
    }

    pub(super) fn note_success(&mut self, step: Step) {
        self.failures.remove(step.word());
        if self
            .trouble
            .as_ref()
            .is_some_and(|trouble| trouble.step.word() == step.word())
        {
            self.trouble = None;
        }
    }

    pub(super) fn note_failure(&mut self, step: Step, failure: StepFailure, at: Timestamp) {
        let count = self.failures.entry(step.word()).or_default();
        *count = count.saturating_add(1);
        if matches!(step, Step::StartMovers | Step::Pass { .. } | Step::Verify) {
            // The likeliest cause is a mover that is gone; ensuring them again costs little.
            self.movers_ready = false;
        }
        let since = self
            .trouble
            .as_ref()
            .filter(|trouble| trouble.step.word() == step.word())
            .map_or(at, |trouble| trouble.since);
        self.trouble = Some(StepTrouble {
            step,
            failure,
            at,
            since,
        });
    }

    /// Steps that undo everything intended so far, in order: what the workload needs comes
    /// before what only tidies up.
    pub(super) fn undos(&self) -> Vec<Step> {
        let touched = self.intended;
        [
            (touched.swap, Step::Unswap),
            (touched.fence, Step::Unfence),
            (touched.quiesce, Step::Restart),
            (touched.movers, Step::StopMovers),
        ]
        .into_iter()
        .filter_map(|(was, undo)| was.then_some(undo))
        .collect()
    }
}

/// The word for an event in error messages and in the transition table.
pub(super) fn word(event: &Event) -> String {
    match event {
        Event::Planned { .. } => "planned".to_owned(),
        Event::Adopted => "adopted".to_owned(),
        Event::Intent { step } => format!("intent of {}", step.word()),
        Event::Outcome { step, .. } => format!("outcome of {}", step.word()),
        Event::Failure { step, .. } => format!("failure of {}", step.word()),
        Event::Probed { step, .. } => format!("probe of {}", step.word()),
        Event::Abandoned { step } => format!("abandoned {}", step.word()),
        Event::Requested { request } => format!("request {request:?}"),
        Event::Decided { decision } => format!("decision {}", decision.word()),
        Event::Commit { .. } => "commit".to_owned(),
    }
}
