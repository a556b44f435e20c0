//! How much of the downtime's budget is left.
//!
//! The budget is watched from the quiesce to COMMIT. A rollback must begin while the workload can
//! still be back in time, so the limit lies before the end of the budget by what is expected of
//! the terms that are still to come.

use std::time::Duration;

use super::{Machine, state::State};
use crate::{convergence::Term, spec::OnOverrun, time::Timestamp};

impl Machine {
    /// The moment after which the machine rolls back rather than goes on; none outside the
    /// watched part of the downtime.
    pub fn limit(&self) -> Option<Timestamp> {
        if !self.state.is_uncommitted_downtime() {
            return None;
        }
        let end = self.history.down_at?.after(self.budget());
        Some(end.before(self.rest()))
    }

    /// The budget in force: what was asked for, and where a longer downtime was accepted, twice
    /// what was predicted, so that nothing waits for ever.
    pub fn budget(&self) -> Duration {
        let asked = self.spec.options.max_downtime;
        let accepted =
            self.history.wishes.accept || self.spec.options.on_overrun == OnOverrun::Proceed;
        if !accepted {
            return asked;
        }
        let predicted = self
            .history
            .switched_on
            .as_ref()
            .map_or(0.0, |prediction| prediction.total().high);
        asked.max(Duration::from_secs_f64(2.0 * predicted))
    }

    /// The expected time of everything after the present phase.
    fn rest(&self) -> Duration {
        let Some(prediction) = &self.history.switched_on else {
            return Duration::ZERO;
        };
        let done = match &self.state {
            State::Quiescing { .. } => Term::WorkloadStop,
            State::Fencing(_) => Term::Fence,
            State::FinalPass(_) => Term::Flush,
            State::Verifying { .. } => Term::Verify,
            _ => return Duration::ZERO,
        };
        // Terms are ordered as they pass.
        let expected = prediction.sum(|term| term > done).expected;
        // Never more than half: a long way ahead must not use up the time to get there.
        Duration::from_secs_f64(expected).min(self.budget() / 2)
    }
}
