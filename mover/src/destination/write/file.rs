//! A file that is being written: opened in place or anew, filled, closed.

use std::os::fd::{AsFd, OwnedFd};

use livmig_proto::{
    control::{Fault, FaultCode, Side},
    entry::{Meta, Node, entry_digest},
    frame::{OpenMode, Reserve},
    name::{Name, RelPath},
    tree::{Digest, is_zero},
};
use rustix::{
    fs::{FallocateFlags, OFlags},
    io::Errno,
};

use super::{copy, create, metadata, unshare};
use crate::destination::touched::{BlockRange, Written, WrittenContent};
use crate::{
    fault,
    fs::{
        file,
        metadata::xattr::View,
        space::reserved::Zeros,
        stat::{Kind, Stat},
    },
};

/// Ranges that are noted one by one; a file with more is read back whole.
const RANGES_MAX: usize = 65_536;

/// A file between its open and its close.
#[derive(Debug)]
pub struct Writing {
    name: Name,
    path: RelPath,
    fd: OwnedFd,
    /// The old content, for copies.
    old: Option<OwnedFd>,
    /// What pages of zeros become.
    zeros: Zeros,
    /// A size that it is known to have at least.
    size: u64,
    /// The root of the content that is written over.
    base: Digest,
    /// What was written; nothing when all of it must be read back.
    ranges: Option<Vec<BlockRange>>,
}

impl Writing {
    /// Opens the file `name` in `dir`; `names` may lead to what is written in place.
    pub fn open(
        dir: impl AsFd,
        name: &Name,
        path: &RelPath,
        (mode, names): (OpenMode, u32),
        zeros: Zeros,
        base: Digest,
    ) -> Result<Self, Fault> {
        let dir = dir.as_fd();
        let writing = |fd, old, ranges| Self {
            name: name.clone(),
            path: path.clone(),
            fd,
            old,
            zeros,
            size: 0,
            base,
            ranges,
        };
        // Blocks mean nothing without what the source believes to be here. The next pass asks.
        let here = || regular(dir, name, path)?.ok_or_else(|| unlike(path));
        match mode {
            OpenMode::Replace => Ok(writing(create::file_anew(dir, name, path)?, None, None)),
            OpenMode::Rebuild => {
                here()?;
                let old = file::open_read(dir, name)
                    .map_err(|errno| failed(path, "open the file for its old content", errno))?;
                Ok(writing(
                    create::file_anew(dir, name, path)?,
                    Some(old),
                    None,
                ))
            }
            OpenMode::InPlace | OpenMode::Shared if here()?.identity.nlink > names => {
                // All of it is read back: it was written, by us.
                let fd = unshare::file(dir, name, path)?;
                Ok(writing(fd, None, None))
            }
            OpenMode::InPlace | OpenMode::Shared => {
                let opened = writable(dir, name, path)?;
                let stat = opened
                    .as_ref()
                    .map(Stat::of_fd)
                    .transpose()
                    .map_err(|errno| failed(path, "look at the file", errno))?;
                let is_it = |stat: Stat| stat.kind == Kind::File && stat.identity.nlink <= names;
                match opened {
                    Some(fd) if stat.is_some_and(is_it) => {
                        // Space reserved beyond the end would lie within it once the file grows, where
                        // the source counts on a hole. The close reserves what is to be there.
                        let size = stat.map_or(0, |stat| stat.identity.size);
                        rustix::fs::ftruncate(&fd, size).map_err(|errno| {
                            failed(
                                path,
                                "give back the space beyond the end of the file",
                                errno,
                            )
                        })?;
                        Ok(writing(fd, None, Some(Vec::new())))
                    }
                    _ => Err(unlike(path)),
                }
            }
        }
    }

    /// Writes `content` at `offset`.
    pub fn data(&mut self, offset: u64, content: &[u8], digest: Digest) -> Result<(), Fault> {
        let len = u64::try_from(content.len()).unwrap_or(0);
        if self.zeros == Zeros::Hole {
            self.grow_to(offset.saturating_add(len))
                .and_then(|()| self.write_around_zeros(offset, content))
        } else {
            file::write_at(&self.fd, content, offset)
        }
        .map_err(|errno| self.failed("write the file", errno))?;
        self.note(BlockRange {
            offset,
            len,
            digest: Some(digest),
        });
        Ok(())
    }

    /// Sets the size before something is written beyond it: a file system takes more space than is
    /// written there (xfs), and keeps what is a hole then.
    fn grow_to(&mut self, size: u64) -> Result<(), Errno> {
        if size > self.size {
            let now = Stat::of_fd(&self.fd)?.identity.size;
            if size > now {
                rustix::fs::ftruncate(&self.fd, size)?;
            }
            self.size = size.max(now);
        }
        Ok(())
    }

