//! Applies metadata: owner, then mode, then attributes, then capabilities, then time. Each
//! later one survives those before it and no other order does: a change of owner clears set-id
//! bits and capabilities, a change of mode rewrites the mask of an access control list.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use livmig_proto::{
    control::{Fault, FaultCode, Side},
    entry::{Meta, Time},
    name::{Name, RelPath},
};
use rustix::{
    fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid},
    io::Errno,
};

use super::times;
use crate::{
    advice::{self, Doing},
    fault,
    fs::{
        entry::meta_of,
        file,
        metadata::{
            rights,
            xattr::{self, Reach, View, WriteError},
        },
        stat::{Kind, Stat},
        volume,
    },
};

/// Applies `meta` to the open file or directory `fd`.
pub fn to_fd(fd: impl AsFd, path: &RelPath, meta: &Meta, view: View) -> Result<(), Fault> {
    let fd = fd.as_fd();
    let stat = Stat::of_fd(fd).map_err(|errno| failed(path, "look at the entry", errno))?;
    let owner_differs = owner_differs(&stat, meta);
    if owner_differs {
        rustix::fs::fchown(fd, Some(uid(meta)), Some(gid(meta)))
            .map_err(|errno| owner_failed(path, meta, errno))?;
    }
    let set_mode =
        |mode| rustix::fs::fchmod(fd, mode).map_err(|errno| failed(path, "set the mode", errno));
    let opened = locks_attributes(&stat, meta);
    let now = if opened {
        mode(meta) | Mode::RUSR | Mode::WUSR
    } else {
        mode(meta)
    };
    // A change of owner may have changed it.
    if owner_differs || stat.identity.mode & 0o7777 != now.bits() {
        set_mode(now)?;
    }
    attributes(fd, &Reach::of_open(&fd), path, meta, view)?;
    if opened {
        set_mode(mode(meta))?;
    }
    // Attributes of a list may have touched the mode's bits; what came out is checked later.
    rustix::fs::futimens(fd, &timestamps(meta.mtime))
        .map_err(|errno| failed(path, "set the modification time", errno))?;
    times::check(fd, path, meta.mtime, &stat)
}

/// Whether the mode that an entry gets keeps this process, its owner, from reading or setting users'
/// attributes: then it comes after them.
fn locks_attributes(stat: &Stat, meta: &Meta) -> bool {
    meta.mode & 0o600 != 0o600
        && !rights::overrides_permissions()
        && stat.identity.uid == rustix::process::geteuid().as_raw()
}

/// Brings the open directory `fd`, which belongs to somebody else, to `meta` but for its time. What
/// is as it should be already is left alone: its owner alone may set it, even to what it is.
pub fn to_foreign(fd: impl AsFd, path: &RelPath, meta: &Meta, view: View) -> Result<(), Fault> {
    let fd = fd.as_fd();
    let stat = Stat::of_fd(fd).map_err(|errno| failed(path, "look at the entry", errno))?;
    if owner_differs(&stat, meta) {
        rustix::fs::fchown(fd, Some(uid(meta)), Some(gid(meta)))
            .map_err(|errno| owner_failed(path, meta, errno))?;
    }
    if stat.identity.mode & 0o7777 != meta.mode {
        rustix::fs::fchmod(fd, mode(meta)).map_err(|errno| {
            let (is, wanted) = (stat.identity.mode & 0o7777, meta.mode);
            let what = format!("set the mode, which is {is:o}, to {wanted:o}");
            failed(path, &what, errno)
        })?;
    }
    attributes(fd, &Reach::of_open(&fd), path, meta, view)
}

/// Applies `meta` to the entry `name` in `dir`, which may be of any kind.
pub fn to_entry(
    dir: impl AsFd,
    name: &Name,
    path: &RelPath,
    meta: &Meta,
    view: View,
) -> Result<(), Fault> {
    let dir = dir.as_fd();
    let entry = Special::of(dir, name, path)?;
    match entry.stat.kind {
        Kind::File => {
            let file = open_for_metadata(dir, name, path)?;
            to_fd(&file, path, meta, view)
        }
        Kind::Directory => {
            let dir = crate::fs::dir::open(dir, name)
                .map_err(|errno| failed(path, "open the directory", errno))?;
            to_fd(&dir, path, meta, view)
        }
        _ => entry.to(path, meta, view),
    }
}

/// Applies `meta` to the entry `name` in `dir`, which is none that can be opened and was made just now.
pub fn to_made(
    dir: impl AsFd,
    name: &Name,
    path: &RelPath,
    meta: &Meta,
    view: View,
) -> Result<(), Fault> {
    let special = Special::of(dir.as_fd(), name, path)?;
    // A new link has no attributes, and seldom gets some.
    if special.stat.kind == Kind::Symlink && meta.xattrs.is_empty() {
        special.own(path, meta)?;
        special.date(path, meta)
    } else {
        special.to(path, meta, view)
    }
}

/// An entry that cannot be opened: it is reached through a handle (`O_PATH`), and by name only where the
/// kernel offers nothing else.
struct Special<'e> {
    dir: BorrowedFd<'e>,
    name: &'e Name,
    stat: Stat,
}

impl<'e> Special<'e> {
    /// The entry `name` in `dir`, as it looks now.
    fn of(dir: BorrowedFd<'e>, name: &'e Name, path: &RelPath) -> Result<Self, Fault> {
        let stat =
            Stat::of_entry(dir, name).map_err(|errno| failed(path, "look at the entry", errno))?;
        Ok(Self { dir, name, stat })
    }

