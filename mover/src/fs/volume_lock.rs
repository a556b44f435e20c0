//! Who works on a volume: movers tell each other by lock files of their own.
//!
//! Nothing of a volume that is read is locked. Data bases lock the directory that they work in, and
//! one that starts while a pass runs must find its lock free. So a file that is named after the
//! directory's device and inode stands for it, in a directory that only this user can write to.

use std::{
    fmt,
    fs::File,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::mpsc,
    thread::JoinHandle,
    time::Duration,
};

use rustix::{
    fs::{AtFlags, FlockOperation, Mode, OFlags},
    io::Errno,
};

use super::{dir, stat::Stat};

/// How often a lock is asked for that somebody may be about to let go.
const TRIES: usize = 100;

/// How long between.
const PAUSE: Duration = Duration::from_millis(5);

/// Files that are looked at for whether somebody still needs them.
const SWEPT_MAX: usize = 64;

/// What a volume is wanted for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Use {
    /// To be read, beside others that read it.
    Reading,
    /// To be written, by nobody else.
    Writing,
}

/// Why a volume cannot be had.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Taken {
    /// A mover has it.
    Mover,
    /// Somebody holds a lock on its root directory.
    Somebody,
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mover => "another livmig-mover works on",
            Self::Somebody => {
                "some process, a livmig-mover elsewhere or a program that works there, holds a \
                 lock on"
            }
        })
    }
}

/// A volume that is this process's to read or to write. Given back when dropped.
///
/// Confinement forbids to remove the files, and binds a thread and those that it makes: the thread
/// that removes them is made before.
#[derive(Debug)]
pub struct VolumeLock {
    end: Option<mpsc::Sender<()>>,
    remover: Option<JoinHandle<()>>,
}

impl VolumeLock {
    /// Takes the volume whose root directory is `root`. To be done before the process is confined.
    pub fn take(root: BorrowedFd<'_>, usage: Use) -> Result<Self, Taken> {
        let mut files = Vec::new();
        if let Ok(stat) = Stat::of_fd(root) {
            let ((major, minor), ino) = (stat.identity.device, stat.identity.ino);
            let name = format!("{major:x}-{minor:x}-{ino:x}");
            for place in places() {
                match LockFile::take(&place, &name, usage) {
                    Ok(file) => files.push(file),
                    Err(Errno::WOULDBLOCK) => return Err(Taken::Mover),
                    Err(errno) => tracing::debug!("no lock in {}: {errno}", place.display()),
                }
            }
        }
        // Whoever cannot see those files sees this, in another container or as another user.
        if usage == Use::Writing {
            lock_root(root)?;
            unlock_root(root);
        }
        let (end, ended) = mpsc::channel();
        let remover = std::thread::Builder::new()
            .name("livmig-claim".to_owned())
            .spawn(move || give_back(&files, &ended));
        Ok(Self {
            end: Some(end),
            remover: remover.ok(),
        })
    }
}

/// Locks the root directory of a volume while it is written, for those who cannot see the files of
/// [`VolumeLock`]. No workload runs on it then; one that is started on it wants this lock, so it is not
/// held longer than that.
pub fn lock_root(root: BorrowedFd<'_>) -> Result<(), Taken> {
    match lock(root, Use::Writing) {
        Err(Errno::WOULDBLOCK) => Err(Taken::Somebody),
        // Where directories cannot be locked, nobody does.
        _ => Ok(()),
    }
}

/// Undoes [`lock_root`].
pub fn unlock_root(root: BorrowedFd<'_>) {
    let _ = rustix::fs::flock(root, FlockOperation::NonBlockingUnlock);
}

impl Drop for VolumeLock {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(remover) = self.remover.take() {
            let _ = remover.join();
        }
    }
}

/// Takes the state directory at `state`, known as `shown`, for this process. Why not, if it is taken.
pub fn lock_state(state: &Path, shown: &Path) -> Result<File, String> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(state.join("lock"))
        .map_err(|error| format!("could not open {}: {error}", shown.join("lock").display()))?;
    match lock(&file, Use::Writing) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(format!(
            "another livmig-mover uses the state directory {}",
            shown.display()
        )),
        Err(errno) => Err(format!(
            "could not lock {} ({errno})",
            shown.join("lock").display()
        )),
    }
}

/// A file that stands for a volume, locked.
#[derive(Debug)]
struct LockFile {
    directory: OwnedFd,
    name: String,
    file: OwnedFd,
}

impl LockFile {
    /// `WOULDBLOCK` when somebody else has it.
    fn take(place: &Path, name: &str, usage: Use) -> Result<Self, Errno> {
        let directory = own_directory(place)?;
        sweep(&directory);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut tries = 0;
        loop {
            let file = rustix::fs::openat(&directory, name, flags, Mode::RUSR | Mode::WUSR)?;
            match lock(&file, usage) {
                // Whoever had it may have removed it since it was opened.
                Ok(()) if is_named(&directory, name, &file)? => {
                    return Ok(Self {
                        directory,
                        name: name.to_owned(),
                        file,
                    });
                }
                Ok(()) => {}
                // It is held exclusively for a moment by whoever gives it back.
                Err(Errno::WOULDBLOCK) if tries < TRIES => {
                    tries += 1;
                    std::thread::sleep(PAUSE);
                }
                Err(errno) => return Err(errno),
            }
        }
    }
}

