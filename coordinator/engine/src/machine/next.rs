//! What to do next.

use std::time::Duration;

use livmig_proto::{control::PassKind, ids::PassNumber};

use super::{Machine, reaction::Reaction, state::State};
use crate::{
    convergence::{PassCost, Prediction, Verdict, is_early},
    outcome::Outcome,
    record::{Cause, Decision, Event},
    spec::{OnOverrun, SwitchMode},
    step::Step,
    time::Timestamp,
};

/// The machine's answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Record the step's intent, then perform it; others may be under way.
    Perform(Step),
    /// Ask the platform whether this step was done, and record the answer.
    Probe(Step),
    /// Append this event.
    Record(Event),
    /// Cut this step off, then record that.
    Abandon(Step),
    /// Wait until a step under way ends, a person asks for something, or `until` has come.
    Await {
        /// A pass under way that is to be asked to stop, once.
        stop: Option<PassNumber>,
        /// When to ask again.
        until: Option<Timestamp>,
    },
    /// Wait for a person's answer.
    Ask(Question),
    /// Nothing is left to do.
    Finished(Outcome),
}

/// What a person is asked: the budget cannot be met.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// The downtime to expect.
    pub prediction: Prediction,
    /// The downtime asked for.
    pub budget: Duration,
}

/// A stop that takes longer than this, and than two passes, is used for live passes. A quicker one
/// is over before a pass could help: on a small node the pass only takes the processors from what is
/// stopping (measured on two: 0.2 to 0.4 s of a second), and has to be stopped itself.
const OVERLAP_AFTER: Duration = Duration::from_secs(2);

/// The shortest pause between live passes beside a stop.
const OVERLAP_PAUSE: Duration = Duration::from_secs(1);

/// Bounds of the pause between passes that only keep the destination close.
const SHORTEST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// How old the last pass may be at a switch, at least.
const FRESH: Duration = Duration::from_secs(1);

impl Machine {
    /// What to do at `now`.
    pub fn next(&self, now: Timestamp) -> Next {
        if let Some(outcome) = self.outcome() {
            return Next::Finished(outcome);
        }
        if let Some(decision) = self.overdue(now) {
            return record(decision);
        }
        if self.history.wishes.interrupt {
            return self.interrupt();
        }
        if let (State::RollingBack { .. }, Some(open)) =
            (&self.state, self.history.open.first())
            // The undo that is under way is itself open.
            && !self.is_undoing(open.step)
        {
            return Next::Abandon(open.step);
        }
        if let Some(decision) = self.unacceptable() {
            return record(decision);
        }
        match self.reaction() {
            Some(Reaction::Decide(decision)) => return record(decision),
            Some(Reaction::Retry(at)) if now < at => {
                return Next::Await {
                    stop: None,
                    until: Some(self.limit().map_or(at, |limit| at.min(limit))),
                };
            }
            Some(Reaction::Retry(_)) | None => {}
        }
        match self.history.doubt.first() {
            Some(doubt) => Next::Probe(doubt.step),
            None => self.next_in_state(now),
        }
    }

    fn next_in_state(&self, now: Timestamp) -> Next {
        let idle = self.history.open.is_empty();
        match &self.state {
            State::Quiescing { .. } => self.quiescing(now),
            State::Verifying {
                proven: Some(proven),
                ..
            } => Next::Record(Event::Commit {
                volumes: proven.volumes.clone(),
                proof: proven.proof.clone(),
            }),
            _ if !idle => Next::Await {
                stop: None,
                until: self.limit(),
            },
            State::Planned | State::Preparing { checked: false } => Next::Perform(Step::Check),
            State::Preparing { checked: true } => Next::Perform(Step::StartMovers),
            State::Precopy { .. } | State::FinalPass(_) if !self.history.movers_ready => {
                Next::Perform(Step::StartMovers)
            }
            State::Precopy {
                switching: true, ..
            } => Next::Perform(Step::Quiesce),
            State::Precopy { fresh, .. } => self.precopy(*fresh, now),
            State::Fencing(_) => Next::Perform(Step::Fence),
            State::FinalPass(_) => Next::Perform(Step::last(self.history.next_pass())),
            State::Verifying { .. } => Next::Perform(Step::Verify),
            State::Swapping => Next::Perform(Step::Swap),
            State::Unquiescing => Next::Perform(Step::Unquiesce),
            State::Settling => Next::Perform(Step::Settle),
            State::RollingBack { remaining, .. } => match remaining.first() {
                Some(step) => Next::Perform(*step),
                // Never built so; waiting is the answer that harms nothing.
                None => AWAIT,
            },
            State::Completed
            | State::RolledBack { .. }
            | State::Refused { .. }
            | State::Halted { .. }
            | State::Interrupted { .. } => AWAIT,
        }
    }

    fn is_undoing(&self, step: Step) -> bool {
        matches!(&self.state, State::RollingBack { remaining, .. } if remaining.first() == Some(&step))
    }

    /// The rollback that an exhausted budget demands. What is proven already is committed: going
    /// forward takes no longer than going back.
    fn overdue(&self, now: Timestamp) -> Option<Decision> {
        let limit = self.limit()?;
        if matches!(
            self.state,
            State::Verifying {
                proven: Some(_),
                ..
            }
        ) || now < limit
        {
            return None;
        }
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Some(Decision::RollBack {
            cause: Cause::Late {
                elapsed_ms: millis(now.since(self.history.down_at?)),
                budget_ms: millis(self.budget()),
            },
        })
    }