    /// Writes pages that hold something; those of zeros give their space back. A block may hold
    /// both, because holes are as fine as the file system's own blocks.
    fn write_around_zeros(&self, offset: u64, content: &[u8]) -> Result<(), Errno> {
        const PAGE: usize = 4096;
        let mut pages = content.chunks(PAGE).map(is_zero).enumerate().peekable();
        while let Some((first, zero)) = pages.next() {
            let mut end = first + 1;
            while pages.next_if(|(_, next)| *next == zero).is_some() {
                end += 1;
            }
            let bytes = content.get(first * PAGE..(end * PAGE).min(content.len()));
            let bytes = bytes.unwrap_or_default();
            let at = offset + u64::try_from(first * PAGE).unwrap_or(0);
            if zero {
                punch(&self.fd, at, u64::try_from(bytes.len()).unwrap_or(0))?;
            } else {
                file::write_at(&self.fd, bytes, at)?;
            }
        }
        Ok(())
    }

    /// Makes a range zero.
    pub fn zero(&mut self, offset: u64, len: u64, zeros: Zeros) -> Result<(), Fault> {
        let result = match zeros {
            Zeros::Reserved => reserve_zeros(&self.fd, offset, len),
            Zeros::Hole => punch(&self.fd, offset, len),
        };
        result.map_err(|errno| self.failed("write zeros to the file", errno))?;
        self.note(BlockRange {
            offset,
            len,
            digest: None,
        });
        Ok(())
    }

    /// Copies a range of the old content.
    pub fn copy(&mut self, from: u64, offset: u64, len: u64) -> Result<(), Fault> {
        let Some(old) = &self.old else {
            return Err(fault::named(
                Side::Destination,
                FaultCode::Protocol,
                &self.path,
                "destination: was told to copy from a file that is not open",
            ));
        };
        copy::range(old, from, &self.fd, offset, len)
            .map_err(|errno| self.failed("copy within the file", errno))
    }

    /// The file will not be completed: what was kept for that is let go.
    pub fn abandon(&mut self) {
        self.old = None;
    }

    /// Gives the space of a range back, if that can be done. For a file that is abandoned.
    pub fn give_back(&self, offset: u64, len: u64) {
        let _ = punch_only(&self.fd, offset, len);
    }

    /// Cuts what lies beyond `size`, if that can be done. For a file that is abandoned.
    pub fn cut(&self, size: u64) {
        if Stat::of_fd(&self.fd).is_ok_and(|stat| stat.identity.size > size) {
            let _ = rustix::fs::ftruncate(&self.fd, size);
        }
    }

    /// Cuts the file to its size, reserves what is to be beyond, gives it its metadata, and says what
    /// was written.
    pub fn close(
        mut self,
        (size, root): (u64, Digest),
        reserved: Reserve,
        meta: &Meta,
        view: View,
    ) -> Result<Written, Fault> {
        rustix::fs::ftruncate(&self.fd, size)
            .map_err(|errno| self.failed("set the size of the file", errno))?;
        reserve_beyond(&self.fd, reserved)
            .map_err(|errno| self.failed("reserve space beyond the end of the file", errno))?;
        metadata::to_fd(&self.fd, &self.path, meta, view)?;
        let digest = entry_digest(meta, &Node::File { size, root });
        let content = match self.ranges.take() {
            Some(mut ranges) => {
                // What lies beyond the end was cut off.
                ranges.retain(|range| range.offset < size);
                WrittenContent::Ranges {
                    size,
                    root,
                    base: self.base,
                    ranges,
                }
            }
            None => WrittenContent::Whole { size, root },
        };
        Ok(Written {
            name: self.name,
            digest,
            content,
        })
    }

    fn note(&mut self, range: BlockRange) {
        if let Some(ranges) = &mut self.ranges {
            ranges.push(range);
            if ranges.len() > RANGES_MAX {
                self.ranges = None;
            }
        }
    }

    fn failed(&self, what: &str, errno: Errno) -> Fault {
        failed(&self.path, what, errno)
    }
}

/// Makes `name` a file with exactly `content` and `meta`: a new one, or in place, if `mode` says so and
/// nothing else leads to what is there.
pub fn write_whole(
    dir: impl AsFd,
    name: &Name,
    path: &RelPath,
    mode: OpenMode,
    (content, meta): (&[u8], &Meta),
    view: View,
) -> Result<(), Fault> {
    let dir = dir.as_fd();
    let failed = |what: &str, errno| failed(path, what, errno);
    let (fd, is_new) = match create::new_file(dir, name) {
        Ok(fd) => (fd, true),
        Err(Errno::EXIST) => match alone(dir, name, path, mode)? {
            Some(fd) => (fd, false),
            None => (create::file_anew(dir, name, path)?, true),
        },
        Err(errno) => return Err(failed("create the file", errno)),
    };
    file::write_at(&fd, content, 0).map_err(|errno| failed("write the file", errno))?;
    if !is_new {
        // What was longer is cut, and what was reserved beyond the end is given back.
        let size = u64::try_from(content.len()).unwrap_or(0);
        rustix::fs::ftruncate(&fd, size)
            .map_err(|errno| failed("set the size of the file", errno))?;
    }
    metadata::to_fd(&fd, path, meta, view)
}