fn give_back(files: &[LockFile], ended: &mpsc::Receiver<()>) {
    // Ends with an error when the other side is dropped, which is what is waited for.
    let _ = ended.recv();
    for file in files {
        // Others that read the volume still need it.
        if lock(&file.file, Use::Writing).is_ok() {
            let _ = rustix::fs::unlinkat(&file.directory, &*file.name, AtFlags::empty());
        }
    }
}

/// Removes what movers have left that were killed.
fn sweep(directory: &OwnedFd) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(listing) = rustix::fs::openat(directory, c".", flags, Mode::empty()) else {
        return;
    };
    for name in dir::list(listing)
        .unwrap_or_default()
        .iter()
        .take(SWEPT_MAX)
    {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(file) = rustix::fs::openat(directory, name.as_os_str(), flags, Mode::empty()) else {
            continue;
        };
        if lock(&file, Use::Writing).is_ok() {
            let _ = rustix::fs::unlinkat(directory, name.as_os_str(), AtFlags::empty());
        }
    }
}

fn lock(file: impl AsFd, usage: Use) -> Result<(), Errno> {
    rustix::fs::flock(
        file,
        match usage {
            Use::Reading => FlockOperation::NonBlockingLockShared,
            Use::Writing => FlockOperation::NonBlockingLockExclusive,
        },
    )
}

/// Whether `name` in `directory` is this `file`.
fn is_named(directory: &OwnedFd, name: &str, file: &OwnedFd) -> Result<bool, Errno> {
    let held = rustix::fs::fstat(file)?;
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(named) => Ok((named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Where lock files lie. In each of them, because one user's movers need not have the same
/// environment.
fn places() -> Vec<PathBuf> {
    let user = rustix::process::geteuid();
    if user.is_root() {
        return vec![PathBuf::from("/run/livmig")];
    }
    let runtime = std::env::var_os("XDG_RUNTIME_DIR")
        .map(|runtime| PathBuf::from(runtime).join("livmig"))
        .filter(|runtime| runtime.is_absolute());
    let temporary = std::env::temp_dir().join(format!("livmig-{}", user.as_raw()));
    runtime.into_iter().chain([temporary]).collect()
}

/// The directory at `path`, made if it is missing, in which nobody else can make or remove anything.
fn own_directory(path: &Path) -> Result<OwnedFd, Errno> {
    match rustix::fs::mkdir(path, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&directory)?;
    let is_own = stat.st_uid == rustix::process::geteuid().as_raw();
    let of_others = Mode::WGRP | Mode::WOTH;
    if is_own && !Mode::from_raw_mode(stat.st_mode).intersects(of_others) {
        Ok(directory)
    } else {
        Err(Errno::PERM)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    fn entries(place: &Path) -> usize {
        fs::read_dir(place).unwrap().count()
    }

    /// What tells that a claim is over.
    fn over() -> mpsc::Receiver<()> {
        mpsc::channel().1
    }

    #[test]
    fn readers_share_and_writers_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("locks");
        let take = |usage| LockFile::take(&place, "1-2-3", usage);
        let first = take(Use::Reading).unwrap();
        let second = take(Use::Reading).unwrap();
        assert_eq!(take(Use::Writing).unwrap_err(), Errno::WOULDBLOCK);
        give_back(&[first], &over());
        assert_eq!(take(Use::Writing).unwrap_err(), Errno::WOULDBLOCK);
        assert_eq!(entries(&place), 1);
        give_back(&[second], &over());
        assert_eq!(entries(&place), 0);
        let writer = take(Use::Writing).unwrap();
        assert_eq!(take(Use::Reading).unwrap_err(), Errno::WOULDBLOCK);
        assert!(LockFile::take(&place, "1-2-4", Use::Writing).is_ok());
        drop(writer);
        // One that was killed leaves its file, which the next takes or removes.
        assert_eq!(entries(&place), 2);
        let again = take(Use::Reading).unwrap();
        assert_eq!(entries(&place), 1);
        give_back(&[again], &over());
    }

    #[test]
    fn whoever_gives_back_and_whoever_takes_do_not_miss_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("locks");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let taken = LockFile::take(&place, "one", Use::Reading).unwrap();
                        give_back(&[taken], &over());
                    }
                });
            }
        });
        assert_eq!(entries(&place), 0);
    }

    #[test]
    fn a_directory_that_others_could_fill_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let open = folder.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(own_directory(&open).is_err());
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path(), &link).unwrap();
        assert!(own_directory(&link).is_err());
        assert!(own_directory(&folder.path().join("missing/locks")).is_err());
        own_directory(&folder.path().join("own")).unwrap();
    }

    #[test]
    fn a_workload_may_lock_what_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let open = || fs::File::open(folder.path()).unwrap();
        let (root, workload) = (open(), open());
        lock(&workload, Use::Writing).unwrap();
        let claim = VolumeLock::take(root.as_fd(), Use::Reading).unwrap();
        drop(workload);
        lock(open(), Use::Writing).unwrap();
        drop(claim);
        let workload = open();
        lock(&workload, Use::Writing).unwrap();
        let refused = VolumeLock::take(root.as_fd(), Use::Writing).unwrap_err();
        assert_eq!(refused, Taken::Somebody);
        drop(workload);
        let claim = VolumeLock::take(root.as_fd(), Use::Writing).unwrap();
        lock(open(), Use::Writing).unwrap();
        lock_root(root.as_fd()).unwrap();
        assert_eq!(lock(open(), Use::Reading), Err(Errno::WOULDBLOCK));
        unlock_root(root.as_fd());
        lock(open(), Use::Writing).unwrap();
        drop(claim);
    }
}
