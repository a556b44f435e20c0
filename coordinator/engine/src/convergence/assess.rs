//! Another pass, ready, or not within the budget.
//!
//! More passes are worth it while each shortens the predicted downtime; they cost the workload
//! nothing but shared bandwidth. They stop being worth it when the engine's share is small
//! already, when two passes in a row brought less than a tenth each, when a pass does little but
//! walk the tree, or at the limit on passes. Then the budget decides. None of this holds after a pass
//! that left what it copied to be read back: the final pass would have to, in the downtime.

use serde::{Deserialize, Serialize};

use super::{
    PassCost, Prediction,
    predict::{Assumptions, predict, scan_seconds},
};
use crate::spec::Options;

/// A prediction and what follows from it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Assessment {
    /// The downtime of a switch now.
    pub prediction: Prediction,
    /// What follows.
    pub verdict: Verdict,
}

/// What to do about a prediction.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// Another pass is expected to shorten the downtime, or is needed for the proof.
    AnotherPass,
    /// More passes do not help, and the downtime fits the budget.
    Ready,
    /// More passes do not help, and the downtime does not fit the budget.
    CannotMeetBudget,
}

/// Live passes that always run: the second proves what the first one missed.
const LEAST_PASSES: usize = 2;

/// Seconds of engine time below which another pass is not worth its noise.
const SMALL_ENGINE: f64 = 1.0;

/// What a pass must bring at least, as a part of the downtime.
const WORTHWHILE: f64 = 0.1;

/// A pass that takes at most this many times its scan only walks the tree.
const SCAN_BOUND: f64 = 1.2;

/// The state of convergence after `passes`; none while no live pass was complete.
///
/// Only complete live passes count.
pub fn assess(
    passes: &[PassCost],
    options: &Options,
    assumptions: &Assumptions,
) -> Option<Assessment> {
    let prediction = predict(passes, options.verify, assumptions)?;
    let verdict = verdict(passes, &prediction, options, assumptions);
    Some(Assessment {
        prediction,
        verdict,
    })
}

fn verdict(
    passes: &[PassCost],
    prediction: &Prediction,
    options: &Options,
    assumptions: &Assumptions,
) -> Verdict {
    let complete: Vec<&PassCost> = passes.iter().filter(|pass| pass.complete).collect();
    if is_early(&complete) {
        return Verdict::AnotherPass;
    }
    let budget = options.max_downtime.as_secs_f64();
    let total = prediction.total();
    if prediction.engine().expected <= SMALL_ENGINE && total.high <= budget {
        return Verdict::Ready;
    }
    let limit = complete.len() >= usize::try_from(options.max_passes).unwrap_or(usize::MAX);
    if !limit && !scan_bound(&complete) && !stalled(passes, options, assumptions) {
        return Verdict::AnotherPass;
    }
    if total.expected <= budget {
        Verdict::Ready
    } else {
        Verdict::CannotMeetBudget
    }
}

/// Whether nothing may be decided yet after these complete passes.
pub(crate) fn is_early(complete: &[&PassCost]) -> bool {
    complete.len() < LEAST_PASSES || complete.last().is_some_and(|last| last.read_back_left)
}

fn scan_bound(complete: &[&PassCost]) -> bool {
    complete
        .last()
        .is_some_and(|pass| pass.seconds.total <= SCAN_BOUND * scan_seconds(pass))
}

/// Whether the last two passes each shortened the prediction by less than [`WORTHWHILE`].
fn stalled(passes: &[PassCost], options: &Options, assumptions: &Assumptions) -> bool {
    let ends: Vec<usize> = passes
        .iter()
        .enumerate()
        .filter(|(_, pass)| pass.complete)
        .map(|(index, _)| index + 1)
        .collect();
    let expected: Vec<f64> = ends
        .iter()
        .rev()
        .take(3)
        .filter_map(|end| predict(passes.get(..*end)?, options.verify, assumptions))
        .map(|prediction| prediction.total().expected)
        .collect();
    let [now, before, earlier] = expected.as_slice() else {
        return false;
    };
    let little = |later: f64, earlier: f64| later > (1.0 - WORTHWHILE) * earlier;
    little(*now, *before) && little(*before, *earlier)
}
