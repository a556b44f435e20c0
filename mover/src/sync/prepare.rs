//! Before anything is written: are the two directories, and where state is kept, apart?

use std::{
    fs::File,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use livmig_proto::places::{Overlap, Relation, TreePlace};
use rustix::io::Errno;

use super::{SyncError, SyncOptions};
use crate::{
    fs::{
        metadata::rights,
        mounts::{self, Mounts},
        resolve::{Resolved, Unresolved},
        volume::{RootOwner, Volume},
        volume_lock::{self, Use},
    },
    scratch::Scratch,
};

/// What a run works on, held: nothing of it is looked up by its path again.
#[derive(Debug)]
pub struct Prepared {
    /// What is read.
    pub source: Volume,
    /// What is written.
    pub destination: Volume,
    /// Where state lies.
    pub state: StateDirectory,
}

/// A state directory that is this run's.
#[derive(Debug)]
pub struct StateDirectory {
    path: PathBuf,
    handle: OwnedFd,
    _lock: File,
    _scratch: Option<Scratch>,
}

impl StateDirectory {
    /// A path to it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its handle.
    pub fn handle(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

/// How the name of a state directory begins that goes with the run.
const SCRATCH: &str = "livmig-sync-";

/// Checks the directories, then makes what is missing and takes all of it for this run.
pub fn prepare(options: &SyncOptions) -> Result<Prepared, SyncError> {
    let source = Named::new("source", &options.source)?;
    if source.is_missing() {
        return Err(missing(source.what, source.path));
    }
    let destination = Named::new("destination", &options.destination)?;
    if destination.resolved.missing().components().count() > 1 {
        return Err(unmade(&destination, Errno::NOENT));
    }
    let temporary = std::env::temp_dir();
    let given = options.state.as_deref();
    let state = Named::new("state directory", given.unwrap_or(&temporary))?;
    // What will be made in it has a name of its own.
    let within = if given.is_some() { "" } else { SCRATCH };
    check_apart(&source, &destination, &state, Path::new(within))?;
    let state = take_state(state, given)?;
    let source = take(source, Use::Reading)?;
    let destination = take(destination, Use::Writing)?;
    // Who may write into it may not always set its time.
    let owner = destination.stat().identity.uid;
    let is_own = rights::overrides_permissions() || owner == rustix::process::geteuid().as_raw();
    let owner = if is_own {
        RootOwner::Own
    } else {
        RootOwner::Foreign
    };
    Ok(Prepared {
        state,
        source: source.with_root_of(owner),
        destination: destination.with_root_of(owner),
    })
}

/// A directory by the path that a person gave.
struct Named<'a> {
    what: &'static str,
    path: &'a Path,
    resolved: Resolved,
}

impl<'a> Named<'a> {
    fn new(what: &'static str, path: &'a Path) -> Result<Self, SyncError> {
        let shown = path.display();
        match Resolved::new(path) {
            Ok(resolved) => Ok(Self {
                what,
                path,
                resolved,
            }),
            Err(Unresolved::Errno(Errno::NOENT)) => Err(missing(what, path)),
            Err(Unresolved::Errno(Errno::NOTDIR)) => Err(SyncError::Usage(format!(
                "the {what} {shown} is not a directory"
            ))),
            Err(planted @ Unresolved::Planted { .. }) => Err(SyncError::Usage(format!(
                "the {what} {shown} leads through somebody else's link: {planted}"
            ))),
            Err(Unresolved::Errno(errno)) => Err(SyncError::Open {
                path: path.to_owned(),
                errno,
            }),
        }
    }

    fn is_missing(&self) -> bool {
        !self.resolved.missing().as_os_str().is_empty()
    }

    fn handle(&self) -> BorrowedFd<'_> {
        self.resolved.handle().as_fd()
    }

    /// Its path without links, where something tells.
    fn real(&self) -> PathBuf {
        let below = self.resolved.missing();
        mounts::path_of(self.handle()).map_or_else(
            || self.path.to_owned(),
            |path| path.components().chain(below.components()).collect(),
        )
    }

    fn whereabouts(&self, mounts: &Mounts, within: &Path) -> TreePlace {
        let below = self.resolved.missing().join(within);
        mounts.whereabouts(self.handle(), self.path, &below)
    }
}

fn missing(what: &str, path: &Path) -> SyncError {
    SyncError::Usage(format!("the {what} {} does not exist", path.display()))
}

fn unmade(named: &Named<'_>, errno: Errno) -> SyncError {
    SyncError::Usage(format!(
        "the {} {} does not exist and could not be made: {errno}",
        named.what,
        named.path.display()
    ))
}

/// No two of them may be one tree, or one in the other, by whatever name each is reached.
fn check_apart(
    source: &Named<'_>,
    destination: &Named<'_>,
    state: &Named<'_>,
    within: &Path,
) -> Result<(), SyncError> {
    let mounts = Mounts::read();
    let itself = Path::new("");
    let from = source.whereabouts(&mounts, itself);
    let to = destination.whereabouts(&mounts, itself);
    let overlap = (to.meets(&from)).or_else(|| by_identity(destination, source));
    if let Some(overlap) = overlap {
        return Err(SyncError::Usage(not_apart(destination, source, &overlap)));
    }
    let kept = state.whereabouts(&mounts, within);
    for (end, tree) in [(source, &from), (destination, &to)] {
        let by_identity =
            || by_identity(state, end).filter(|overlap| overlap.relation != Relation::Around);
        if let Some(overlap) = kept.lies_in(tree).or_else(by_identity) {
            return Err(SyncError::Usage(format!(
                "the state directory {} lies inside the {} {}{}; choose another with --state or \
                 TMPDIR",
                state.real().display(),
                end.what,
                end.real().display(),
                alias(&overlap, state.what, end.what)
            )));
        }
    }
    Ok(())
}

/// The same by the way up from each, where nothing tells what is mounted.
fn by_identity(first: &Named<'_>, second: &Named<'_>) -> Option<Overlap> {
    let is_below = |below: &Named<'_>, above: &Named<'_>| {
        !above.is_missing() && mounts::is_below(below.handle(), above.handle()).unwrap_or(false)
    };
    let relation = match (is_below(first, second), is_below(second, first)) {
        (true, true) => Relation::Same,
        (true, false) => Relation::Inside,
        (false, true) => Relation::Around,
        (false, false) => return None,
    };
    Some(Overlap {
        relation,
        first: String::new(),
        second: String::new(),
    })
}

fn not_apart(first: &Named<'_>, second: &Named<'_>, overlap: &Overlap) -> String {
    let why = alias(overlap, first.what, second.what);
    let (inner, outer) = match overlap.relation {
        Relation::Inside => (first, second),
        Relation::Around => (second, first),
        Relation::Same => {
            let (one, other) = (second.real(), first.real());
            let both = if one == other {
                one.display().to_string()
            } else {
                format!("{} and {}", one.display(), other.display())
            };
            return format!(
                "{} and {} are the same directory: {both}{why}",
                second.what, first.what
            );
        }
    };
    format!(
        "the {} {} lies inside the {} {}{why}",
        inner.what,
        inner.real().display(),
        outer.what,
        outer.real().display()
    )
}

/// Why, where the paths do not say it.
fn alias(overlap: &Overlap, first: &str, second: &str) -> String {
    (overlap.alias(first, second)).map_or_else(String::new, |alias| format!(" ({alias})"))
}

fn take_state(state: Named<'_>, given: Option<&Path>) -> Result<StateDirectory, SyncError> {
    let unusable = |errno: Errno| SyncError::State(errno.into());
    let (handle, shown, scratch) = if let Some(given) = given {
        (
            state.resolved.make().map_err(unusable)?,
            given.to_owned(),
            None,
        )
    } else {
        let scratch = Scratch::new(SCRATCH)?;
        let path = scratch.path().to_owned();
        let made = Resolved::new(&path).map_err(|error| SyncError::Usage(error.to_string()))?;
        (made.make().map_err(unusable)?, path, Some(scratch))
    };
    // Through the handle, where /proc leads there.
    let held = mounts::by_handle(handle.as_fd());
    let path = if held.is_dir() { held } else { shown.clone() };
    let lock = volume_lock::lock_state(&path, &shown).map_err(SyncError::StateTaken)?;
    Ok(StateDirectory {
        path,
        handle,
        _lock: lock,
        _scratch: scratch,
    })
}

fn take(named: Named<'_>, usage: Use) -> Result<Volume, SyncError> {
    let path = named.real();
    let what = named.what;
    let shown = named.path.to_owned();
    let unmade = |errno| {
        SyncError::Usage(format!(
            "the {what} {} could not be made: {errno}",
            shown.display()
        ))
    };
    let handle = named.resolved.make().map_err(unmade)?;
    let volume = Volume::of_handle(&handle).map_err(|errno| SyncError::Open {
        path: path.clone(),
        errno,
    })?;
    volume
        .claimed(usage)
        .map_err(|taken| SyncError::Busy { taken, path })
}
