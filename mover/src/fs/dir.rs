//! Directories: opened below a handle, listed whole or not at all.

use std::{
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
};

use livmig_proto::name::{Name, RelPath};
use rustix::{
    fs::{FileType, Mode, OFlags, RawDir, RawDirEntry, ResolveFlags},
    io::Errno,
};

/// How a path below a handle is resolved: never out of it, never through a link, never onto
/// another file system.
pub const CONFINED: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

const DIRECTORY: OFlags = OFlags::DIRECTORY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK);

/// Bytes of path that one `openat2` is given at most; a deeper path is walked in steps.
const STEP: usize = 3000;

/// The directory `name` in `parent`.
///
/// # Errors
/// `LOOP` for a symbolic link, `NOTDIR` for anything else that is no directory, `XDEV` for a
/// mount point.
pub fn open(parent: impl AsFd, name: &Name) -> Result<OwnedFd, Errno> {
    open_directory(parent, name.as_bytes())
}

/// The directory behind `dir` itself, opened anew: to be listed from its beginning.
pub fn open_again(dir: impl AsFd) -> Result<OwnedFd, Errno> {
    open_directory(dir, b".")
}

/// The directory at `path` below `root`; the root itself is opened anew.
pub fn open_path(root: impl AsFd, path: &RelPath) -> Result<OwnedFd, Errno> {
    open_below(root, path.as_bytes())
}

/// The directory at `path` below `root`, names joined by slashes; without any, `root` anew.
pub(super) fn open_below(root: impl AsFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    if path.len() <= STEP {
        let path = if path.is_empty() { b"." } else { path };
        return open_directory(root, path);
    }
    let mut step = Vec::new();
    let mut at: Option<OwnedFd> = None;
    let mut descend = |step: &mut Vec<u8>| -> Result<(), Errno> {
        let base = at.as_ref().map_or_else(|| root.as_fd(), AsFd::as_fd);
        let next = open_directory(base, step)?;
        at = Some(next);
        step.clear();
        Ok(())
    };
    for component in path.split(|byte| *byte == b'/') {
        if step.len() + component.len() > STEP {
            descend(&mut step)?;
        }
        if !step.is_empty() {
            step.push(b'/');
        }
        step.extend_from_slice(component);
    }
    descend(&mut step)?;
    at.ok_or(Errno::NOENT)
}

/// A directory whose access time listing it leaves alone, where that is allowed.
fn open_directory(dir: impl AsFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    match open_confined(dir.as_fd(), path, DIRECTORY | OFlags::NOATIME) {
        // Only the owner and the privileged may.
        Err(Errno::PERM) => open_confined(dir, path, DIRECTORY),
        result => result,
    }
}

/// `openat2` with [`CONFINED`], tried again when a concurrent rename made the kernel unsure.
pub fn open_confined(dir: impl AsFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let mut attempts = 0;
    loop {
        match open_once(dir.as_fd(), path, flags) {
            Err(Errno::AGAIN) if attempts < 128 => attempts += 1,
            result => return result,
        }
    }
}

/// `openat2` with [`CONFINED`].
///
/// # Errors
/// `AGAIN` when a concurrent rename made the kernel unsure, and for a file that somebody holds a
/// lease on if it is not to be waited for.
pub fn open_once(dir: impl AsFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    loop {
        match rustix::fs::openat2(dir.as_fd(), path, flags, Mode::empty(), CONFINED) {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

/// One name in a directory, with what the directory itself says about it: two file systems may each
/// have their own idea of that, so it is a hint.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ListedName {
    /// Its name.
    pub name: Name,
    /// The number of the inode.
    pub ino: u64,
    /// Whether it is a directory; none where the file system does not say.
    pub is_directory: Option<bool>,
}

impl AsRef<Name> for ListedName {
    fn as_ref(&self) -> &Name {
        &self.name
    }
}

/// The names in the directory `dir`, sorted by their bytes. `dir` must be freshly opened.
///
/// # Errors
/// When any part of the directory cannot be read: a partial listing is no listing.
pub fn list(dir: impl AsFd) -> Result<Vec<Name>, Errno> {
    list_at_most(dir, usize::MAX)
}

/// As [`list`], of a directory that is to be remembered.
///
/// # Errors
/// As [`list`]; `OVERFLOW` when there are more than `max` names.
pub fn list_at_most(dir: impl AsFd, max: usize) -> Result<Vec<Name>, Errno> {
    collect(dir, max, |name, _| name)
}

/// As [`list_at_most`], with what the directory says about each name.
///
/// # Errors
/// As [`list_at_most`].
pub fn list_inodes_at_most(dir: impl AsFd, max: usize) -> Result<Vec<ListedName>, Errno> {
    collect(dir, max, |name, entry| ListedName {
        name,
        ino: entry.ino(),
        is_directory: match entry.file_type() {
            FileType::Unknown => None,
            kind => Some(kind == FileType::Directory),
        },
    })
}

fn collect<T: Ord + AsRef<Name>>(
    dir: impl AsFd,
    max: usize,
    listed: impl Fn(Name, &RawDirEntry<'_>) -> T,
) -> Result<Vec<T>, Errno> {
    let mut buffer = vec![MaybeUninit::<u8>::uninit(); 32 * 1024];
    let mut all = Vec::new();
    let mut entries = RawDir::new(dir, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        match entry.file_name().to_bytes() {
            b"." | b".." => {}
            _ if all.len() >= max => return Err(Errno::OVERFLOW),
            // A file system that stores what no path can name is broken.
            name => all.push(listed(Name::new(name).map_err(|_| Errno::IO)?, &entry)),
        }
    }
    all.sort_unstable();
    once(&mut all);
    Ok(all)
}

/// Leaves each name once: an entry that is removed and made anew while the directory is read may be
/// listed in both places.
fn once<T: AsRef<Name>>(sorted: &mut Vec<T>) {
    sorted.dedup_by(|one, other| one.as_ref() == other.as_ref());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_listed_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["c", "a", "b"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let list = |max| list_at_most(std::fs::File::open(dir.path()).unwrap(), max);
        let names: Vec<Name> = [b"a", b"b", b"c"].map(|n| Name::new(n).unwrap()).into();
        assert_eq!(list(3), Ok(names));
        assert_eq!(list(2), Err(Errno::OVERFLOW));
    }

    #[test]
    fn a_name_that_is_listed_twice_is_one_name() {
        let listed = |name: &[u8], ino| ListedName {
            name: Name::new(name).unwrap(),
            ino,
            is_directory: None,
        };
        let mut all = vec![
            listed(b"a", 1),
            listed(b"b", 2),
            listed(b"b", 7),
            listed(b"c", 3),
        ];
        once(&mut all);
        let names: Vec<&[u8]> = all.iter().map(|listed| listed.name.as_bytes()).collect();
        assert_eq!(names, [b"a", b"b", b"c"]);
    }

    #[test]
    fn a_directory_that_was_removed_is_not_listed_as_empty() {
        let dir = tempfile::tempdir().unwrap();
        let held = std::fs::File::open(dir.path()).unwrap();
        drop(dir);
        assert_eq!(list(held), Err(Errno::NOENT));
    }
}
