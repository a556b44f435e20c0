//! Where what a process holds lies, also where the path is longer than the kernel tells.

use std::{
    fs::{self, File},
    io,
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags};

/// Directories above one, at most, that are looked at.
const LEVELS: usize = 1 << 16;

/// The path of what the link `link` below /proc holds if that lies in `root`, else nothing. Of a path
/// of more than a page the kernel tells nothing: of a directory each one above it is looked at then, and
/// any other entry of the same file system counts as one that lies in `root`.
pub(super) fn below(link: &Path, root: &Path) -> io::Result<Option<PathBuf>> {
    match fs::read_link(link) {
        Ok(path) => Ok(path.starts_with(root).then_some(path)),
        Err(error)
            if error.raw_os_error() == Some(rustix::io::Errno::NAMETOOLONG.raw_os_error()) =>
        {
            let held = fs::metadata(link)?;
            let root_is = fs::metadata(root)?;
            if held.dev() != root_is.dev() {
                return Ok(None);
            }
            let within = if held.is_dir() {
                is_in((root_is.dev(), root_is.ino()), link)?
            } else {
                true
            };
            Ok(within.then(|| root.join("(a path longer than the kernel tells)")))
        }
        Err(error) => Err(error),
    }
}

/// Whether the directory that `link` leads to is the one that is `root`, or lies in it.
fn is_in(root: (u64, u64), link: &Path) -> io::Result<bool> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at: OwnedFd = rustix::fs::open(link, flags, Mode::empty())?;
    let mut last = None;
    for _ in 0..LEVELS {
        let held = File::from(at.try_clone()?).metadata()?;
        let here = (held.dev(), held.ino());
        if here == root {
            return Ok(true);
        }
        if last == Some(here) {
            return Ok(false);
        }
        last = Some(here);
        at = rustix::fs::openat(&at, c"..", flags, Mode::empty())?;
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory so deep that its path takes more than a page, held.
    fn deep(root: &Path) -> OwnedFd {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let mut at = rustix::fs::open(root, flags, Mode::empty()).unwrap();
        let name = "n".repeat(250);
        for _ in 0..20 {
            rustix::fs::mkdirat(&at, &*name, Mode::RWXU).unwrap();
            at = rustix::fs::openat(&at, &*name, flags, Mode::empty()).unwrap();
        }
        at
    }

    #[test]
    fn what_lies_deeper_than_a_path_can_say_is_told_apart_all_the_same() {
        use std::os::fd::AsRawFd as _;
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let held = deep(here.path());
        let link = PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd()));
        assert!(fs::read_link(&link).is_err());
        assert!(below(&link, here.path()).unwrap().is_some());
        assert_eq!(below(&link, there.path()).unwrap(), None);
        let root = File::open(here.path()).unwrap();
        let link = PathBuf::from(format!("/proc/self/fd/{}", root.as_raw_fd()));
        assert_eq!(
            below(&link, here.path()).unwrap().as_deref(),
            Some(here.path())
        );
    }
}
