//! Faults, scripted: which step, which time, what happens.

use std::collections::BTreeMap;

use livmig_engine::{
    result::{FailureKind, StepFailure},
    step::Step,
};

/// One fault.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    /// The kind of step it strikes, as [`Step::word`] says.
    pub(crate) step: &'static str,
    /// Which performance of that kind, counted from 0; counted over all coordinators.
    pub(crate) occurrence: u32,
    /// How many performances in a row it strikes.
    pub(crate) times: u32,
    /// What happens.
    pub(crate) effect: Effect,
}

/// What a fault does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Effect {
    /// The coordinator dies after the intent, before the step has done anything.
    CrashBefore,
    /// The coordinator dies after the step was done, before its outcome is stored.
    CrashAfter,
    /// The step does nothing and fails.
    FailBefore(FailureKind),
    /// The step does everything and fails nevertheless.
    FailAfter(FailureKind),
    /// The step is done twice.
    Twice,
    /// The step never ends.
    Hang,
    /// The step does nothing and says it is done.
    Lie,
}

/// The faults to come.
#[derive(Debug)]
pub(super) struct Script {
    faults: Vec<Fault>,
    performed: BTreeMap<&'static str, u32>,
    crashed: bool,
}

impl Script {
    pub(super) fn new(faults: Vec<Fault>) -> Self {
        Self {
            faults,
            performed: BTreeMap::new(),
            crashed: false,
        }
    }

    /// The effect on this performance of `step`.
    pub(super) fn strike(&mut self, step: Step) -> Option<Effect> {
        let word = step.word();
        let count = self.performed.entry(word).or_default();
        let occurrence = *count;
        *count += 1;
        self.faults
            .iter()
            .find(|fault| {
                fault.step == word
                    && (fault.occurrence..fault.occurrence.saturating_add(fault.times))
                        .contains(&occurrence)
            })
            .map(|fault| fault.effect)
    }

    pub(super) fn crash(&mut self) {
        self.crashed = true;
    }

    pub(super) fn is_crashed(&self) -> bool {
        self.crashed
    }

    pub(super) fn revive(&mut self) {
        self.crashed = false;
    }
}

pub(super) fn failure(step: Step, kind: FailureKind) -> StepFailure {
    let message = format!("{step} was made to fail");
    match kind {
        FailureKind::Transient => StepFailure::transient(message),
        FailureKind::Permanent => StepFailure::permanent(message),
        FailureKind::Undecided => StepFailure::undecided(message),
    }
}
