//! What people are told when something went wrong: what happened, what state things are in now,
//! what to run next. And the exit code that says the same to programs.

use std::{error::Error, fmt};

use livmig_engine::{
    document::Document,
    machine::Whereabouts,
    outcome::{ExitCode, Outcome},
    record::Cause,
    step::Step,
};

use super::advice::MadeBy;
use crate::{
    driver::DriverError,
    host::{
        movers::MoverError,
        registration::PlanError,
        store::{folder::StoreError, journal::JournalReadError},
    },
    movers::failure::chain,
};

/// A command that did not do what it was asked.
#[derive(Debug)]
pub(crate) struct Trouble {
    /// For programs.
    pub(crate) exit: ExitCode,
    /// What happened.
    pub(crate) error: String,
    /// In what state things are now.
    pub(crate) state: Option<String>,
    /// What to do or run next.
    pub(crate) next: Option<String>,
}

impl Trouble {
    /// Trouble with nothing more to say about it yet.
    pub(crate) fn new(exit: ExitCode, error: impl Into<String>) -> Self {
        Self {
            exit,
            error: error.into(),
            state: None,
            next: None,
        }
    }

    /// The same, caused by an error.
    pub(crate) fn because(exit: ExitCode, error: &dyn Error) -> Self {
        Self::new(exit, chain(error))
    }

    /// The same with the state of things.
    pub(crate) fn with_state(mut self, state: impl Into<String>) -> Self {
        self.state = Some(state.into());
        self
    }

    /// The same with advice.
    pub(crate) fn with_next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
}

/// The block that goes to standard error.
impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", self.error)?;
        if let Some(state) = &self.state {
            writeln!(f, "state: {state}")?;
        }
        if let Some(next) = &self.next {
            writeln!(f, "next:  {next}")?;
        }
        Ok(())
    }
}

const UNCHANGED: &str = "nothing was changed; the workload runs as before";

impl From<PlanError> for Trouble {
    fn from(error: PlanError) -> Self {
        let trouble = Self::because(ExitCode::Refused, &error).with_state(UNCHANGED);
        match &error {
            PlanError::Refused(refusal) => trouble.with_next(refusal.hint()),
            PlanError::Mover(MoverError::NoProgram { .. }) => trouble.with_next(
                "build it with `cargo build --release -p livmig-mover`, or name it with --mover \
                 PATH or LIVMIG_MOVER",
            ),
            PlanError::InTheWay { name, .. } => trouble.with_next(format!(
                "livmig-coord status {name}, then `livmig-coord resume {name}` or `livmig-coord \
                 rollback {name}`"
            )),
            PlanError::Mover(_)
            | PlanError::Store(_)
            | PlanError::Settings { .. }
            | PlanError::Identity => Self {
                exit: ExitCode::Failed,
                ..trouble
            },
        }
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Unknown { .. } | StoreError::Name(_) => {
                Self::because(ExitCode::Usage, &error).with_next("livmig-coord get")
            }
            StoreError::Held { name, holder } => Self::because(ExitCode::Refused, &error)
                .with_state("this command changed nothing; the other coordinator goes on")
                .with_next(format!(
                    "livmig-coord status {name} --watch; to stop it, press Ctrl-C where it runs, \
                     or: kill -INT {holder}"
                )),
            StoreError::NoPlace => {
                Self::because(ExitCode::Usage, &error).with_next("export HOME=/your/home")
            }
            StoreError::Io { .. } => Self::because(ExitCode::Failed, &error),
        }
    }
}

impl From<JournalReadError> for Trouble {
    fn from(error: JournalReadError) -> Self {
        Self::because(ExitCode::Failed, &error)
            .with_state("nothing was changed by this command")
            .with_next("look at that file; livmig does not guess what a damaged journal meant")
    }
}

