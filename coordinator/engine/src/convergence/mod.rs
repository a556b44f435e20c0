//! Convergence: what the downtime would be now, and whether another pass would shorten it.
//!
//! [`predict()`] turns the reports of the passes so far into a [`Prediction`], term by term, each
//! with an interval. [`assess()`] decides on it: another pass, ready, or the budget cannot be met.
//! Both are pure functions of measured numbers.

mod assess;
mod combine;
mod estimate;
mod predict;

pub(crate) use assess::is_early;
pub use assess::{Assessment, Verdict, assess};
pub use combine::{PassCost, combine};
pub use estimate::{Estimate, Prediction, Term};
pub(crate) use predict::scan_seconds;
pub use predict::{Assumptions, predict};

#[cfg(test)]
mod tests;
