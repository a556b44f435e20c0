//! Listings of directories that may change meanwhile.
//!
//! A listing is no snapshot. On some file systems (btrfs, tmpfs) a name that is replaced while a
//! directory is listed moves from a place that was not read yet to one that was, and is in no
//! listing although it was never gone. So a directory that may have changed is listed once more,
//! and what either listing has is looked at.

use std::os::fd::{AsFd, OwnedFd};

use livmig_proto::{
    entry::Time,
    limits::DIRECTORY_ENTRIES_MAX,
    name::{Name, RelPath},
};
use rustix::io::Errno;

use crate::fs::{
    dir,
    stat::{Identity, Stat},
    volume::{self, Volume},
};

/// Further listings of a directory that changes all the time.
const FURTHER: usize = 2;

/// The clock that stamps directories may stand still for so long, in nanoseconds: what happens within
/// one of its ticks cannot be told apart.
const TICK: i128 = 20_000_000;

/// The names in the freshly opened directory `dir`, which was `stat` before, sorted.
///
/// # Errors
/// When any part of it cannot be read: a partial listing is none.
pub(crate) fn names(dir: &OwnedFd, stat: &Stat) -> Result<Vec<Name>, Errno> {
    let mut names = dir::list_at_most(dir.as_fd(), DIRECTORY_ENTRIES_MAX)?;
    let mut before = stat.identity;
    for further in 0..FURTHER {
        let after = Stat::of_fd(dir)?.identity;
        let fresh = further == 0 && is_fresh(&after, volume::now());
        if before == after && !fresh {
            break;
        }
        before = after;
        names = union(names, again(dir)?);
    }
    Ok(names)
}

/// The names that the directory behind the handle `dir` has now, sorted.
///
/// # Errors
/// As [`names`].
pub(crate) fn again(dir: &OwnedFd) -> Result<Vec<Name>, Errno> {
    dir::list_at_most(dir::open_again(dir)?, DIRECTORY_ENTRIES_MAX)
}

/// Whether a complete listing of `dir`, taken now, lacks `name`.
pub(crate) fn lacks(dir: &OwnedFd, name: &Name) -> bool {
    again(dir).is_ok_and(|names| names.binary_search(name).is_err())
}

/// Whether there is nothing at `path`, says a complete listing of the last directory on the way that
/// is there.
pub(crate) fn is_gone(volume: &Volume, path: &RelPath) -> bool {
    let mut path = path.clone();
    while let Some((parent, name)) = path.split() {
        match volume.dir(&parent) {
            Ok(dir) => return lacks(&dir, &name),
            Err(Errno::NOENT) => path = parent,
            Err(_) => return false,
        }
    }
    false
}

/// Whether it changed so shortly before `now` that a further change may not show.
fn is_fresh(identity: &Identity, now: Time) -> bool {
    let nanos =
        |time: Time| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds);
    (nanos(now) - nanos(identity.mtime)).abs() < TICK
}

/// What is in one or the other, both sorted.
fn union(one: Vec<Name>, other: Vec<Name>) -> Vec<Name> {
    if one == other {
        return one;
    }
    let mut all = one;
    all.extend(other);
    all.sort_unstable();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_one_listing_missed_is_in_the_other() {
        let names = |names: &[&[u8]]| -> Vec<Name> {
            names.iter().map(|name| Name::new(name).unwrap()).collect()
        };
        let all = union(names(&[b"a", b"c"]), names(&[b"a", b"b"]));
        assert_eq!(all, names(&[b"a", b"b", b"c"]));
    }

    #[test]
    fn only_what_has_not_changed_for_a_while_is_listed_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut identity = Stat::of_fd(std::fs::File::open(dir.path()).unwrap())
            .unwrap()
            .identity;
        identity.mtime = Time {
            seconds: 9,
            nanoseconds: 999_000_000,
        };
        let at = |seconds, nanoseconds| Time {
            seconds,
            nanoseconds,
        };
        assert!(is_fresh(&identity, at(10, 1_000_000)));
        assert!(!is_fresh(&identity, at(10, 100_000_000)));
    }

    #[test]
    fn gone_is_what_the_last_directory_on_the_way_lacks() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::fs::write(dir.path().join("a/f"), "").unwrap();
        let volume = Volume::open(dir.path()).unwrap();
        let gone = |path: &str| is_gone(&volume, &RelPath::new(path.as_bytes()).unwrap());
        assert!(!gone("a") && !gone("a/b") && !gone("a/f"));
        assert!(gone("c") && gone("a/c") && gone("a/c/d/e"));
        // What is below a file cannot be told from what became one just now.
        assert!(!gone("a/f/g"));
    }
}
