//! The downtime as it was measured, in the terms it was predicted in.
//!
//! Every moment between the request to stop and the workload's being ready again belongs to
//! exactly one term, so the terms add up to the whole. The time in which nothing but bookkeeping
//! went on is a term too.

use std::collections::BTreeMap;

use livmig_proto::control::{PassKind, PassSeconds};

use crate::{
    convergence::{Term, combine, scan_seconds},
    record::{Event, Record},
    result::{Probe, StepOutcome},
    step::Step,
    time::Timestamp,
};

/// A downtime, in seconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// All of it; up to now while it lasts.
    pub seconds: f64,
    /// Whether the workload is ready again.
    pub over: bool,
    /// Term by term; terms without a moment are absent.
    pub terms: BTreeMap<Term, f64>,
}

/// The downtime that `records` tell of, up to `now`; none when the workload was never asked to
/// stop.
pub fn measure(records: &[Record], now: Timestamp) -> Option<Measured> {
    let began = records.iter().position(|record| {
        matches!(
            record.event,
            Event::Intent {
                step: Step::Quiesce
            }
        )
    })?;
    let mut walk = Walk::default();
    let mut last = records.get(began)?.at;
    for record in records.get(began..)? {
        walk.pass_time(record.at.since(last).as_secs_f64());
        last = last.max(record.at);
        if walk.take(&record.event) {
            return Some(walk.finish(true));
        }
    }
    walk.pass_time(now.since(last).as_secs_f64());
    Some(walk.finish(false))
}

/// What is under way at a moment of the walk.
#[derive(Default)]
struct Walk {
    open: Vec<Step>,
    /// Seconds of the final pass under way, its terms known only at its end.
    pass: f64,
    terms: BTreeMap<Term, f64>,
}

impl Walk {
    /// Counts `seconds` towards what was under way in them.
    fn pass_time(&mut self, seconds: f64) {
        let term = |step: &Step| match step {
            Step::Quiesce => Some(Term::WorkloadStop),
            Step::Fence | Step::Unfence => Some(Term::Fence),
            Step::Verify => Some(Term::Verify),
            Step::Swap | Step::Unswap => Some(Term::Swap),
            Step::Unquiesce | Step::Restart => Some(Term::WorkloadStart),
            _ => None,
        };
        let finale = |step: &Step| {
            matches!(
                step,
                Step::Pass {
                    kind: PassKind::Final,
                    ..
                }
            )
        };
        match self.open.iter().find_map(term) {
            Some(term) => self.add(term, seconds),
            None if self.open.iter().any(finale) => self.pass += seconds,
            None => self.add(Term::Coordination, seconds),
        }
    }

    /// Takes an event into account; says whether the workload is ready after it.
    fn take(&mut self, event: &Event) -> bool {
        match event {
            Event::Intent { step } => self.open.push(*step),
            Event::Outcome { step, outcome } => {
                self.open.retain(|open| open != step);
                if let StepOutcome::Passed { reports } = outcome
                    && let Some(cost) = combine(reports, Timestamp(0), Timestamp(0))
                    && cost.kind == PassKind::Final
                {
                    self.split(&cost.seconds, scan_seconds(&cost));
                }
                return is_up(*step);
            }
            Event::Probed {
                step,
                found: Probe::Done { .. },
            } => return is_up(*step),
            Event::Failure { step, .. } | Event::Abandoned { step } => {
                self.open.retain(|open| open != step);
            }
            Event::Adopted => self.open.clear(),
            _ => {}
        }
        false
    }

    /// Divides the final pass by what its report says; what the report does not explain is
    /// coordination.
    fn split(&mut self, seconds: &PassSeconds, scan: f64) {
        let whole = std::mem::take(&mut self.pass);
        let parts = [
            (Term::SourceFlush, seconds.source_flush),
            (Term::FinalScan, scan),
            (Term::Reread, seconds.read),
            (Term::Send, seconds.send),
            (Term::Flush, seconds.finish + seconds.destination_flush),
            (Term::Verify, seconds.verify + seconds.read_back_before),
        ];
        let explained: f64 = parts.iter().map(|(_, part)| part.max(0.0)).sum();
        // Terms that overlapped explain more than there was: shrink them alike.
        let scale = if explained > whole && explained > 0.0 {
            whole / explained
        } else {
            1.0
        };
        for (term, part) in parts {
            self.add(term, part.max(0.0) * scale);
        }
        self.add(Term::Coordination, whole - explained * scale);
    }

    fn add(&mut self, term: Term, seconds: f64) {
        if seconds > 0.0 {
            *self.terms.entry(term).or_default() += seconds;
        }
    }

    fn finish(mut self, over: bool) -> Measured {
        // A final pass without a report, or still under way.
        let unexplained = std::mem::take(&mut self.pass);
        self.add(Term::FinalScan, unexplained);
        Measured {
            seconds: self.terms.values().sum(),
            over,
            terms: self.terms,
        }
    }
}

fn is_up(step: Step) -> bool {
    matches!(step, Step::Unquiesce | Step::Restart)
}

#[cfg(test)]
mod tests {
    use livmig_proto::ids::Epoch;

    use super::*;
    use crate::record::SCHEMA;

    fn record(at: u64, event: Event) -> Record {
        Record {
            schema: SCHEMA,
            seq: 0,
            epoch: Epoch(1),
            at: Timestamp(at),
            event,
        }
    }

    fn intent(at: u64, step: Step) -> Record {
        record(at, Event::Intent { step })
    }

    fn done(at: u64, step: Step) -> Record {
        let outcome = StepOutcome::Done;
        record(at, Event::Outcome { step, outcome })
    }

    #[test]
    fn every_moment_belongs_to_one_term() {
        let records = [
            intent(1000, Step::Quiesce),
            done(1700, Step::Quiesce),
            intent(1750, Step::Swap),
            done(1800, Step::Swap),
            intent(1800, Step::Unquiesce),
            done(2500, Step::Unquiesce),
            intent(2500, Step::Settle),
        ];
        let measured = measure(&records, Timestamp(9999)).unwrap();
        assert!(measured.over);
        assert!((measured.seconds - 1.5).abs() < 1e-9);
        let term = |term| measured.terms.get(&term).copied().unwrap_or_default();
        assert!((term(Term::WorkloadStop) - 0.7).abs() < 1e-9);
        assert!((term(Term::Coordination) - 0.05).abs() < 1e-9);
        assert!((term(Term::Swap) - 0.05).abs() < 1e-9);
        assert!((term(Term::WorkloadStart) - 0.7).abs() < 1e-9);
    }

    #[test]
    fn a_downtime_that_lasts_is_measured_up_to_now() {
        let records = [intent(1000, Step::Quiesce)];
        let measured = measure(&records, Timestamp(4000)).unwrap();
        assert!(!measured.over);
        assert!((measured.seconds - 3.0).abs() < 1e-9);
        assert_eq!(measure(&[], Timestamp(1)), None);
    }
}
