//! A new migration between two directories: planned without changing anything, then registered so
//! that no other can get in its way.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use livmig_engine::{
    machine::Machine,
    outcome::Outcome,
    record::spec_of,
    spec::{HostTarget, MigrationName, MigrationSpec, Options, Target},
};
use livmig_proto::ids::MigrationUid;
use ring::rand::{SecureRandom as _, SystemRandom};

use super::store::{
    folder::{Lock, MigrationFolder, StateRoot, StoreError, migration_name},
    journal,
};
use super::{
    movers::{MoverError, find_program},
    old_volume::DirectoryIdentity,
    preflight::{self, Refusal},
    settings::Settings,
};

/// What a user asks for.
#[derive(Clone, Debug)]
pub struct HostRequest {
    /// The symbolic link.
    pub path: PathBuf,
    /// The directory to move to.
    pub to: PathBuf,
    /// Stops the workload.
    pub stop_command: String,
    /// Starts the workload.
    pub start_command: String,
    /// How long the stop command may take.
    pub stop_limit: Duration,
    /// How long the start command may take.
    pub start_limit: Duration,
    /// How the migration behaves.
    pub options: Options,
    /// The mover's program, if it is named.
    pub mover: Option<PathBuf>,
}

/// A wish that the checks found possible.
#[derive(Clone, Debug)]
pub struct Planned {
    /// For the journal.
    pub spec: MigrationSpec,
    /// The spec's target.
    pub target: HostTarget,
    /// For the platform.
    pub settings: Settings,
}

/// A migration that is registered: nobody else can begin one on the same volumes.
#[derive(Debug)]
pub struct Registered {
    /// Its folder.
    pub folder: MigrationFolder,
    /// The right to act for it.
    pub lock: Lock,
    /// To be kept until the journal's first record is stored: until then a second migration of
    /// the same volumes would not see this one.
    pub registration: Lock,
}

/// Why a migration is not possible.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The volumes do not fit.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// There is no mover to do it.
    #[error(transparent)]
    Mover(#[from] MoverError),
    /// Another migration has not ended yet.
    #[error("The unfinished migration {name} has the {what} {} already", .shared.display())]
    InTheWay {
        /// The other migration.
        name: MigrationName,
        /// What both have.
        what: &'static str,
        /// The path of it.
        shared: PathBuf,
    },
    /// State could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The settings could not be stored.
    #[error("Could not write {}", .path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The system's randomness failed.
    #[error("Could not make an identity for the migration")]
    Identity,
}

/// Checks a wish and makes a spec of it. Changes nothing.
pub fn plan(wish: &HostRequest, root: &StateRoot) -> Result<Planned, PlanError> {
    let mover = find_program(wish.mover.as_deref())?;
    let volumes = preflight::resolve(&wish.path, &wish.to)?;
    if let Some(error) = in_the_way(root, &volumes)? {
        return Err(error);
    }
    preflight::check(&volumes, &wish.options, root.path())?;
    let mut uid = [0; 16];
    SystemRandom::new()
        .fill(&mut uid)
        .map_err(|_| PlanError::Identity)?;
    let uid = MigrationUid(uid);
    let name = migration_name(&volumes.path, &uid).map_err(StoreError::from)?;
    let source = DirectoryIdentity::of(&volumes.source).map_err(|source| Refusal::Io {
        path: volumes.source.clone(),
        source,
    })?;
    let target = HostTarget {
        path: volumes.path,
        source: volumes.source,
        destination: volumes.destination,
        stop_command: wish.stop_command.clone(),
        start_command: wish.start_command.clone(),
    };
    Ok(Planned {
        settings: Settings {
            link_text: volumes.link_text,
            source: Some(source),
            mover,
            stop_limit: wish.stop_limit,
            start_limit: wish.start_limit,
            start_command: None,
        },
        spec: MigrationSpec {
            name,
            uid,
            target: Target::Host(target.clone()),
            options: wish.options.clone(),
        },
        target,
    })
}

