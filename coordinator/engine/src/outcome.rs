//! How a run of a migration ends, and the exit code that says so.

use std::fmt;

use serde::Serialize;

use crate::{record::Cause, result::StepFailure, step::Step};

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The workload runs on the destination.
    Completed,
    /// Given up before the workload was asked to stop; it never noticed. Where something would have
    /// been left out without consent, that is a refusal like one of the checks.
    Failed {
        /// Why.
        cause: Cause,
    },
    /// The checks found an obstacle; nothing was changed.
    Refused {
        /// Which.
        failure: StepFailure,
    },
    /// Given up after the workload was asked to stop; it runs on the source again.
    RolledBack {
        /// Why.
        cause: Cause,
    },
    /// A person must decide; then a resume or a rollback goes on.
    Halted {
        /// The step that cannot go on.
        step: Step,
        /// Why.
        failure: StepFailure,
    },
    /// Stopped on request with the workload running on the source; a resume goes on.
    Interrupted,
}

/// How a migration stands, in a word.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Standing {
    /// Not ended, whether or not a coordinator drives it at this moment.
    Running,
    /// [`Outcome::Completed`].
    Completed,
    /// [`Outcome::Failed`].
    Failed,
    /// [`Outcome::Refused`], or failed because something would have been left out without consent.
    Refused,
    /// [`Outcome::RolledBack`].
    RolledBack,
    /// [`Outcome::Halted`].
    Halted,
    /// [`Outcome::Interrupted`].
    Interrupted,
}

impl Standing {
    /// Whether nothing can follow.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Running | Self::Halted | Self::Interrupted)
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl Outcome {
    /// The word for it in documents.
    pub fn standing(&self) -> Standing {
        match self {
            Self::Completed => Standing::Completed,
            Self::Refused { .. }
            | Self::Failed {
                cause: Cause::LeftOut { .. },
            } => Standing::Refused,
            Self::Failed { .. } => Standing::Failed,
            Self::RolledBack { .. } => Standing::RolledBack,
            Self::Halted { .. } => Standing::Halted,
            Self::Interrupted => Standing::Interrupted,
        }
    }

    /// Why it did not complete.
    pub fn reason(&self) -> Option<String> {
        match self {
            Self::Completed => None,
            Self::Failed { cause } | Self::RolledBack { cause } => Some(cause.to_string()),
            Self::Refused { failure } => Some(failure.to_string()),
            Self::Halted { step, failure } => Some(format!("{step} failed: {failure}")),
            Self::Interrupted => Some("it was interrupted".to_owned()),
        }
    }

    /// What a person can do about it, where the step that failed said so.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Failed {
                cause: Cause::Failed { failure, .. },
            }
            | Self::RolledBack {
                cause: Cause::Failed { failure, .. },
            }
            | Self::Refused { failure }
            | Self::Halted { failure, .. } => failure.hint.clone(),
            _ => None,
        }
    }

    /// Whether nothing can follow: a resume has nothing to do.
    pub fn is_final(&self) -> bool {
        self.standing().is_final()
    }

    /// What the program's exit says about it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Completed => ExitCode::Done,
            Self::Refused { .. }
            | Self::Failed {
                cause: Cause::LeftOut { .. },
            } => ExitCode::Refused,
            Self::Failed {
                cause: Cause::Interrupted,
            }
            | Self::RolledBack {
                cause: Cause::Interrupted,
            }
            | Self::Interrupted => ExitCode::Interrupted,
            Self::Failed { .. } => ExitCode::Failed,
            Self::RolledBack { .. } => ExitCode::RolledBack,
            Self::Halted { .. } => ExitCode::Halted,
        }
    }
}

/// The exit codes of the command line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ExitCode {
    /// Done.
    Done,
    /// Failed; the workload was never stopped.
    Failed,
    /// Wrong usage.
    Usage,
    /// Refused before anything of the workload was changed.
    Refused,
    /// Rolled back after the workload had been stopped; it runs on its old volume.
    RolledBack,
    /// A person must decide.
    Halted,
    /// Interrupted: resumable, or rolled back.
    Interrupted,
}

impl ExitCode {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::RolledBack => 4,
            Self::Halted => 5,
            Self::Interrupted => 130,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed { step, failure } => write!(f, "{step} failed: {failure}"),
            Self::Overrun { prediction } => {
                let total = prediction.total();
                write!(
                    f,
                    "the predicted downtime of {:.1} s ({:.1} to {:.1} s) does not fit the budget",
                    total.expected, total.low, total.high
                )?;
                match prediction.dominating() {
                    Some(term) => write!(f, "; the largest part is {term}"),
                    None => Ok(()),
                }
            }
            Self::Late {
                elapsed_ms,
                budget_ms,
            } => write!(
                f,
                "after {:.1} s of downtime what was left to do no longer fitted the budget of \
                 {:.1} s",
                seconds(*elapsed_ms),
                seconds(*budget_ms)
            ),
            Self::LeftOut { reasons } => {
                let told: Vec<String> = reasons
                    .iter()
                    .map(|(reason, total)| format!("{reason} ({total})"))
                    .collect();
                write!(
                    f,
                    "{} would be left out, and nobody has said that it may",
                    told.join(", ")
                )
            }
            Self::Requested => f.write_str("a rollback was asked for"),
            Self::Interrupted => f.write_str("it was interrupted during the downtime"),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
fn seconds(millis: u64) -> f64 {
    millis as f64 / 1000.0
}