/// A driver that stopped without an outcome.
pub(crate) fn of_driver(error: &DriverError, ways_on: &str) -> Trouble {
    match error {
        DriverError::Refused(_) => Trouble::because(ExitCode::Refused, error)
            .with_state("this command changed nothing")
            .with_next(ways_on),
        DriverError::Append { whereabouts, .. } => {
            let exit = match whereabouts {
                Whereabouts::Untouched => ExitCode::Failed,
                _ => ExitCode::Halted,
            };
            Trouble::because(exit, error)
        }
        // Not this command's to tell how it ends.
        DriverError::TakenOver { .. } => Trouble::because(ExitCode::Interrupted, error),
        DriverError::Exists(_) | DriverError::Load(_) | DriverError::Illegal(_) => {
            Trouble::because(ExitCode::Failed, error)
        }
    }
}

/// The outcome of a migration, if it is not the one that was hoped for; `made_by` is the command
/// that would make another.
pub(crate) fn of_outcome(
    outcome: &Outcome,
    document: &Document,
    made_by: MadeBy,
) -> Option<Trouble> {
    let name = &document.metadata.name;
    let status = &document.status;
    let reason = || status.reason.clone().unwrap_or_default();
    let trouble = |what: &str| {
        Trouble::new(outcome.exit_code(), format!("{what}: {}", reason()))
            .with_state(status.workload.clone())
    };
    let hint = |otherwise: String| status.hint.clone().unwrap_or(otherwise);
    let next = |cause: &Cause| {
        let advice = made_by.advice(cause).map(str::to_owned);
        // What is left out is advised on by the engine, unless the command knows better.
        match (cause, advice) {
            (Cause::LeftOut { .. }, Some(advice)) => advice,
            (_, advice) => hint(advice.unwrap_or_else(|| format!("livmig-coord logs {name}"))),
        }
    };
    match outcome {
        Outcome::Completed => None,
        Outcome::Refused { .. } => Some(
            Trouble::new(outcome.exit_code(), reason())
                .with_state(UNCHANGED)
                .with_next(hint(format!("livmig-coord logs {name}"))),
        ),
        Outcome::Failed {
            cause: cause @ Cause::LeftOut { .. },
        } => Some(
            Trouble::new(
                outcome.exit_code(),
                format!("the migration is refused: {}", reason()),
            )
            .with_state(format!(
                "nothing was changed at the workload: {}, its data was only read, and the \
                     movers are gone{}",
                status.workload,
                kept(document)
            ))
            .with_next(next(cause)),
        ),
        Outcome::Failed { cause } => {
            Some(trouble("the migration was given up").with_next(next(cause)))
        }
        Outcome::RolledBack { cause } => {
            Some(trouble("the migration was rolled back").with_next(next(cause)))
        }
        Outcome::Halted { step, .. } => {
            let choices = if matches!(step, Step::Unquiesce | Step::Settle) {
                format!("livmig-coord resume {name}, if need be with another --start-cmd")
            } else {
                format!("livmig-coord resume {name}, or livmig-coord rollback {name}")
            };
            let next = match &status.hint {
                Some(hint) => format!("{hint}; then {choices}"),
                None => choices,
            };
            Some(trouble("the migration waits for a decision").with_next(next))
        }
        Outcome::Interrupted => Some(
            Trouble::new(
                outcome.exit_code(),
                "interrupted; the migration can be resumed",
            )
            .with_state(format!(
                "{}; the movers keep what they have for ten minutes, the destination for good",
                status.workload
            ))
            .with_next(format!(
                "livmig-coord resume {name}, or livmig-coord rollback {name}"
            )),
        ),
    }
}

