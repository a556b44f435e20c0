//! Reads one entry: its metadata, and what of its content fits in memory.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use livmig_proto::{
    control::{Fault, FaultCode, Reasons, Side},
    entry::{Meta, Node, Xattr},
    name::{Name, RelPath},
};
use rustix::io::Errno;

use super::sight;
use crate::source::shared::Shared;
use crate::{
    fault,
    fs::{
        entry::{meta_of, node},
        file,
        metadata::xattr::{self, Reach, View},
        space::footprint::{self, CacheUse},
        stat::{Kind, Stat},
        sys,
    },
    hash,
};

/// A regular file that was opened and found to be what was expected.
#[derive(Debug)]
pub struct OpenFile {
    /// The handle.
    pub fd: OwnedFd,
    /// What it was before the first read.
    pub before: Stat,
    /// What reading it leaves in the page cache.
    cache: CacheUse,
}

/// What became of an attempt to read something.
#[derive(Debug)]
pub enum ReadAttempt<T> {
    /// It was read.
    Read(T),
    /// There was nothing of that name at this moment. Whether it is gone, a later listing tells.
    Gone,
    /// It became something of another kind, and is to be looked at as that.
    Changed,
}

impl<T> ReadAttempt<T> {
    /// What was read, as something else.
    pub fn map<U>(self, into: impl FnOnce(T) -> U) -> ReadAttempt<U> {
        match self {
            Self::Read(read) => ReadAttempt::Read(into(read)),
            Self::Gone => ReadAttempt::Gone,
            Self::Changed => ReadAttempt::Changed,
        }
    }
}

/// Opens the file `name` in `dir`. What was opened decides: it may be another file than the one that
/// was listed, if that was replaced, and one or the other is right.
///
/// # Errors
/// When it may not or cannot be read; in a final pass also when somebody has it open for writing.
pub fn open(
    shared: &Shared<'_>,
    dir: BorrowedFd<'_>,
    path: &RelPath,
    name: &Name,
) -> Result<ReadAttempt<OpenFile>, Fault> {
    let fd = match file::open_read(dir, name) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Ok(ReadAttempt::Gone),
        // What is opened in place of a regular file answers with one of these.
        Err(Errno::LOOP | Errno::NXIO | Errno::NOTDIR | Errno::ISDIR) => {
            return Ok(ReadAttempt::Changed);
        }
        Err(errno) => return Err(fault::at(Side::Source, path, "open the file", errno)),
    };
    let before = Stat::of_fd(&fd)
        .map_err(|errno| fault::at(Side::Source, path, "look at the file", errno))?;
    if before.kind != Kind::File {
        return Ok(ReadAttempt::Changed);
    }
    sight::sound(path, &before)?;
    shared.reads(&before);
    if shared.is_final() && sys::is_open_for_writing(fd.as_fd()) {
        return Err(fault::named(
            Side::Source,
            FaultCode::StillWritten,
            path,
            "source: a process still has the file open for writing",
        ));
    }
    if shared.proof.is_cold(&before.identity) {
        // A write that has begun stamped the file when it did, perhaps before the flush.
        file::await_writer(&fd);
    }
    if hash::takes_several(before.identity.size) {
        if shared.reads_gently() {
            file::expect_nothing(&fd);
        } else {
            file::expect_sequential(&fd);
        }
    }
    Ok(ReadAttempt::Read(OpenFile {
        fd,
        before,
        cache: shared.cache_use(),
    }))
}

/// Reads up to `limit` bytes from the beginning into `buffer`.
pub fn whole(
    open: &OpenFile,
    path: &RelPath,
    buffer: &mut Vec<u8>,
    limit: u64,
) -> Result<(), Fault> {
    buffer.resize(usize::try_from(limit).unwrap_or(usize::MAX), 0);
    let read = footprint::read_whole(&open.fd, buffer, open.cache)
        .map_err(|errno| fault::at(Side::Source, path, "read the file", errno))?;
    buffer.truncate(read);
    Ok(())
}

/// The metadata of an entry that is carried, and why not all of it is.
pub fn meta(
    shared: &Shared<'_>,
    reach: &Reach<'_>,
    path: &RelPath,
    stat: &Stat,
) -> Result<(Meta, Reasons), Fault> {
    sight::sound(path, stat)?;
    let (carried, left) = attributes(shared, reach, path)?;
    Ok((meta_of(stat, carried), left))
}

/// The attributes of an entry that are carried; the others are told of, and why they are not
/// is to be remembered with the entry ([`Seen::left`](crate::catalog::segment::Seen::left)).
pub fn attributes(
    shared: &Shared<'_>,
    reach: &Reach<'_>,
    path: &RelPath,
) -> Result<(Vec<Xattr>, Reasons), Fault> {
    let attributes = xattr::read(reach, View::Source(shared.carry))
        .map_err(|error| fault::unread_attributes(Side::Source, path, error))?;
    for (reason, name) in &attributes.left {
        shared.counts.leave(path, *reason, fault::shown(name));
    }
    let left = attributes.left.iter().map(|(reason, _)| *reason).collect();
    Ok((attributes.carried, left))
}

/// A symbolic link, fifo, socket or device, whole.
#[derive(Debug)]
pub struct SpecialEntry {
    /// Its metadata.
    pub meta: Meta,
    /// What it is.
    pub node: Node,
    /// What it was when it was read.
    pub stat: Stat,
    /// What of it is left out.
    pub left: Reasons,
}

/// Reads the special entry `name` in `dir`, which was `listed` as of this kind.
pub fn special(
    shared: &Shared<'_>,
    dir: BorrowedFd<'_>,
    path: &RelPath,
    name: &Name,
    listed: Kind,
) -> Result<ReadAttempt<SpecialEntry>, Fault> {
    let failed = |what: &str, errno| fault::at(Side::Source, path, what, errno);
    // Reading a link moves its access time, unless the mount leaves that alone.
    let quiet = (listed == Kind::Symlink)
        .then(|| shared.volume.open_quietly(path))
        .flatten();
    let is_quiet = quiet.is_some();
    let handle = match quiet.map_or_else(|| file::open_handle(dir, name), Ok) {
        Ok(handle) => handle,
        Err(Errno::NOENT) => return Ok(ReadAttempt::Gone),
        Err(errno) => return Err(failed("open the entry", errno)),
    };
    let stat = Stat::of_fd(&handle).map_err(|errno| failed("look at the entry", errno))?;
    if stat.kind == Kind::Symlink && !is_quiet {
        shared.reads(&stat);
    }
    let node = node(&handle, &stat).map_err(|errno| failed("read the link", errno))?;
    // It became a file or directory since it was listed.
    let Some(node) = node else {
        return Ok(ReadAttempt::Changed);
    };
    let (meta, mut left) = meta(shared, &Reach::of_handle(&handle), path, &stat)?;
    left.extend(sight::tell_special(shared, path, &stat));
    Ok(ReadAttempt::Read(SpecialEntry {
        meta,
        node,
        stat,
        left,
    }))
}
