//! A predicted duration with its uncertainty, and the terms a downtime consists of.

use std::{collections::BTreeMap, fmt, ops::Add};

use serde::{Deserialize, Serialize};

/// Seconds, with an interval.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Estimate {
    /// Hardly less.
    pub low: f64,
    /// Most likely.
    pub expected: f64,
    /// Hardly more.
    pub high: f64,
}

impl Estimate {
    /// An estimate that is certain.
    pub fn exactly(seconds: f64) -> Self {
        Self::new(seconds, seconds, seconds)
    }

    /// An estimate; whatever comes in, `0 ≤ low ≤ expected ≤ high` and finite comes out.
    pub fn new(low: f64, expected: f64, high: f64) -> Self {
        let expected = sane(expected);
        Self {
            low: sane(low).min(expected),
            expected,
            high: sane(high).max(expected),
        }
    }
}

impl Add for Estimate {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self::new(
            self.low + other.low,
            self.expected + other.expected,
            self.high + other.high,
        )
    }
}

/// Ten years: beyond it a number of seconds is a mistake, and it keeps sums finite.
const LONGEST: f64 = 3.2e8;

fn sane(seconds: f64) -> f64 {
    if seconds.is_nan() {
        0.0
    } else {
        seconds.clamp(0.0, LONGEST)
    }
}

/// What a downtime consists of, in the order in which it passes.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Term {
    /// The workload's own way down.
    WorkloadStop,
    /// Fencing, and the proof of no writers.
    Fence,
    /// Writing the source's dirty pages back.
    SourceFlush,
    /// Listing and comparing attributes.
    FinalScan,
    /// Reading files that were touched.
    Reread,
    /// Sending what differs.
    Send,
    /// Making the destination durable.
    Flush,
    /// Proving both ends equal.
    Verify,
    /// Re-binding.
    Swap,
    /// The workload's own way up.
    WorkloadStart,
    /// What lies between the steps: journal, calls, waiting.
    Coordination,
}

impl Term {
    /// All of them, in order.
    pub const ALL: [Self; 11] = [
        Self::WorkloadStop,
        Self::Fence,
        Self::SourceFlush,
        Self::FinalScan,
        Self::Reread,
        Self::Send,
        Self::Flush,
        Self::Verify,
        Self::Swap,
        Self::WorkloadStart,
        Self::Coordination,
    ];

    /// Whether livmig causes it, rather than the workload.
    pub fn is_engine(self) -> bool {
        !matches!(self, Self::WorkloadStop | Self::WorkloadStart)
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WorkloadStop => "workload stop",
            Self::Fence => "fence",
            Self::SourceFlush => "source flush",
            Self::FinalScan => "final scan",
            Self::Reread => "re-read of touched files",
            Self::Send => "delta send",
            Self::Flush => "flush",
            Self::Verify => "verify",
            Self::Swap => "swap",
            Self::WorkloadStart => "workload start",
            Self::Coordination => "coordination",
        })
    }
}

/// A predicted downtime.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Prediction {
    /// Each term.
    pub terms: BTreeMap<Term, Estimate>,
    /// The file whose reading costs most, as shown to people, and its bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub largest_read: Option<(String, u64)>,
}

impl Prediction {
    /// The whole downtime.
    pub fn total(&self) -> Estimate {
        self.sum(|_| true)
    }

    /// The part of it that livmig causes.
    pub fn engine(&self) -> Estimate {
        self.sum(Term::is_engine)
    }

    /// The sum of some terms.
    pub fn sum(&self, which: impl Fn(Term) -> bool) -> Estimate {
        self.terms
            .iter()
            .filter(|(term, _)| which(**term))
            .fold(Estimate::default(), |sum, (_, estimate)| sum + *estimate)
    }

    /// The term that is expected to take longest; none while nothing is predicted.
    pub fn dominating(&self) -> Option<Term> {
        self.terms
            .iter()
            .max_by(|left, right| left.1.expected.total_cmp(&right.1.expected))
            .map(|(term, _)| *term)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_is_ordered_and_finite_whatever_comes_in() {
        for (low, expected, high) in [
            (3.0, 2.0, 1.0),
            (f64::NAN, f64::INFINITY, -1.0),
            (-5.0, 0.0, f64::NEG_INFINITY),
        ] {
            let estimate = Estimate::new(low, expected, high);
            assert!(0.0 <= estimate.low, "{estimate:?}");
            assert!(estimate.low <= estimate.expected, "{estimate:?}");
            assert!(estimate.expected <= estimate.high, "{estimate:?}");
            assert!(estimate.high.is_finite(), "{estimate:?}");
        }
    }

    #[test]
    fn the_longest_term_is_named() {
        let prediction = Prediction {
            terms: BTreeMap::from([
                (Term::Reread, Estimate::exactly(3.0)),
                (Term::WorkloadStop, Estimate::exactly(1.0)),
            ]),
            largest_read: None,
        };
        assert_eq!(prediction.dominating(), Some(Term::Reread));
        assert!((prediction.total().expected - 4.0).abs() < 1e-9);
        assert!((prediction.engine().expected - 3.0).abs() < 1e-9);
    }
}
