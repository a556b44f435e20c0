//! The removal of a directory that a workload has left: that directory and no other, and nothing that
//! is mounted in it.

use std::{
    collections::BTreeSet,
    ffi::{CStr, CString, OsStr},
    fs, io,
    os::{
        fd::{AsFd, AsRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, CWD, Dir, Mode, OFlags, ResolveFlags, fchmod, fstat, open, openat2, statat,
        unlinkat,
    },
    io::Errno,
};
use serde::{Deserialize, Serialize};

use super::{preflight::mounts_below, text::listed};

/// What a directory is, whatever stands at its path later.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DirectoryIdentity {
    /// The device that it lies on.
    device: u64,
    /// Its inode there.
    inode: u64,
}

impl DirectoryIdentity {
    /// Of the directory at `path`.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn of(path: &Path) -> io::Result<Self> {
        let stat = statat(CWD, path, AtFlags::empty())?;
        Ok(Self {
            device: stat.st_dev,
            inode: stat.st_ino,
        })
    }
}

/// A removal that did not come to its end.
#[derive(Debug)]
pub struct NotRemoved {
    /// What resisted.
    pub why: RemovalError,
    /// How many names were removed before.
    pub removed: u64,
}

/// What resists a removal.
#[derive(Debug, thiserror::Error)]
pub enum RemovalError {
    /// Something is mounted in it, which is somebody else's.
    #[error("Something is mounted inside the old volume and is not a part of it: {}", listed(.0))]
    Mounted(Vec<PathBuf>),
    /// Another directory stands at the path now.
    #[error("{} is not the directory that was migrated: another one stands there now", .0.display())]
    Another(PathBuf),
    /// It could not be looked at.
    #[error("Could not look at {}", .path.display())]
    Look {
        /// What.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A name could not be removed.
    #[error("Could not remove {}", .path.display())]
    Remove {
        /// What.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Removes the directory `root`, which is `identity` where that is known, with all it holds. No link is
/// followed, and what is mounted in it is left alone. A mount point is emptied and stays.
///
/// # Errors
/// The first thing that resisted, and how much is gone by then.
pub fn remove(root: &Path, identity: Option<DirectoryIdentity>) -> Result<(), NotRemoved> {
    let mut removed = 0;
    remove_counted(root, identity, &mut removed).map_err(|why| NotRemoved { why, removed })
}

fn remove_counted(
    root: &Path,
    identity: Option<DirectoryIdentity>,
    removed: &mut u64,
) -> Result<(), RemovalError> {
    let look = |source: io::Error| RemovalError::Look {
        path: root.to_owned(),
        source,
    };
    let mounts = fs::read("/proc/self/mountinfo").map_err(look)?;
    let mounted = mounts_below(&livmig_proto::mounts::parse(&mounts), root);
    if !mounted.is_empty() {
        return Err(RemovalError::Mounted(mounted.into_iter().collect()));
    }
    // From here on by handles: what is put at the path later is not touched.
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = open(root, flags, Mode::empty()).map_err(|errno| look(errno.into()))?;
    let stat = fstat(&dir).map_err(|errno| look(errno.into()))?;
    let held = DirectoryIdentity {
        device: stat.st_dev,
        inode: stat.st_ino,
    };
    if identity.is_some_and(|identity| identity != held) {
        return Err(RemovalError::Another(root.to_owned()));
    }
    empty(&dir, root, removed)?;
    match DirectoryIdentity::of(root) {
        Ok(now) if now == held => match fs::remove_dir(root) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(()),
            removed => removed.map_err(|source| RemovalError::Remove {
                path: root.to_owned(),
                source,
            }),
        },
        // Moved away meanwhile, and empty.
        _ => Err(RemovalError::Another(root.to_owned())),
    }
}

/// Removes everything in `dir`, which is at `path`, and counts the names that went.
fn empty(dir: &OwnedFd, path: &Path, removed: &mut u64) -> Result<(), RemovalError> {
    let failed = |source: Errno| RemovalError::Remove {
        path: path.to_owned(),
        source: source.into(),
    };
    open_to_owner(dir).map_err(failed)?;
    for name in names(dir).map_err(failed)? {
        let path = path.join(lossless(&name));
        let failed = |source: Errno| RemovalError::Remove {
            path: path.clone(),
            source: source.into(),
        };
        match below(dir, &name) {
            Ok(child) => {
                empty(&child, &path, removed)?;
                unlinkat(dir, &name, AtFlags::REMOVEDIR).map_err(failed)?;
                *removed += 1;
            }
            Err(Errno::NOTDIR | Errno::LOOP) => {
                unlinkat(dir, &name, AtFlags::empty()).map_err(failed)?;
                *removed += 1;
            }
            Err(Errno::NOENT) => {}
            Err(Errno::XDEV) => return Err(RemovalError::Mounted(vec![path])),
            Err(errno) => return Err(failed(errno)),
        }
    }
    Ok(())
}

/// The directory `name` in `dir`, unless something is mounted there.
fn below(dir: &OwnedFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
    let open = |flags| openat2(dir, name, flags, Mode::empty(), resolve);
    match open(flags) {
        // Its owner may change that.
        Err(Errno::ACCESS) => {
            let handle = open(flags | OFlags::PATH)?;
            let link = format!("/proc/self/fd/{}", handle.as_raw_fd());
            rustix::fs::chmod(link, Mode::RWXU)?;
            open(flags)
        }
        opened => opened,
    }
}

/// Lets this process, if it is the owner, change the directory.
fn open_to_owner(dir: impl AsFd) -> Result<(), Errno> {
    let stat = fstat(&dir)?;
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    let is_owner = stat.st_uid == rustix::process::geteuid().as_raw();
    if is_owner && !mode.contains(Mode::RWXU) {
        fchmod(&dir, mode | Mode::RWXU)?;
    }
    Ok(())
}

fn names(dir: &OwnedFd) -> Result<BTreeSet<CString>, Errno> {
    let mut names = BTreeSet::new();
    for entry in Dir::read_from(dir)? {
        let name = entry?.file_name().to_owned();
        if name.as_bytes() != b"." && name.as_bytes() != b".." {
            names.insert(name);
        }
    }
    Ok(names)
}

fn lossless(name: &CStr) -> &Path {
    Path::new(OsStr::from_bytes(name.to_bytes()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use rustix::fs::IFlags;

    use super::*;

    fn made() -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let old = root.path().join("old");
        fs::create_dir_all(old.join("a/b")).unwrap();
        fs::write(old.join("a/b/file"), "content").unwrap();
        fs::write(root.path().join("outside"), "stays").unwrap();
        std::os::unix::fs::symlink("../../outside", old.join("a/link")).unwrap();
        std::os::unix::fs::symlink("..", old.join("up")).unwrap();
        (root, old)
    }

    #[test]
    fn a_directory_goes_with_all_it_holds_and_no_link_is_followed() {
        let (root, old) = made();
        fs::set_permissions(old.join("a/b"), fs::Permissions::from_mode(0o500)).unwrap();
        fs::set_permissions(old.join("a"), fs::Permissions::from_mode(0o000)).unwrap();
        remove(&old, Some(DirectoryIdentity::of(&old).unwrap())).unwrap();
        assert!(!old.exists());
        assert!(root.path().join("outside").exists());
    }

    #[test]
    fn another_directory_at_its_path_stays() {
        let (root, old) = made();
        let identity = DirectoryIdentity::of(&old).unwrap();
        fs::rename(&old, root.path().join("moved")).unwrap();
        fs::create_dir(&old).unwrap();
        fs::write(old.join("somebody's"), "work").unwrap();
        let error = remove(&old, Some(identity)).unwrap_err();
        assert!(matches!(error.why, RemovalError::Another(_)), "{error:?}");
        assert_eq!(error.removed, 0);
        assert!(old.join("somebody's").exists());
        assert!(root.path().join("moved/a/b/file").exists());
    }

    #[test]
    fn what_is_gone_before_something_resists_is_counted() {
        let (_root, old) = made();
        let last = old.join("z");
        let file = fs::File::create(&last).unwrap();
        if let Err(errno) = rustix::fs::ioctl_setflags(&file, IFlags::IMMUTABLE) {
            eprintln!("skipped: a file cannot be made immutable here: {errno}");
            return;
        }
        let result = remove(&old, None);
        rustix::fs::ioctl_setflags(&file, IFlags::empty()).unwrap();
        let error = result.unwrap_err();
        assert!(matches!(&error.why, RemovalError::Remove { path, .. } if *path == last));
        // `a/b/file`, `a/b`, `a/link`, `a` and `up`.
        assert_eq!(error.removed, 5);
        remove(&old, None).unwrap();
    }
}