    /// The end of a migration whose last complete pass left out something that nobody had said may
    /// be. Before the workload is asked to stop that is any live pass, afterwards the final one: what
    /// a pass beside the stop leaves out, it looks at again.
    fn unacceptable(&self) -> Option<Decision> {
        let decides = matches!(
            self.state,
            State::Precopy { .. } | State::FinalPass(_) | State::Verifying { proven: None, .. }
        );
        let reasons = &self.history.unaccepted;
        (decides && !reasons.is_empty() && self.history.open.is_empty()).then(|| {
            Decision::RollBack {
                cause: Cause::LeftOut {
                    reasons: reasons.clone(),
                },
            }
        })
    }

    /// Comes to rest at the next boundary between steps.
    fn interrupt(&self) -> Next {
        if self.history.open.is_empty() {
            return record(Decision::Interrupt);
        }
        Next::Await {
            stop: self.history.open_pass(),
            until: None,
        }
    }

    /// While the workload goes down, live passes go on if it takes long enough for them to help.
    fn quiescing(&self, now: Timestamp) -> Next {
        let State::Quiescing { stopped, overlap } = self.state else {
            return AWAIT;
        };
        if !stopped && !self.history.is_open(Step::Quiesce) {
            return Next::Perform(Step::Quiesce);
        }
        let pass = self.history.open_pass();
        let mut until = self.limit();
        if !stopped && overlap && self.history.movers_ready && pass.is_none() {
            let start = self.next_overlap();
            if now >= start {
                return Next::Perform(Step::live(self.history.next_pass()));
            }
            until = Some(until.map_or(start, |limit| limit.min(start)));
        }
        Next::Await {
            stop: pass.filter(|_| stopped),
            until,
        }
    }

    /// When the next live pass beside the stop begins.
    fn next_overlap(&self) -> Timestamp {
        let asked = self
            .history
            .open
            .iter()
            .find(|intended| intended.step == Step::Quiesce)
            .map_or(self.history.last_at, |intended| intended.at);
        match self.history.passes.last() {
            Some(pass) if pass.began >= asked => pass.ended.after(took(pass).max(OVERLAP_PAUSE)),
            // One that the end of the stop would cut off only holds up what comes next. A stop that
            // has lasted for two passes may well last for a third.
            Some(pass) => asked.after(OVERLAP_AFTER.max(took(pass) * 2)),
            None => asked.after(OVERLAP_AFTER),
        }
    }

    fn precopy(&self, fresh: bool, now: Timestamp) -> Next {
        let pass = Next::Perform(Step::live(self.history.next_pass()));
        let complete: Vec<_> = self
            .live_passes()
            .iter()
            .filter(|pass| pass.complete)
            .collect();
        let (Some(last), Some(assessment)) = (self.history.passes.last(), self.assessment()) else {
            return pass;
        };
        if !fresh || is_early(&complete) {
            return pass;
        }
        let wishes = self.history.wishes;
        let options = &self.spec.options;
        let fits = assessment.prediction.total().expected <= options.max_downtime.as_secs_f64();
        let verdict = match assessment.verdict {
            Verdict::AnotherPass if wishes.switch && fits => Verdict::Ready,
            Verdict::AnotherPass if wishes.switch => Verdict::CannotMeetBudget,
            verdict => verdict,
        };
        let switch = |prediction: Prediction| {
            // The prediction holds for a switch right after a pass.
            if now.since(last.ended) > took(last).max(FRESH) {
                Next::Perform(Step::live(self.history.next_pass()))
            } else {
                record(Decision::Switch {
                    prediction: Box::new(prediction),
                })
            }
        };
        match verdict {
            Verdict::AnotherPass => pass,
            Verdict::Ready if options.switch == SwitchMode::WhenReady || wishes.switch => {
                switch(assessment.prediction)
            }
            Verdict::Ready => self.keep_close(last, now),
            Verdict::CannotMeetBudget if wishes.accept => switch(assessment.prediction),
            Verdict::CannotMeetBudget => match options.on_overrun {
                OnOverrun::Proceed => switch(assessment.prediction),
                OnOverrun::Wait => self.keep_close(last, now),
                OnOverrun::Ask if wishes.keep_passing => self.keep_close(last, now),
                OnOverrun::Ask => Next::Ask(Question {
                    prediction: assessment.prediction,
                    budget: options.max_downtime,
                }),
                OnOverrun::Abort => record(Decision::RollBack {
                    cause: Cause::Overrun {
                        prediction: Box::new(assessment.prediction),
                    },
                }),
            },
        }
    }

    /// Another pass after a pause that leaves the workload most of the disk.
    fn keep_close(&self, last: &PassCost, now: Timestamp) -> Next {
        let pause = took(last)
            .saturating_mul(4)
            .clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        let due = last.ended.after(pause);
        if now >= due {
            Next::Perform(Step::Pass {
                number: self.history.next_pass(),
                kind: PassKind::Live,
            })
        } else {
            Next::Await {
                stop: None,
                until: Some(due),
            }
        }
    }
}

const AWAIT: Next = Next::Await {
    stop: None,
    until: None,
};

fn record(decision: Decision) -> Next {
    Next::Record(Event::Decided { decision })
}

fn took(pass: &PassCost) -> Duration {
    pass.ended.since(pass.began)
}
