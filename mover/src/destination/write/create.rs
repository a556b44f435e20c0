//! Makes files, directories and special entries.

use std::os::fd::{AsFd, OwnedFd};

use livmig_proto::{
    control::{Fault, Side},
    entry::{Meta, Node},
    name::{Name, RelPath},
};
use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags},
    io::Errno,
};

use super::metadata;
use crate::{
    fault,
    fs::{
        dir, file,
        metadata::{
            rights,
            xattr::{self, View},
        },
        remove,
        stat::{Kind, Stat},
    },
};

/// The directory `name` in `parent`, made where it is missing or something else stands there.
///
/// Another lane may be making it at the same time, so only what is no directory is removed.
pub fn directory(parent: &OwnedFd, name: &Name) -> Result<OwnedFd, Errno> {
    const ATTEMPTS: usize = 16;
    let mut opened = Opened::default();
    for _ in 0..ATTEMPTS {
        match dir::open(parent, name) {
            Ok(dir) => return Ok(dir),
            Err(Errno::NOENT) => match rustix::fs::mkdirat(parent, name.as_os_str(), Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(Errno::ACCESS) => opened.parent(parent)?,
                Err(errno) => return Err(errno),
            },
            Err(Errno::NOTDIR | Errno::LOOP) => {
                match rustix::fs::unlinkat(parent, name.as_os_str(), AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT | Errno::ISDIR) => {}
                    Err(Errno::ACCESS) => opened.parent(parent)?,
                    Err(errno) => return Err(errno),
                }
            }
            Err(Errno::ACCESS) => opened.itself(parent, name)?,
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::BUSY)
}

/// What this process, the owner, has opened for itself. Once is enough: then it is not the mode.
#[derive(Default)]
struct Opened {
    parent: bool,
    itself: bool,
}

impl Opened {
    /// The directory that something is to be made in. Its own metadata comes once more: an entry of it
    /// changes.
    fn parent(&mut self, parent: &OwnedFd) -> Result<(), Errno> {
        if rights::overrides_permissions() || std::mem::replace(&mut self.parent, true) {
            return Err(Errno::ACCESS);
        }
        let mode = Mode::from_raw_mode(Stat::of_fd(parent)?.identity.mode & 0o7777);
        rustix::fs::fchmod(parent, mode | Mode::RWXU)
    }

    fn itself(&mut self, parent: &OwnedFd, name: &Name) -> Result<(), Errno> {
        if std::mem::replace(&mut self.itself, true) {
            return Err(Errno::ACCESS);
        }
        let_owner_in(parent, name)
    }
}

/// Lets this process, the owner, into the directory `name` in `parent`, which it may not open.
pub fn let_owner_in(parent: &OwnedFd, name: &Name) -> Result<(), Errno> {
    let handle = file::open_handle(parent, name)?;
    if Stat::of_fd(&handle)?.kind != Kind::Directory {
        return Err(Errno::ACCESS);
    }
    rustix::fs::chmod(xattr::proc_link(&handle), Mode::RWXU)
}

/// Lets this process, the owner, change a directory; the real mode comes with its metadata.
pub fn allow_owner(dir: &OwnedFd, path: &RelPath) -> Result<(), Fault> {
    let failed = |errno| {
        fault::at(
            Side::Destination,
            path,
            "get access to the directory",
            errno,
        )
    };
    let stat = Stat::of_fd(dir).map_err(failed)?;
    if stat.identity.mode & 0o700 == 0o700 {
        return Ok(());
    }
    let mode = Mode::from_raw_mode(stat.identity.mode & 0o7777) | Mode::RWXU;
    rustix::fs::fchmod(dir, mode).map_err(failed)
}

/// A new, empty file in the place of whatever is there, open for reading and writing.
pub(crate) fn file_anew(dir: impl AsFd, name: &Name, path: &RelPath) -> Result<OwnedFd, Fault> {
    let dir = dir.as_fd();
    remove::remove(dir, name).map_err(|resistance| {
        fault::resistance(path, "remove what the file replaces", &resistance)
    })?;
    new_file(dir, name)
        .map_err(|errno| fault::at(Side::Destination, path, "create the file", errno))
}

/// A new, empty file where nothing is, open for reading and writing.
pub(crate) fn new_file(dir: impl AsFd, name: &Name) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // Nobody but the owner may look before owner and mode are right.
    rustix::fs::openat2(
        dir,
        name.as_os_str(),
        flags,
        Mode::RUSR | Mode::WUSR,
        dir::CONFINED,
    )
}

/// Makes `name` in `dir` the special entry `node`, whatever was there.
pub fn node(
    dir: &OwnedFd,
    name: &Name,
    path: &RelPath,
    (meta, node): (&Meta, &Node),
    view: View,
) -> Result<(), Fault> {
    bare_node(dir, name, path, node)?;
    metadata::to_made(dir, name, path, meta, view)
}

/// As [`node`](fn@node), without its metadata.
pub(crate) fn bare_node(
    dir: &OwnedFd,
    name: &Name,
    path: &RelPath,
    node: &Node,
) -> Result<(), Fault> {
    let failed = |what: &str, errno| fault::at(Side::Destination, path, what, errno);
    remove::remove(dir, name).map_err(|resistance| {
        fault::resistance(path, "remove what the entry replaces", &resistance)
    })?;
    let make = |kind, device: (u32, u32)| {
        let device = rustix::fs::makedev(device.0, device.1);
        rustix::fs::mknodat(dir, name.as_os_str(), kind, Mode::RUSR | Mode::WUSR, device)
    };
    let made = match node {
        Node::Symlink { target } => rustix::fs::symlinkat(target.as_slice(), dir, name.as_os_str()),
        Node::Fifo => make(FileType::Fifo, (0, 0)),
        Node::Socket => make(FileType::Socket, (0, 0)),
        Node::CharDevice { device } => make(FileType::CharacterDevice, *device),
        Node::BlockDevice { device } => make(FileType::BlockDevice, *device),
        Node::File { .. } | Node::Directory => Err(Errno::INVAL),
    };
    made.map_err(|errno| failed("make the entry", errno))
}