/// Where a copy is that a migration which was given up has left behind.
fn kept(document: &Document) -> String {
    document
        .spec
        .target
        .host()
        .map_or_else(String::new, |target| {
            format!("; what was copied lies in {}", target.destination.display())
        })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use livmig_engine::result::StepFailure;
    use livmig_proto::control::{Fault, FaultCode, Reason, Side};

    use super::*;
    use crate::cli::text::summary::tests::planned;

    #[test]
    fn each_outcome_says_what_happened_in_what_state_and_what_next() {
        let document = planned();
        let full = StepFailure::from(Fault {
            code: FaultCode::NoSpace,
            side: Side::Destination,
            message: "No space left".to_owned(),
            path: Some("x".to_owned()),
            advice: None,
        });
        let failed = |failure: &StepFailure| Cause::Failed {
            step: Step::Quiesce,
            failure: failure.clone(),
        };
        let hinted = StepFailure::permanent("It broke").with_hint("mend it");
        let cases = [
            (
                Outcome::Failed {
                    cause: failed(&full),
                },
                1,
                "make room at the destination",
            ),
            (
                Outcome::RolledBack {
                    cause: Cause::Late {
                        elapsed_ms: 9,
                        budget_ms: 8,
                    },
                },
                4,
                "--max-downtime",
            ),
            (
                Outcome::Refused {
                    failure: hinted.clone(),
                },
                3,
                "livmig-coord logs data-1",
            ),
            (
                Outcome::Halted {
                    step: Step::Swap,
                    failure: hinted.clone(),
                },
                5,
                "livmig-coord rollback data-1",
            ),
            (Outcome::Interrupted, 130, "livmig-coord resume data-1"),
        ];
        for (outcome, code, next) in cases {
            let trouble = of_outcome(&outcome, &document, MadeBy::MigrateDir).unwrap();
            assert_eq!(trouble.exit.code(), code, "{outcome:?}");
            assert!(trouble.state.is_some(), "{outcome:?}");
            let found = trouble.next.unwrap_or_default();
            assert!(found.contains(next), "{outcome:?}: {found}");
        }
        assert!(of_outcome(&Outcome::Completed, &document, MadeBy::MigrateDir).is_none());
        let past = Outcome::Halted {
            step: Step::Unquiesce,
            failure: hinted,
        };
        let next = of_outcome(&past, &document, MadeBy::MigrateDir)
            .unwrap()
            .next
            .unwrap();
        assert!(!next.contains("rollback"), "{next}");
    }

    #[test]
    fn what_would_be_left_out_is_refused_with_the_flag_that_allows_it() {
        let reasons = BTreeMap::from([(Reason::Mount, 2)]);
        let refused = Outcome::Failed {
            cause: Cause::LeftOut { reasons },
        };
        let mut document = planned();
        document.status.reason = refused.reason();
        document.status.hint = Some("mend it, or --adopt --leave-out mount".to_owned());
        let trouble = of_outcome(&refused, &document, MadeBy::MigrateDir).unwrap();
        assert_eq!(trouble.exit.code(), 3);
        assert!(trouble.error.contains("mount (2)"), "{trouble}");
        let state = trouble.state.unwrap();
        assert!(state.contains("never asked to stop"), "{state}");
        assert!(state.contains("lies in /mnt/fast/data"), "{state}");
        assert!(trouble.next.unwrap().ends_with("--leave-out mount"));
        let demo = of_outcome(&refused, &document, MadeBy::Demo).unwrap();
        assert!(!demo.next.unwrap().contains("--leave-out"));
    }

    #[test]
    fn a_demonstration_that_overran_is_not_sent_to_the_flags_of_a_migration() {
        let late = Outcome::RolledBack {
            cause: Cause::Late {
                elapsed_ms: 9,
                budget_ms: 8,
            },
        };
        let next = |made_by| {
            of_outcome(&late, &planned(), made_by)
                .unwrap()
                .next
                .unwrap()
        };
        assert!(next(MadeBy::MigrateDir).contains("--on-overrun"));
        let demo = next(MadeBy::Demo);
        assert!(demo.contains("--max-downtime"), "{demo}");
        assert!(!demo.contains("--on-overrun"), "{demo}");
    }

    #[test]
    fn a_block_says_what_is_known() {
        let trouble = Trouble::new(ExitCode::Failed, "It broke")
            .with_state("all is well")
            .with_next("do nothing");
        assert_eq!(
            trouble.to_string(),
            "error: It broke\nstate: all is well\nnext:  do nothing\n"
        );
        assert_eq!(
            Trouble::new(ExitCode::Failed, "It broke").to_string(),
            "error: It broke\n"
        );
    }

    #[test]
    fn a_held_migration_names_its_holder_and_the_way_out() {
        let trouble = Trouble::from(StoreError::Held {
            name: "data-1".to_owned(),
            holder: "4711".to_owned(),
        });
        assert_eq!(trouble.exit, ExitCode::Refused);
        assert!(trouble.error.contains("process 4711"));
        assert!(trouble.next.unwrap().contains("kill -INT 4711"));
    }
}
