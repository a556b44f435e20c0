//! The downtime predicted from the passes so far.
//!
//! The final pass is a pass like the last live one, over what the workload touches between the
//! start of that pass and its own stop. So the last pass is the model, scaled by time:
//!
//! * **re-read**: what the last pass read, in proportion to `(window / last window)^α`, and at
//!   least what is hot already. A workload touches the same bytes over and over (a writable
//!   working set), so α lies between 0 and 1; it is fitted from the passes, and the interval spans
//!   what they leave open.
//! * **send** likewise for bytes that differ.
//! * **rates** are bytes over *busy* seconds, never over wall time: a link that idles is not slow.
//! * **scan, flushes, finish** are as the recent passes measured them.

use std::{collections::BTreeMap, time::Duration};

use livmig_proto::control::VerifyLevel;
use serde::{Deserialize, Serialize};

use super::{Estimate, PassCost, Prediction, Term};

/// What no pass can measure before the switch: the workload's and the platform's own share.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Assumptions {
    /// The workload's way down.
    pub stop: Estimate,
    /// Fencing.
    pub fence: Estimate,
    /// Re-binding.
    pub swap: Estimate,
    /// The workload's way up.
    pub start: Estimate,
}

impl Default for Assumptions {
    /// For a host: a service manager stops and starts a service in about a second, a link is
    /// swapped in milliseconds. Nothing better is known before the first stop.
    fn default() -> Self {
        Self {
            stop: Estimate::new(0.05, 1.0, 5.0),
            fence: Estimate::new(0.01, 0.05, 0.5),
            swap: Estimate::new(0.001, 0.01, 0.1),
            start: Estimate::new(0.05, 1.0, 5.0),
        }
    }
}

/// How many of the last passes the intervals span.
const RECENT: usize = 3;

/// Seconds one record of the journal, its call and its answer take; a switch has about a dozen.
const STEP_OVERHEAD: f64 = 0.005;
const STEPS_OF_A_SWITCH: f64 = 12.0;

/// The downtime that a switch right after the last of `passes` would have; none without a
/// complete live pass.
pub fn predict(
    passes: &[PassCost],
    verify: VerifyLevel,
    assumptions: &Assumptions,
) -> Option<Prediction> {
    let complete: Vec<&PassCost> = passes.iter().filter(|pass| pass.complete).collect();
    let last = *complete.last()?;
    // The first pass copies everything; it says nothing about a small one except its rates.
    let small: Vec<&PassCost> = complete
        .iter()
        .skip(1)
        .rev()
        .take(RECENT)
        .copied()
        .collect();
    let model = if small.is_empty() { vec![last] } else { small };

    let rates = Rates::measured(&complete);
    let growth = Growth::fitted(&complete, assumptions.stop);
    let reread = bytes_ahead(
        last.bytes_hot,
        last.bytes_scanned,
        last.bytes_total.max(last.bytes_hot),
        growth,
    );
    let sent = bytes_ahead(0, last.bytes_sent, u64::MAX, growth);

    let terms = BTreeMap::from([
        (Term::WorkloadStop, assumptions.stop),
        (Term::Fence, assumptions.fence),
        (
            Term::SourceFlush,
            spread(&model, |pass| pass.seconds.source_flush),
        ),
        (Term::FinalScan, spread(&model, scan_seconds)),
        (Term::Reread, reread.at(rates.read)),
        (Term::Send, sent.at(rates.send)),
        (
            Term::Flush,
            spread(&model, |pass| {
                pass.seconds.finish + pass.seconds.destination_flush
            }),
        ),
        (
            Term::Verify,
            verify_seconds(&model, last, verify, growth, rates),
        ),
        (Term::Swap, assumptions.swap),
        (Term::WorkloadStart, assumptions.start),
        (
            Term::Coordination,
            Estimate::new(
                0.2 * STEP_OVERHEAD * STEPS_OF_A_SWITCH,
                STEP_OVERHEAD * STEPS_OF_A_SWITCH,
                5.0 * STEP_OVERHEAD * STEPS_OF_A_SWITCH,
            ),
        ),
    ]);
    Some(Prediction {
        terms,
        largest_read: last.largest_read.clone(),
    })
}

/// Seconds of a pass spent on the tree itself: what is left of the transfer when reading and
/// sending are taken out, and at least what was measured as such.
pub(crate) fn scan_seconds(pass: &PassCost) -> f64 {
    let seconds = &pass.seconds;
    (seconds.transfer - seconds.read - seconds.send).max(seconds.scan)
}

/// Bytes per busy second.
#[derive(Clone, Copy)]
struct Rates {
    read: Option<f64>,
    send: Option<f64>,
}