    fn to(&self, path: &RelPath, meta: &Meta, view: View) -> Result<(), Fault> {
        self.own(path, meta)?;
        let handle = file::open_handle(self.dir, self.name)
            .map_err(|errno| failed(path, "open the entry", errno))?;
        if self.stat.kind != Kind::Symlink {
            // fchmod refuses such a handle; its entry in /proc leads to the same inode.
            rustix::fs::chmod(xattr::proc_link(&handle), mode(meta))
                .map_err(|errno| failed(path, "set the mode", errno))?;
        }
        attributes(&handle, &Reach::of_handle(&handle), path, meta, view)?;
        self.date(path, meta)
    }

    fn own(&self, path: &RelPath, meta: &Meta) -> Result<(), Fault> {
        if !owner_differs(&self.stat, meta) {
            return Ok(());
        }
        rustix::fs::chownat(
            self.dir,
            self.name.as_os_str(),
            Some(uid(meta)),
            Some(gid(meta)),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .map_err(|errno| owner_failed(path, meta, errno))
    }

    fn date(&self, path: &RelPath, meta: &Meta) -> Result<(), Fault> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(
            self.dir,
            self.name.as_os_str(),
            &timestamps(meta.mtime),
            flags,
        )
        .map_err(|errno| failed(path, "set the modification time", errno))?;
        times::check_entry((self.dir, self.name), path, meta.mtime, &self.stat)
    }
}

fn open_for_metadata(dir: impl AsFd, name: &Name, path: &RelPath) -> Result<OwnedFd, Fault> {
    let dir = dir.as_fd();
    match file::open_read(dir, name) {
        Err(Errno::ACCESS) => {
            allow_owner(dir, name, path)?;
            file::open_read(dir, name)
        }
        result => result,
    }
    .map_err(|errno| failed(path, "open the file", errno))
}

/// Lets this process, the owner, read and write the file `name`; the real mode comes with its
/// metadata.
pub fn allow_owner(dir: impl AsFd, name: &Name, path: &RelPath) -> Result<(), Fault> {
    let handle =
        file::open_handle(dir, name).map_err(|errno| failed(path, "open the entry", errno))?;
    rustix::fs::chmod(xattr::proc_link(&handle), Mode::RUSR | Mode::WUSR)
        .map_err(|errno| failed(path, "get access to the file", errno))
}

fn attributes(
    fd: impl AsFd,
    reach: &Reach<'_>,
    path: &RelPath,
    meta: &Meta,
    view: View,
) -> Result<(), Fault> {
    let present = xattr::read(reach, view)
        .map_err(|error| fault::unread_attributes(Side::Destination, path, error))?
        .carried;
    xattr::write(reach, &present, &meta.xattrs).map_err(|failure| {
        let WriteError { what, name, errno } = failure;
        let name = fault::shown(&name);
        let mut fault = failed(
            path,
            &format!("{what} the extended attribute {name}"),
            errno,
        );
        // One attribute that does not fit is no full disk, unless the disk is full.
        let full = errno == Errno::NOSPC && volume::is_full(fd);
        if !full
            && matches!(
                errno,
                Errno::NOSPC | Errno::OPNOTSUPP | Errno::TOOBIG | Errno::RANGE
            )
        {
            fault.code = FaultCode::Unsupported;
            fault.message = format!(
                "destination: the file system cannot hold the extended attribute {name} ({errno})"
            );
            fault = fault.advised(advice::ATTRIBUTE);
        }
        fault
    })
}

fn owner_differs(stat: &Stat, meta: &Meta) -> bool {
    (stat.identity.uid, stat.identity.gid) != (meta.uid, meta.gid)
}

fn owner_failed(path: &RelPath, meta: &Meta, errno: Errno) -> Fault {
    let what = format!("give the entry to {}:{}", meta.uid, meta.gid);
    fault::doing(Side::Destination, path, &what, errno, Doing::GivingAway)
}

fn uid(meta: &Meta) -> Uid {
    Uid::from_raw(meta.uid)
}

fn gid(meta: &Meta) -> Gid {
    Gid::from_raw(meta.gid)
}

fn mode(meta: &Meta) -> Mode {
    Mode::from_raw_mode(meta.mode)
}

fn timestamps(mtime: Time) -> Timestamps {
    Timestamps {
        // Not carried; but some file systems in user space set both times or none, without a word.
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_NOW,
        },
        last_modification: Timespec {
            tv_sec: mtime.seconds,
            tv_nsec: i64::from(mtime.nanoseconds),
        },
    }
}

fn failed(path: &RelPath, what: &str, errno: Errno) -> Fault {
    fault::at(Side::Destination, path, what, errno)
}

/// The metadata of an entry, as the destination has it.
pub fn read(reach: &Reach<'_>, path: &RelPath, stat: &Stat, view: View) -> Result<Meta, Fault> {
    let attributes = xattr::read(reach, view)
        .map_err(|error| fault::unread_attributes(Side::Destination, path, error))?;
    Ok(tellable(meta_of(stat, attributes.carried)))
}

/// Metadata as it can be told and kept. A damaged time is told as one that nothing has, so that it is
/// set anew.
fn tellable(meta: Meta) -> Meta {
    if meta.mtime.nanoseconds <= 999_999_999 {
        return meta;
    }
    let mtime = Time {
        seconds: i64::MIN,
        nanoseconds: 0,
    };
    Meta { mtime, ..meta }
}
