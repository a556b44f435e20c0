//! What a person can change when a migration was given up, in the flags of the command that made
//! it. Pure.

use livmig_engine::record::Cause;
use livmig_proto::control::FaultCode;

/// The command that makes a migration. Advice names only flags that it accepts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum MadeBy {
    /// `migrate-dir`.
    MigrateDir,
    /// `demo`.
    Demo,
    /// `migrate`.
    Migrate,
}

impl MadeBy {
    /// What to do about `cause`; none when only the log can tell.
    pub(crate) fn advice(self, cause: &Cause) -> Option<&'static str> {
        match cause {
            Cause::Overrun { .. } | Cause::Late { .. } => Some(self.more_time()),
            Cause::Failed { failure, .. } => failure.code.and_then(|code| self.against(code)),
            // The demonstration takes no consent: its data has nothing to leave out.
            Cause::LeftOut { .. } => {
                (self == Self::Demo).then_some("choose a folder on another file system with --dir")
            }
            Cause::Requested | Cause::Interrupted => None,
        }
    }

    fn more_time(self) -> &'static str {
        match self {
            Self::MigrateDir | Self::Migrate => {
                "allow more with --max-downtime, or choose --on-overrun wait or proceed"
            }
            Self::Demo => {
                "allow more with --max-downtime, or give it less to do with --size, --files or \
                 --rate"
            }
        }
    }

    /// What to do about a mover's fault.
    fn against(self, code: FaultCode) -> Option<&'static str> {
        Some(match (code, self) {
            (FaultCode::NoSpace, Self::MigrateDir) => {
                "make room at the destination, or choose another with --to; then migrate again \
                 (with --adopt, what was copied is used)"
            }
            (FaultCode::NoSpace, Self::Demo) => {
                "make room, or make less data with --size, or make it elsewhere with --dir"
            }
            (FaultCode::NoSpace, Self::Migrate) => {
                "choose a class whose volumes are larger than they are asked to be, or resize the \
                 claim first; then migrate again"
            }
            (FaultCode::Permission | FaultCode::NotEmpty, Self::Migrate) => {
                "look at the mover's log: livmig-coord logs"
            }
            (FaultCode::Unsupported, Self::Migrate) => {
                "choose a class whose volumes can hold it with --to-class"
            }
            (FaultCode::StillWritten, Self::Migrate) => {
                "find out what writes to the volume behind the fence (a node that was cut off?)"
            }
            (FaultCode::Permission, _) => "run livmig-coord as the owner of the data, or as root",
            (FaultCode::Unsupported, Self::MigrateDir) => {
                "choose a destination on a file system that can hold it; then migrate again"
            }
            (FaultCode::Unsupported, Self::Demo) => {
                "choose a folder on a file system that can hold it with --dir"
            }
            (FaultCode::NotEmpty, Self::MigrateDir) => {
                "choose an empty destination, or take this one over with --adopt"
            }
            (FaultCode::NotEmpty, Self::Demo) => "choose a fresh folder with --dir",
            (FaultCode::SourceEmpty, _) => {
                "look at the source: it is empty, so it is perhaps not mounted"
            }
            (FaultCode::StillWritten, Self::MigrateDir) => {
                "make the stop command wait until everything that writes has ended; then migrate \
                 again"
            }
            (FaultCode::Io | FaultCode::Mismatch, _) => {
                "look at the device (dmesg); nothing was taken from it that was not proven"
            }
            (FaultCode::StaleEpoch, _) => "another coordinator has taken over: livmig-coord get",
            (FaultCode::Protocol | FaultCode::BadRequest, _) => {
                "run a livmig-mover of the same version as livmig-coord"
            }
            // The demonstration's stop command is its own: its user cannot mend it.
            (FaultCode::StillWritten, Self::Demo)
            | (
                FaultCode::Disconnected
                | FaultCode::Unreachable
                | FaultCode::Stopped
                | FaultCode::Busy
                | FaultCode::Internal,
                _,
            ) => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use clap::Args as _;
    use livmig_engine::{result::StepFailure, step::Step};
    use livmig_proto::control::{Fault, Reason, Side};

    use super::*;
    use crate::cli::commands::{demo, migrate, migrate_dir};

    const CODES: [FaultCode; 16] = [
        FaultCode::NoSpace,
        FaultCode::Permission,
        FaultCode::Unsupported,
        FaultCode::NotEmpty,
        FaultCode::SourceEmpty,
        FaultCode::StillWritten,
        FaultCode::Io,
        FaultCode::Mismatch,
        FaultCode::StaleEpoch,
        FaultCode::Protocol,
        FaultCode::BadRequest,
        FaultCode::Disconnected,
        FaultCode::Unreachable,
        FaultCode::Stopped,
        FaultCode::Busy,
        FaultCode::Internal,
    ];

    fn causes() -> Vec<Cause> {
        let failed = CODES.map(|code| Cause::Failed {
            step: Step::Quiesce,
            failure: StepFailure::from(Fault {
                code,
                side: Side::Source,
                message: "it went wrong".to_owned(),
                path: None,
                advice: None,
            }),
        });
        let late = Cause::Late {
            elapsed_ms: 9,
            budget_ms: 8,
        };
        let left_out = Cause::LeftOut {
            reasons: BTreeMap::from([(Reason::Mount, 1)]),
        };
        failed.into_iter().chain([late, left_out]).collect()
    }

    /// The flags that the advice of a command names, each without its dashes.
    fn named(made_by: MadeBy) -> Vec<&'static str> {
        causes()
            .iter()
            .filter_map(|cause| made_by.advice(cause))
            .flat_map(|advice| advice.split(|c: char| !c.is_ascii_alphabetic() && c != '-'))
            .filter_map(|word| word.strip_prefix("--"))
            .collect()
    }

    #[test]
    fn a_command_is_advised_only_flags_that_it_accepts() {
        let none = || clap::Command::new("none");
        for (made_by, command) in [
            (MadeBy::MigrateDir, migrate_dir::Args::augment_args(none())),
            (MadeBy::Demo, demo::Args::augment_args(none())),
            (MadeBy::Migrate, migrate::Args::augment_args(none())),
        ] {
            let accepted: Vec<&str> = command
                .get_arguments()
                .filter_map(clap::Arg::get_long)
                .collect();
            let named = named(made_by);
            assert!(named.contains(&"max-downtime"), "{made_by:?}: {named:?}");
            for flag in named {
                assert!(accepted.contains(&flag), "{made_by:?}: --{flag}");
            }
        }
    }

    #[test]
    fn what_the_engine_advises_about_something_left_out_is_accepted_too() {
        let reasons: BTreeMap<Reason, u64> = Reason::ALL.map(|reason| (reason, 1)).into();
        let none = || clap::Command::new("none");
        let mut spec = crate::cli::text::summary::tests::planned().spec;
        let on_host = livmig_engine::left_out::advice(&spec, &reasons);
        let target = serde_json::json!({
            "platform": "kubernetes", "namespace": "shop", "claims": [], "mover": {"image": "i"},
            "workload": {"kind": "StatefulSet", "name": "app", "uid": "s"},
        });
        spec.target = serde_json::from_value(target).unwrap();
        let in_cluster = livmig_engine::left_out::advice(&spec, &reasons);
        for (advice, command) in [
            (on_host, migrate_dir::Args::augment_args(none())),
            (in_cluster, migrate::Args::augment_args(none())),
        ] {
            let words = advice.split_whitespace();
            for flag in words.filter_map(|word| word.strip_prefix("--")) {
                let flag = flag.trim_end_matches([';', ',']);
                let known = command.get_arguments().filter_map(clap::Arg::get_long);
                assert!(
                    known.into_iter().any(|long| long == flag),
                    "--{flag}: {advice}"
                );
            }
        }
    }
}
