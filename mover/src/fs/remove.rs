//! Removal of an entry and everything below it, by handles: a link is unlinked, never followed.

use std::os::fd::{AsFd, OwnedFd};

use livmig_proto::name::Name;
use rustix::{
    fs::{AtFlags, Mode},
    io::Errno,
};

use super::dir;

/// Removes `name` from `parent`, whatever it is; nothing there is fine. How many entries went.
pub fn remove(parent: impl AsFd, name: &Name) -> Result<u64, Errno> {
    match rustix::fs::unlinkat(parent.as_fd(), name.as_os_str(), AtFlags::empty()) {
        Ok(()) => return Ok(1),
        Err(Errno::NOENT) => return Ok(0),
        // Linux says ISDIR, POSIX says PERM.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(errno),
    }
    remove_tree(parent, name)
}

/// Removes a directory and all below it, without recursion: depth costs handles, not stack.
fn remove_tree(parent: impl AsFd, name: &Name) -> Result<u64, Errno> {
    struct Level {
        dir: OwnedFd,
        name: Name,
        rest: Vec<Name>,
    }
    let enter = |parent: &dyn AsFdDyn, name: &Name| -> Result<Level, Errno> {
        let dir = open_writable(parent.fd(), name)?;
        let rest = dir::list(&dir)?;
        Ok(Level {
            dir,
            name: name.clone(),
            rest,
        })
    };
    let mut removed = 0;
    let mut stack = vec![enter(&parent.as_fd(), name)?];
    while let Some(level) = stack.last_mut() {
        if let Some(child) = level.rest.pop() {
            match rustix::fs::unlinkat(&level.dir, child.as_os_str(), AtFlags::empty()) {
                Ok(()) => removed += 1,
                Err(Errno::NOENT) => {}
                Err(Errno::ISDIR | Errno::PERM) => {
                    let below = enter(&level.dir.as_fd(), &child)?;
                    stack.push(below);
                }
                Err(errno) => return Err(errno),
            }
            continue;
        }
        let Some(done) = stack.pop() else { break };
        let above = stack
            .last()
            .map_or_else(|| parent.as_fd(), |level| level.dir.as_fd());
        rustix::fs::unlinkat(above, done.name.as_os_str(), AtFlags::REMOVEDIR)?;
        removed += 1;
    }
    Ok(removed)
}

/// Opens a directory whose content must change; its owner may have to allow that first.
fn open_writable(parent: impl AsFd, name: &Name) -> Result<OwnedFd, Errno> {
    let make_writable = |dir: &OwnedFd| rustix::fs::fchmod(dir, Mode::RWXU);
    match dir::open(parent.as_fd(), name) {
        Ok(dir) => {
            if !rustix::process::geteuid().is_root() {
                make_writable(&dir)?;
            }
            Ok(dir)
        }
        Err(Errno::ACCESS) => {
            let handle = super::file::open_handle(parent.as_fd(), name)?;
            rustix::fs::chmod(super::xattr::proc_link(&handle), Mode::RWXU)?;
            dir::open(parent, name)
        }
        Err(errno) => Err(errno),
    }
}

/// `AsFd` as an object, for one closure that takes two kinds of handle.
trait AsFdDyn {
    fn fd(&self) -> std::os::fd::BorrowedFd<'_>;
}

impl<T: AsFd> AsFdDyn for T {
    fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.as_fd()
    }
}
