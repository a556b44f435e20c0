//! A migration whose events are told one by one.

use std::time::Duration;

use super::{
    super::{Machine, Next},
    explore::{after, planned, success},
};
use crate::{record::Event, result::StepFailure, spec::Options, step::Step, time::Timestamp};

/// A migration that is led by hand.
pub(super) struct Story {
    /// Where it stands.
    pub(super) machine: Machine,
    /// The time of the last event.
    pub(super) now: Timestamp,
}

impl Story {
    /// One that is planned.
    pub(super) fn new() -> Self {
        let first = planned(Options::default());
        Self {
            now: first.at,
            machine: Machine::replay(&[first]).unwrap(),
        }
    }

    /// Lets everything succeed up to, but without, the intent of `step`.
    pub(super) fn up_to(step: &str) -> Self {
        Self::with_passes_of(Duration::ZERO, step)
    }

    /// The same, with passes that take that much longer than anything else.
    pub(super) fn with_passes_of(longer: Duration, step: &str) -> Self {
        let mut story = Self::new();
        for _ in 0..100 {
            match story.next() {
                Next::Perform(next) if next.word() == step => return story,
                Next::Perform(next) => {
                    story.tell(Event::Intent { step: next });
                    if matches!(next, Step::Pass { .. }) {
                        story.now = story.now.after(longer);
                    }
                    story.done(next);
                }
                Next::Record(event) => story.tell(event),
                next => panic!("{next:?} before {step}"),
            }
        }
        panic!("never came to {step}");
    }

    /// What the machine would do now.
    pub(super) fn next(&self) -> Next {
        self.machine.next(self.now)
    }

    /// Lets an event happen.
    pub(super) fn tell(&mut self, event: Event) {
        self.now = self.now.after(Duration::from_millis(100));
        self.machine = after(&self.machine, self.now, event);
    }

    /// Lets the machine begin what it would; the step.
    pub(super) fn intend(&mut self) -> Step {
        let Next::Perform(step) = self.next() else {
            panic!("{:?}", self.next());
        };
        self.tell(Event::Intent { step });
        step
    }

    /// Lets the step succeed.
    pub(super) fn done(&mut self, step: Step) {
        self.tell(Event::Outcome {
            step,
            outcome: success(step),
        });
    }

    /// Lets the step fail.
    pub(super) fn fail(&mut self, step: Step, failure: StepFailure) {
        self.tell(Event::Failure { step, failure });
    }
}
