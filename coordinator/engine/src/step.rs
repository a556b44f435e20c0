//! The steps of a migration, and what each one's intent, redo and undo mean.
//!
//! Every step is idempotent: performing it again, also after it was cut off half way, is right.

use std::fmt;

use livmig_proto::{control::PassKind, ids::PassNumber};
use serde::{Deserialize, Serialize};

/// One thing a platform does for a migration.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "name", rename_all = "camelCase")]
pub enum Step {
    /// Checks that the migration can work; changes nothing.
    Check,
    /// Ensures that the movers of all volumes run, obey this epoch and are connected.
    StartMovers,
    /// Synchronises every volume once.
    Pass {
        /// Which pass; never used twice.
        number: PassNumber,
        /// Whether the workload runs meanwhile.
        kind: PassKind,
    },
    /// Stops the workload and waits until it has stopped.
    Quiesce,
    /// Ensures that no new consumer of the source can start, and proves that none is left.
    Fence,
    /// Proves both ends of every volume equal, and that the fence's proof still stands.
    Verify,
    /// Makes the destination what the workload will find.
    Swap,
    /// Starts the workload on the destination and waits until it is ready.
    Unquiesce,
    /// Stops the movers and removes what only the migration needed.
    Settle,
    /// Makes the source what the workload will find.
    Unswap,
    /// Lets consumers of the source start again.
    Unfence,
    /// Starts the workload on the source and waits until it is ready.
    Restart,
    /// Stops the movers and removes what only the migration needed, the data aside.
    StopMovers,
}

impl Step {
    /// A live pass.
    pub fn live(number: PassNumber) -> Self {
        Self::Pass {
            number,
            kind: PassKind::Live,
        }
    }

    /// The final pass.
    pub fn last(number: PassNumber) -> Self {
        Self::Pass {
            number,
            kind: PassKind::Final,
        }
    }

    /// What undoes it, or why nothing does.
    pub fn undo(self) -> Undo {
        match self {
            Self::Check => Undo::Nothing {
                because: "it changes nothing",
            },
            Self::StartMovers => Undo::By(Self::StopMovers),
            Self::Pass { .. } => Undo::Nothing {
                because: "it writes only to the destination, which nobody uses yet; what was \
                          copied stays there for another try",
            },
            Self::Quiesce => Undo::By(Self::Restart),
            Self::Fence => Undo::By(Self::Unfence),
            Self::Verify => Undo::Nothing {
                because: "it only reads",
            },
            Self::Swap => Undo::By(Self::Unswap),
            Self::Unquiesce => Undo::Never {
                because: "the workload may have written to the destination, and the source lacks \
                          those writes",
            },
            Self::Settle => Undo::Never {
                because: "the workload runs on the destination",
            },
            Self::Unswap | Self::Unfence | Self::Restart | Self::StopMovers => Undo::Nothing {
                because: "it is an undo itself",
            },
        }
    }

    /// What to do when its intent is in the journal, its outcome is not, and another coordinator
    /// has taken over.
    pub fn redo(self) -> Redo {
        match self {
            Self::Check | Self::Verify => Redo::Again {
                because: "it only reads, and what it saw is out of date",
            },
            Self::StartMovers => Redo::Again {
                because: "every coordinator makes its own connections",
            },
            Self::Fence
            | Self::Pass {
                kind: PassKind::Final,
                ..
            } => Redo::Again {
                because: "nobody watched for writers meanwhile, so the proof must be made anew",
            },
            Self::Pass {
                kind: PassKind::Live,
                ..
            }
            | Self::Quiesce
            | Self::Swap
            | Self::Unquiesce
            | Self::Settle
            | Self::Unswap
            | Self::Unfence
            | Self::Restart
            | Self::StopMovers => Redo::Probe,
        }
    }

    /// A word for people and logs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::StartMovers => "start movers",
            Self::Pass {
                kind: PassKind::Live,
                ..
            } => "live pass",
            Self::Pass {
                kind: PassKind::Final,
                ..
            } => "final pass",
            Self::Quiesce => "quiesce",
            Self::Fence => "fence",
            Self::Verify => "verify",
            Self::Swap => "swap",
            Self::Unquiesce => "unquiesce",
            Self::Settle => "settle",
            Self::Unswap => "unswap",
            Self::Unfence => "unfence",
            Self::Restart => "restart",
            Self::StopMovers => "stop movers",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass { number, .. } => write!(f, "{} {number}", self.word()),
            _ => f.write_str(self.word()),
        }
    }
}

/// How a step is taken back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Undo {
    /// By performing this step.
    By(Step),
    /// There is nothing to take back.
    Nothing {
        /// Why.
        because: &'static str,
    },
    /// It must not be taken back.
    Never {
        /// Why.
        because: &'static str,
    },
}

/// How a step in doubt is settled.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Redo {
    /// Ask the platform whether it was done.
    Probe,
    /// Do it again without asking.
    Again {
        /// Why.
        because: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use livmig_proto::ids::PassNumber;

    use super::*;

    const FORWARD: [Step; 9] = [
        Step::Check,
        Step::StartMovers,
        Step::Quiesce,
        Step::Fence,
        Step::Verify,
        Step::Swap,
        Step::Unquiesce,
        Step::Settle,
        Step::StopMovers,
    ];

    #[test]
    fn a_step_without_an_undo_says_why() {
        let passes = [Step::live(PassNumber(1)), Step::last(PassNumber(2))];
        for step in FORWARD.into_iter().chain(passes) {
            match step.undo() {
                Undo::By(undo) => assert!(
                    matches!(undo.undo(), Undo::Nothing { .. }),
                    "{undo} is an undo and has one"
                ),
                Undo::Nothing { because } | Undo::Never { because } => {
                    assert!(because.len() > 10, "{step}: {because}");
                }
            }
        }
    }

    #[test]
    fn only_what_follows_the_point_of_no_return_is_never_undone() {
        let never: Vec<Step> = FORWARD
            .into_iter()
            .filter(|step| matches!(step.undo(), Undo::Never { .. }))
            .collect();
        assert_eq!(never, [Step::Unquiesce, Step::Settle]);
    }
}