/// The file `name`, open for writing, if it may be written in place: nothing but this name leads to it.
fn alone(
    dir: impl AsFd,
    name: &Name,
    path: &RelPath,
    mode: OpenMode,
) -> Result<Option<OwnedFd>, Fault> {
    let dir = dir.as_fd();
    let is_alone = |stat: &Stat| stat.kind == Kind::File && stat.identity.nlink == 1;
    if mode == OpenMode::Replace || !regular(dir, name, path)?.is_some_and(|stat| is_alone(&stat)) {
        return Ok(None);
    }
    let Some(fd) = writable(dir, name, path)? else {
        return Ok(None);
    };
    let stat = Stat::of_fd(&fd).map_err(|errno| failed(path, "look at the file", errno))?;
    Ok(is_alone(&stat).then_some(fd))
}

/// What the regular file `name` is; nothing where there is none. Whatever else stands there is never
/// opened: what a device or a driver does then is nobody's to know.
fn regular(dir: impl AsFd, name: &Name, path: &RelPath) -> Result<Option<Stat>, Fault> {
    match Stat::of_entry(dir, name) {
        Ok(stat) => Ok(Some(stat).filter(|stat| stat.kind == Kind::File)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(failed(path, "look at the entry", errno)),
    }
}

fn failed(path: &RelPath, what: &str, errno: Errno) -> Fault {
    fault::at(Side::Destination, path, what, errno)
}

fn unlike(path: &RelPath) -> Fault {
    fault::named(
        Side::Destination,
        FaultCode::Mismatch,
        path,
        "destination: the file is not what the last pass left here",
    )
}

/// The regular file `name`, which no name leads to that is not to change with it, open for writing;
/// nothing when something else took its place.
fn writable(dir: impl AsFd, name: &Name, path: &RelPath) -> Result<Option<OwnedFd>, Fault> {
    let dir = dir.as_fd();
    let open = || file::open_patiently(dir, name, OFlags::RDWR);
    let opened = match open() {
        Err(Errno::ACCESS) => {
            metadata::allow_owner(dir, name, path)?;
            open()
        }
        result => result,
    };
    match opened {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::LOOP | Errno::ISDIR | Errno::NXIO | Errno::NODEV) => Ok(None),
        Err(errno) => Err(failed(path, "open the file", errno)),
    }
}

/// Makes a range zero and its space this file's. The size may grow.
fn reserve_zeros(fd: &OwnedFd, offset: u64, len: u64) -> Result<(), Errno> {
    match rustix::fs::fallocate(fd, FallocateFlags::ZERO_RANGE, offset, len) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
        result => return result,
    }
    // tmpfs cannot zero a range at once but can give it back and take it again.
    match punch_only(fd, offset, len)
        .and_then(|()| rustix::fs::fallocate(fd, FallocateFlags::empty(), offset, len))
    {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_zeros(fd, offset, len),
        result => result,
    }
}

/// Makes the space of a range beyond the end this file's. It is no content: where it cannot be had for
/// another reason than that there is no room, the file is as good without.
fn reserve_beyond(fd: &OwnedFd, space: Reserve) -> Result<(), Errno> {
    if space.is_none() {
        return Ok(());
    }
    match rustix::fs::fallocate(fd, FallocateFlags::KEEP_SIZE, space.start, space.len) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::FBIG | Errno::INVAL) => Ok(()),
        result => result,
    }
}

/// Makes a range zero and gives its space back.
fn punch(fd: &OwnedFd, offset: u64, len: u64) -> Result<(), Errno> {
    const PAGE: u64 = 4096;
    let end = offset.saturating_add(len);
    // The last block goes only as a whole; what is beyond the end is nothing.
    let is_last =
        !end.is_multiple_of(PAGE) && Stat::of_fd(fd).is_ok_and(|stat| stat.identity.size <= end);
    let len = if is_last {
        end.next_multiple_of(PAGE).saturating_sub(offset)
    } else {
        len
    };
    match punch_only(fd, offset, len) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_zeros(fd, offset, len),
        result => result,
    }
}

fn punch_only(fd: &OwnedFd, offset: u64, len: u64) -> Result<(), Errno> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(fd, flags, offset, len)
}

fn write_zeros(fd: &OwnedFd, offset: u64, len: u64) -> Result<(), Errno> {
    let zeros = vec![0; 1 << 20];
    let mut done = 0;
    while done < len {
        let step = usize::try_from(len - done)
            .unwrap_or(usize::MAX)
            .min(zeros.len());
        file::write_at(fd, zeros.get(..step).unwrap_or_default(), offset + done)?;
        done += u64::try_from(step).unwrap_or(0);
    }
    Ok(())
}
