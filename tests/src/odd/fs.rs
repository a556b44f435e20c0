//! The file system: each call is passed on to the backing tree, unless it is struck.

use std::{
    ffi::OsStr,
    os::unix::fs::FileExt as _,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use fuser::{
    FileAttr, FileHandle, FopenFlags, INodeNo, OpenFlags, ReplyDirectory, Request, TimeOrNow,
};
use rustix::{
    fs::{AtFlags, Gid, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid},
    io::Errno,
};

use super::{
    nodes::{Node, Nodes},
    oddity::Oddity,
    open::{Handle, Open, list},
    shown,
};

/// Numbers of inodes that are made up begin here.
const MADE_UP: u64 = 1 << 40;

/// What a slow answer takes.
const SLOW: Duration = Duration::from_millis(3);

/// A tree that is shown as one oddity has it.
#[derive(Debug)]
pub(super) struct Odd {
    oddity: Oddity,
    pub(super) nodes: Nodes,
    pub(super) open: Open,
    looks: AtomicU64,
    /// Whether what happens every other time, or once, has happened.
    happened: AtomicBool,
}

impl Odd {
    /// Shows the tree at `backing`, where entries called `victim` are struck, or all if that is
    /// empty.
    pub(super) fn new(backing: &Path, oddity: Oddity, victim: &OsStr) -> Result<Self, Errno> {
        Ok(Self {
            oddity,
            nodes: Nodes::new(backing, victim)?,
            open: Open::default(),
            looks: AtomicU64::new(MADE_UP),
            happened: AtomicBool::new(false),
        })
    }

    /// The number by which the kernel knows an inode must be the same each time, so it is shown
    /// in the answer to a look alone.
    pub(super) fn known(&self, id: u64, node: &Node, stat: &Stat) -> FileAttr {
        let attr = shown::plain(id, stat);
        if node.is_struck() {
            shown::odd(attr, self.oddity)
        } else {
            attr
        }
    }

    pub(super) fn looked_at(&self, id: u64, node: &Node, stat: &Stat) -> FileAttr {
        let looks = self.looks.fetch_add(1, Ordering::Relaxed);
        let number = shown::number(stat, INodeNo(id), self.oddity, looks);
        FileAttr {
            ino: INodeNo(number),
            ..self.known(id, node, stat)
        }
    }

    pub(super) fn is(&self, oddity: Oddity) -> bool {
        self.oddity == oddity
    }

    /// Waits, or fails, as is odd before anything is done with what an inode holds.
    fn before_content(&self, node: &Node) -> Result<(), Errno> {
        match self.oddity {
            Oddity::Slow => std::thread::sleep(SLOW),
            Oddity::Stale if node.is_struck() => return Err(Errno::STALE),
            Oddity::Broken if node.is_struck() => return Err(Errno::IO),
            _ => {}
        }
        Ok(())
    }

    pub(super) fn entry(&self, parent: INodeNo, name: &OsStr) -> Result<FileAttr, Errno> {
        let (id, node, stat) = self.nodes.find(&*self.nodes.get(parent.0)?, name)?;
        Ok(self.known(id, &node, &stat))
    }

    /// The name in the backing tree that `name` finds.
    pub(super) fn found(&self, parent: &Node, name: &OsStr) -> std::ffi::OsString {
        let plain = || name.to_owned();
        if !self.is(Oddity::FoldedCase)
            || rustix::fs::statat(&parent.fd, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
        {
            return plain();
        }
        let folded = |name: &OsStr| name.to_string_lossy().to_lowercase();
        let listed = list(parent).unwrap_or_default().into_iter();
        listed
            .map(|(_, _, other)| other)
            .find(|other| folded(other) == folded(name))
            .unwrap_or_else(plain)
    }

    pub(super) fn lookup_entry(&self, parent: INodeNo, name: &OsStr) -> Result<FileAttr, Errno> {
        if self.is(Oddity::Slow) {
            std::thread::sleep(SLOW);
        }
        let once = self.is(Oddity::AbsentOnce) && self.nodes.strikes(name);
        let name = self.found(&*self.nodes.get(parent.0)?, name);
        let entry = self.entry(parent, &name)?;
        if once && !self.happened.swap(true, Ordering::Relaxed) {
            self.nodes.forget(entry.ino.0, 1);
            return Err(Errno::NOENT);
        }
        Ok(entry)
    }

    /// Gives a new entry to who asked for it.
    pub(super) fn made(
        &self,
        parent: INodeNo,
        name: &OsStr,
        request: &Request,
    ) -> Result<FileAttr, Errno> {
        let dir = self.nodes.get(parent.0)?;
        let owner = Uid::from_raw(request.uid());
        let stat = rustix::fs::statat(&dir.fd, name, AtFlags::SYMLINK_NOFOLLOW)?;
        // A directory of mode 2xxx gives its group; that has happened already.
        let group = if dir.stat()?.st_mode & 0o2000 == 0 {
            Some(Gid::from_raw(request.gid()))
        } else {
            None
        };
        if stat.st_uid != owner.as_raw() || group.is_some_and(|group| stat.st_gid != group.as_raw())
        {
            rustix::fs::chownat(&dir.fd, name, Some(owner), group, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        self.entry(parent, name)
    }

    pub(super) fn open_file(
        &self,
        ino: INodeNo,
        flags: OpenFlags,
    ) -> Result<(FileHandle, FopenFlags), Errno> {
        let node = self.nodes.get(ino.0)?;
        // The kernel has decided who may; what it does by itself is not done twice.
        let without = OFlags::CREATE | OFlags::EXCL | OFlags::DIRECT | OFlags::NOFOLLOW;
        let flags = OFlags::from_bits_retain(flags.0.unsigned_abs()) & !without;
        let file = rustix::fs::open(node.path(), flags | OFlags::CLOEXEC, Mode::empty())?;
        let direct = self.is(Oddity::SizeZero) && node.is_struck();
        let how = if direct {
            FopenFlags::FOPEN_DIRECT_IO
        } else {
            FopenFlags::empty()
        };
        Ok((FileHandle(self.open.keep(Handle::File(file.into()))), how))
    }

    pub(super) fn read_file(
        &self,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
    ) -> Result<Vec<u8>, Errno> {
        let node = self.nodes.get(ino.0)?;
        self.before_content(&node)?;
        let stat = node.stat()?;
        if self.is(Oddity::GoneWhenUnlinked) && stat.st_nlink == 0 {
            return Err(Errno::STALE);
        }
        let half = u64::try_from(stat.st_size).unwrap_or(0) / 2;
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        let handle = self.open.get(fh.0)?;
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let at = offset + u64::try_from(filled).unwrap_or(0);
            match handle
                .file()?
                .read_at(rest, at)
                .map_err(|error| errno(&error))?
            {
                0 => break,
                read => filled += read,
            }
        }
        let end = offset + u64::try_from(filled).unwrap_or(0);
        if self.is(Oddity::BreaksHalfWay) && node.is_struck() && end > half {
            return Err(Errno::IO);
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    pub(super) fn fill(
        &self,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        reply: &mut ReplyDirectory,
    ) -> Result<(), Errno> {
        let node = self.nodes.get(ino.0)?;
        self.before_content(&node)?;
        let handle = self.open.get(fh.0)?;
        let mut listed = handle.listing()?;
        if offset == 0 {
            *listed = list(&node)?;
            self.miss(&mut listed);
        }
        let breaks = self.is(Oddity::ListingBreaks) && node.is_struck();
        let end = if breaks {
            listed.len() / 2
        } else {
            listed.len()
        };
        let begin = usize::try_from(offset).unwrap_or(usize::MAX);
        if breaks && begin >= end {
            return Err(Errno::IO);
        }
        for (index, (number, kind, name)) in listed.iter().enumerate().take(end).skip(begin) {
            let next = u64::try_from(index + 1).unwrap_or(u64::MAX);
            if reply.add(INodeNo(*number), next, *kind, name) {
                break;
            }
        }
        Ok(())
    }

    /// Takes from a listing what it misses this time.
    fn miss(&self, listed: &mut Vec<super::open::Listed>) {
        let named = |name: &OsStr| name != "." && name != ".." && self.nodes.strikes(name);
        let Some(at) = listed.iter().position(|(_, _, name)| named(name)) else {
            return;
        };
        let misses = match self.oddity {
            Oddity::MissedOnce => !self.happened.swap(true, Ordering::Relaxed),
            Oddity::MissedOften => !self.happened.fetch_xor(true, Ordering::Relaxed),
            _ => false,
        };
        if misses {
            listed.remove(at);
        }
    }

    pub(super) fn attribute(&self, ino: INodeNo, name: &OsStr) -> Result<Vec<u8>, Errno> {
        let node = self.nodes.get(ino.0)?;
        if self.is(Oddity::AttributesRefused) && node.is_struck() {
            return Err(Errno::ACCESS);
        }
        let mut value = Vec::with_capacity(64 * 1024);
        let space = rustix::buffer::spare_capacity(&mut value);
        rustix::fs::getxattr(node.path(), name, space)?;
        Ok(value)
    }

    pub(super) fn attributes(&self, ino: INodeNo) -> Result<Vec<u8>, Errno> {
        let mut names = Vec::with_capacity(64 * 1024);
        let space = rustix::buffer::spare_capacity(&mut names);
        rustix::fs::listxattr(self.nodes.get(ino.0)?.path(), space)?;
        Ok(names)
    }

    pub(super) fn set(&self, ino: INodeNo, change: &Change) -> Result<FileAttr, Errno> {
        let node = self.nodes.get(ino.0)?;
        let path = node.path();
        if change.owner.is_some() || change.group.is_some() {
            let owner = change.owner.map(Uid::from_raw);
            let group = change.group.map(Gid::from_raw);
            rustix::fs::chownat(&node.fd, c"", owner, group, AtFlags::EMPTY_PATH)?;
        }
        if let Some(size) = change.size {
            let file = rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
            rustix::fs::ftruncate(&file, size)?;
        }
        if let Some(mode) = change.mode {
            rustix::fs::chmod(&path, Mode::from_raw_mode(mode & 0o7777))?;
        }
        if change.atime.is_some() || change.mtime.is_some() {
            let times = Timestamps {
                last_access: timespec(change.atime),
                last_modification: timespec(change.mtime),
            };
            rustix::fs::utimensat(&node.fd, c"", &times, AtFlags::EMPTY_PATH)?;
        }
        Ok(self.looked_at(ino.0, &node, &node.stat()?))
    }
}

/// What is set of an inode.
pub(super) struct Change {
    pub(super) mode: Option<u32>,
    pub(super) owner: Option<u32>,
    pub(super) group: Option<u32>,
    pub(super) size: Option<u64>,
    pub(super) atime: Option<TimeOrNow>,
    pub(super) mtime: Option<TimeOrNow>,
}

fn timespec(time: Option<TimeOrNow>) -> Timespec {
    let (tv_sec, tv_nsec) = match time {
        None => (0, UTIME_OMIT),
        Some(TimeOrNow::Now) => (0, UTIME_NOW),
        Some(TimeOrNow::SpecificTime(time)) => shown::given(time),
    };
    Timespec { tv_sec, tv_nsec }
}

pub(super) fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