impl Rates {
    fn measured(passes: &[&PassCost]) -> Self {
        let rate = |bytes: fn(&PassCost) -> u64, busy: fn(&PassCost) -> f64| {
            let bytes: f64 = passes.iter().map(|pass| float(bytes(pass))).sum();
            let busy: f64 = passes.iter().map(|pass| busy(pass)).sum();
            (bytes > 0.0 && busy > 0.0).then(|| bytes / busy)
        };
        Self {
            read: rate(|pass| pass.bytes_scanned, |pass| pass.seconds.read),
            send: rate(|pass| pass.bytes_sent, |pass| pass.seconds.send),
        }
    }
}

/// How much more than the last pass the final one finds changed.
#[derive(Clone, Copy)]
struct Growth {
    low: f64,
    expected: f64,
    high: f64,
}

impl Growth {
    /// `passes` are complete and in order; the window of a pass reaches from the start of the one
    /// before it to its own start.
    fn fitted(passes: &[&PassCost], stop: Estimate) -> Self {
        let windows: Vec<(f64, f64)> = passes
            .iter()
            .zip(passes.iter().skip(1))
            .map(|(before, pass)| {
                let window = seconds(pass.began.since(before.began));
                (window, float(pass.bytes_sent))
            })
            .filter(|(window, bytes)| *window > 0.0 && *bytes > 0.0)
            .collect();
        let (Some((window, _)), Some(last)) = (windows.last().copied(), passes.last()) else {
            // One pass only: everything was sent, so nothing is known about a small window.
            return Self {
                low: 0.0,
                expected: 0.5,
                high: 1.0,
            };
        };
        let ahead = |stop: f64| (seconds(last.ended.since(last.began)) + stop) / window;
        let exponent = exponent(&windows);
        // Neither a perfectly repeating working set (0) nor one that never repeats (1) is ruled
        // out by three passes; both bound the interval.
        let at = |ratio: f64, exponent: f64| ratio.max(0.0).powf(exponent);
        let expected = at(ahead(stop.expected), exponent);
        Self {
            low: at(ahead(stop.low), 1.0).min(1.0).min(expected),
            expected,
            high: at(ahead(stop.high), 1.0).max(1.0).max(expected),
        }
    }
}

/// The α of `bytes = a · window^α` between the last two windows that differ; 1, the cautious
/// value, when there are none.
fn exponent(windows: &[(f64, f64)]) -> f64 {
    let mut recent = windows.iter().rev();
    let Some(last) = recent.next() else {
        return 1.0;
    };
    recent
        .find(|(window, _)| (window / last.0).ln().abs() > 0.1)
        .map_or(1.0, |other| {
            ((last.1 / other.1).ln() / (last.0 / other.0).ln()).clamp(0.0, 1.0)
        })
}

/// `growing` bytes as the growth says, at least the `certain` ones, at most `limit`.
fn bytes_ahead(certain: u64, growing: u64, limit: u64, growth: Growth) -> Bytes {
    let (certain, growing, limit) = (float(certain), float(growing), float(limit));
    let at = |factor: f64| (growing * factor).max(certain).min(limit);
    Bytes {
        low: at(growth.low),
        expected: at(growth.expected),
        high: at(growth.high),
    }
}

struct Bytes {
    low: f64,
    expected: f64,
    high: f64,
}

impl Bytes {
    /// The time these bytes take; nothing where no rate was ever seen, since then nothing moved.
    fn at(&self, rate: Option<f64>) -> Estimate {
        rate.map_or_else(Estimate::default, |rate| {
            // A final pass is too short to reach the average rate every time.
            Estimate::new(
                self.low / rate,
                self.expected / rate,
                1.25 * self.high / rate,
            )
        })
    }
}

fn verify_seconds(
    model: &[&PassCost],
    last: &PassCost,
    level: VerifyLevel,
    growth: Growth,
    rates: Rates,
) -> Estimate {
    let of_pass = spread(model, |pass| pass.seconds.verify);
    let scaled = Estimate::new(
        of_pass.low * growth.low.min(1.0),
        of_pass.expected,
        of_pass.high * growth.high.max(1.0),
    );
    let whole = match level {
        VerifyLevel::Wire | VerifyLevel::Readback => Estimate::default(),
        // Both ends are read at once, each at about the rate a pass reads.
        VerifyLevel::Full => rates.read.map_or_else(Estimate::default, |rate| {
            let seconds = float(last.bytes_total) / rate;
            Estimate::new(0.5 * seconds, seconds, 2.0 * seconds)
        }),
    };
    scaled + whole
}

/// The last value of `term` as expected one, the recent extremes as interval.
fn spread(model: &[&PassCost], term: impl Fn(&PassCost) -> f64) -> Estimate {
    let values: Vec<f64> = model.iter().map(|pass| term(pass)).collect();
    let expected = values.first().copied().unwrap_or_default();
    let low = values.iter().copied().fold(expected, f64::min);
    let high = values.iter().copied().fold(expected, f64::max);
    Estimate::new(low, expected, high)
}

#[expect(clippy::cast_precision_loss, reason = "an estimate needs no 54th bit")]
fn float(bytes: u64) -> f64 {
    bytes as f64
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}
