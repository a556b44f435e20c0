//! Where directories lie, whatever they are reached by: what the kernel tells for the decisions in
//! [`places`](livmig_proto::places).

pub mod other_end;

use std::{
    ffi::OsStr,
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::{Path, PathBuf},
};

use livmig_proto::{
    mounts::{self, Mount},
    places::{Located, Look, TreePlace},
};
use rustix::{
    fs::{AtFlags, Mode, OFlags, StatxFlags},
    io::Errno,
};

use super::stat::Stat;

/// What is mounted, as this process sees it.
#[derive(Debug)]
pub struct Mounts(Vec<Mount>);

impl Mounts {
    /// As of now; none where nothing tells.
    pub fn read() -> Self {
        let text = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
        Self(mounts::parse(&text))
    }

    /// Where the directory `below` lies in the one that is held as `handle`, known as `path`; it
    /// need not exist.
    pub fn whereabouts(&self, handle: impl AsFd, path: &Path, below: &Path) -> TreePlace {
        let mut at = locate(handle, path);
        for part in below.components() {
            if at.path.last() != Some(&b'/') {
                at.path.push(b'/');
            }
            at.path.extend_from_slice(part.as_os_str().as_bytes());
        }
        TreePlace::of(&at, &self.0, self)
    }
}

impl Look for Mounts {
    fn directory(&self, path: &[u8]) -> Option<Located> {
        let handle = hold(path, OFlags::DIRECTORY)?;
        Some(locate(handle, Path::new(OsStr::from_bytes(path))))
    }

    fn image(&self, device: &[u8]) -> Option<Located> {
        let number = device.strip_prefix(b"/dev/loop")?;
        // A partition of it lies in the same file.
        let number = number.split(|byte| !byte.is_ascii_digit()).next()?;
        let number = std::str::from_utf8(number).ok()?;
        let told = std::fs::read(format!("/sys/block/loop{number}/loop/backing_file")).ok()?;
        let path = told.strip_suffix(b"\n").unwrap_or(&told);
        let handle = hold(path, OFlags::empty())?;
        Some(locate(handle, Path::new(OsStr::from_bytes(path))))
    }
}

fn hold(path: &[u8], flags: OFlags) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC | flags;
    rustix::fs::open(path, flags, Mode::empty()).ok()
}

/// Where what is held as `handle` lies; the kernel is asked for its path, and only where it does not
/// tell is `path` resolved.
fn locate(handle: impl AsFd, path: &Path) -> Located {
    let told = rustix::fs::statx(&handle, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok();
    let mount = told
        .filter(|told| told.stx_mask & StatxFlags::MNT_ID.bits() != 0)
        .map(|told| told.stx_mnt_id);
    let path = path_of(&handle)
        .or_else(|| std::fs::canonicalize(path).ok())
        .unwrap_or_else(|| path.to_owned());
    Located {
        mount,
        path: path.into_os_string().into_vec(),
    }
}

/// The path of what is held as `handle`, if there is one.
pub fn path_of(handle: impl AsFd) -> Option<PathBuf> {
    let path = std::fs::read_link(by_handle(handle.as_fd())).ok()?;
    path.is_absolute().then_some(path)
}

/// A path that leads to what is held as `handle`, and to nothing else, as long as it is held.
pub fn by_handle(handle: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd()))
}

/// Whether the directory `below` is `above` or lies in it, as far as the way up from it is open.
pub fn is_below(below: BorrowedFd<'_>, above: BorrowedFd<'_>) -> Result<bool, Errno> {
    let inode = |handle: BorrowedFd<'_>| Stat::of_fd(handle).map(|stat| stat.inode());
    let wanted = inode(above)?;
    let mut at = below.try_clone_to_owned().map_err(|_| Errno::MFILE)?;
    let mut here = inode(at.as_fd())?;
    loop {
        if here == wanted {
            return Ok(true);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(up) = rustix::fs::openat(&at, c"..", flags, Mode::empty()) else {
            return Ok(false);
        };
        let next = inode(up.as_fd())?;
        if next == here {
            return Ok(false);
        }
        (at, here) = (up, next);
    }
}