/// Makes the folder of a planned migration and takes its lock.
pub fn register(planned: &Planned, root: &StateRoot) -> Result<Registered, PlanError> {
    let registration = root.lock_registration()?;
    let target = &planned.target;
    let volumes = preflight::Volumes {
        path: target.path.clone(),
        link_text: planned.settings.link_text.clone(),
        source: target.source.clone(),
        destination: target.destination.clone(),
    };
    // Looked for once more: another may have been registered since the plan was made.
    if let Some(error) = in_the_way(root, &volumes)? {
        return Err(error);
    }
    root.prune()?;
    let folder = root.create(planned.spec.name.clone())?;
    let lock = folder.lock()?;
    planned
        .settings
        .store(folder.path())
        .map_err(|source| PlanError::Settings {
            path: Settings::path(folder.path()),
            source,
        })?;
    Ok(Registered {
        folder,
        lock,
        registration,
    })
}

/// The unfinished migration that shares PATH or a directory with these volumes.
fn in_the_way(
    root: &StateRoot,
    volumes: &preflight::Volumes,
) -> Result<Option<PlanError>, StoreError> {
    for folder in root.migrations()? {
        let Ok(loaded) = journal::read(&folder.journal()) else {
            tracing::warn!(name = %folder.name(), "journal not readable, not compared");
            continue;
        };
        let Some(spec) = spec_of(&loaded.records) else {
            continue;
        };
        let finished = Machine::replay(&loaded.records)
            .ok()
            .and_then(|machine| machine.outcome())
            .is_some_and(|outcome| Outcome::is_final(&outcome));
        if finished {
            continue;
        }
        if let Some(other) = spec.target.host()
            && let Some((what, shared)) = shared(volumes, other)
        {
            return Ok(Some(PlanError::InTheWay {
                name: spec.name.clone(),
                what,
                shared: shared.to_owned(),
            }));
        }
    }
    Ok(None)
}

/// What two migrations must not both have.
fn shared<'a>(
    volumes: &'a preflight::Volumes,
    other: &HostTarget,
) -> Option<(&'static str, &'a Path)> {
    let overlaps = |one: &Path, other: &Path| one.starts_with(other) || other.starts_with(one);
    let candidates = [
        ("PATH", volumes.path.as_path(), volumes.path == other.path),
        (
            "source",
            &volumes.source,
            overlaps(&volumes.source, &other.source)
                || overlaps(&volumes.source, &other.destination),
        ),
        (
            "destination",
            &volumes.destination,
            overlaps(&volumes.destination, &other.destination)
                || overlaps(&volumes.destination, &other.source),
        ),
    ];
    candidates
        .into_iter()
        .find(|(_, _, both)| *both)
        .map(|(what, path, _)| (what, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_that_touch_the_same_directories_are_found() {
        let other = HostTarget {
            path: "/srv/data".into(),
            source: "/mnt/a".into(),
            destination: "/mnt/b".into(),
            stop_command: String::new(),
            start_command: String::new(),
        };
        let volumes = |path: &str, source: &str, destination: &str| preflight::Volumes {
            path: path.into(),
            link_text: source.into(),
            source: source.into(),
            destination: destination.into(),
        };
        let cases = [
            (volumes("/srv/data", "/mnt/c", "/mnt/d"), Some("PATH")),
            (volumes("/srv/other", "/mnt/a", "/mnt/d"), Some("source")),
            (
                volumes("/srv/other", "/mnt/a/sub", "/mnt/d"),
                Some("source"),
            ),
            (volumes("/srv/other", "/mnt/b", "/mnt/d"), Some("source")),
            (
                volumes("/srv/other", "/mnt/c", "/mnt/b"),
                Some("destination"),
            ),
            (
                volumes("/srv/other", "/mnt/c", "/mnt/a"),
                Some("destination"),
            ),
            (volumes("/srv/other", "/mnt/c", "/mnt/d"), None),
        ];
        for (volumes, expected) in cases {
            let found = shared(&volumes, &other).map(|(what, _)| what);
            assert_eq!(found, expected, "{volumes:?}");
        }
    }
}
