//! Why a migration cannot be made, and what a person can do about it.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

use livmig_proto::control::Reason;

use crate::host::{symlink, text::listed};

/// Why a migration cannot be made. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// No such link.
    #[error("PATH {} does not exist", .0.display())]
    PathMissing(PathBuf),
    /// Something else than a link.
    #[error("PATH {} is {what}, not a symbolic link", .path.display())]
    NotALink {
        /// PATH.
        path: PathBuf,
        /// What it is instead.
        what: &'static str,
    },
    /// The link leads nowhere.
    #[error("PATH {} leads to {}, which does not exist", .path.display(), .text.display())]
    Dangling {
        /// PATH.
        path: PathBuf,
        /// What it holds.
        text: PathBuf,
    },
    /// One end is something else than a directory.
    #[error("The {end} {} is not a directory", .path.display())]
    NotADirectory {
        /// `source` or `destination`.
        end: &'static str,
        /// Which.
        path: PathBuf,
    },
    /// The destination's folder is missing.
    #[error("The destination's folder {} does not exist", .0.display())]
    NoParent(PathBuf),
    /// Both ends are one directory.
    #[error("Source and destination are the same directory: {}", .0.display())]
    Same(PathBuf),
    /// One end contains the other.
    #[error("The {inner} lies inside the {outer}: {} is below {}", .below.display(), .above.display())]
    Nested {
        /// Which end is inside.
        inner: &'static str,
        /// Which is around it.
        outer: &'static str,
        /// The inner directory.
        below: PathBuf,
        /// The outer directory.
        above: PathBuf,
    },
    /// Both ends are one tree, or one lies in the other, as their paths do not say.
    #[error("{how}: {} and {} ({why})", .one.display(), .other.display())]
    Alias {
        /// How they lie to each other.
        how: String,
        /// The source.
        one: PathBuf,
        /// The destination.
        other: PathBuf,
        /// What each is.
        why: String,
    },
    /// livmig's own state lies in one of them, as its path does not say.
    #[error(
        "livmig's state folder {} lies inside the {end} {} by another name ({why})",
        .state.display(), .path.display()
    )]
    StateAlias {
        /// Which end.
        end: &'static str,
        /// The state folder.
        state: PathBuf,
        /// The end.
        path: PathBuf,
        /// What each is.
        why: String,
    },
    /// The destination holds something.
    #[error("The destination {} is not empty: it holds {example:?}", .path.display())]
    NotEmpty {
        /// The destination.
        path: PathBuf,
        /// One of its entries.
        example: OsString,
    },
    /// Something is mounted below the source, and nobody has said that it may be left out.
    #[error(
        "What is mounted inside the source would be left out, and nobody has said that it may: {}",
        listed(.points)
    )]
    MountInside {
        /// Where.
        points: Vec<PathBuf>,
        /// What may be left out.
        consent: BTreeSet<Reason>,
    },
    /// livmig's own state would be moved while it changes.
    #[error("livmig's state folder {} lies inside the {end}", .state.display())]
    StateInside {
        /// Which end.
        end: &'static str,
        /// The state folder.
        state: PathBuf,
    },
    /// The user may not do what must be done.
    #[error("This user may not {what} {}", .path.display())]
    NotAllowed {
        /// The missing right.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A path that cannot be written into a journal.
    #[error("The path {0:?} is not UTF-8")]
    NotUtf8(PathBuf),
    /// Something else went wrong while looking.
    #[error("Could not look at {}", .path.display())]
    Io {
        /// At what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl Refusal {
    /// What a person can do about it.
    pub fn hint(&self) -> String {
        let shell = |path: &Path| symlink::quote(path.as_os_str());
        match self {
            Self::NotALink { path, .. } => format!(
                "stop the workload, then: mv {path} {volume} && ln -s {volume} {path}",
                path = shell(path),
                volume = shell(&with_suffix(path, ".volume")),
            ),
            Self::Dangling { path, text }
                if text.to_string_lossy().contains(symlink::FENCED_MARK) =>
            {
                format!(
                    "an unfinished migration fenced {}: find it with `livmig-coord get`, then \
                     `livmig-coord resume` or `livmig-coord rollback` it",
                    shell(path)
                )
            }
            Self::Dangling { path, .. } => format!("ln -sfn DIRECTORY {}", shell(path)),
            Self::PathMissing(path) | Self::NotADirectory { path, .. } => {
                format!("ls -ld {}", shell(path))
            }
            Self::NoParent(path) => format!("mkdir -p {}", shell(path)),
            Self::Same(_) | Self::Nested { .. } | Self::Alias { .. } => {
                "choose a directory elsewhere with --to".to_owned()
            }
            Self::NotEmpty { .. } => {
                "choose an empty directory with --to, or take this one over with --adopt: what \
                 the source does not hold is deleted there"
                    .to_owned()
            }
            Self::MountInside { points, consent } => {
                let mut names: BTreeSet<Reason> = consent.clone();
                names.insert(Reason::Mount);
                let names: Vec<&str> = names.into_iter().map(Reason::name).collect();
                let points: Vec<String> = points.iter().take(1).map(|path| shell(path)).collect();
                format!(
                    "umount {}; or migrate it by itself, and leave it out here with --leave-out {}",
                    points.join(" "),
                    names.join(",")
                )
            }
            Self::StateInside { .. } | Self::StateAlias { .. } => {
                "set XDG_STATE_HOME to a folder outside both directories".to_owned()
            }
            Self::NotAllowed { .. } | Self::Io { .. } => {
                "run livmig-coord as the owner of the data, or as root".to_owned()
            }
            Self::NotUtf8(_) => {
                "rename it, or reach it through a link with another name".to_owned()
            }
        }
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
