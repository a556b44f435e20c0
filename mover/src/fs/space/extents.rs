//! Where a file holds data and where holes.

use std::os::fd::AsFd;

use rustix::{fs::SeekFrom, io::Errno};

/// A stretch of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Extent {
    /// May hold anything.
    Data {
        /// Where it ends.
        end: u64,
    },
    /// Reads as zeros.
    Hole {
        /// Where it ends.
        end: u64,
    },
}

/// The extent that begins at `offset` of a file of `size` bytes, cut to whole `align` blocks so
/// that a hole never includes a part of a block that holds data.
pub fn at(fd: impl AsFd, offset: u64, size: u64, align: u64) -> Result<Extent, Errno> {
    let data = match rustix::fs::seek(fd.as_fd(), SeekFrom::Data(offset)) {
        Ok(data) => data.min(size),
        // No data beyond the offset.
        Err(Errno::NXIO) => return Ok(Extent::Hole { end: size }),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Extent::Data { end: size }),
        Err(errno) => return Err(errno),
    };
    let hole_end = if data >= size {
        size
    } else {
        data / align * align
    };
    if hole_end > offset {
        return Ok(Extent::Hole { end: hole_end });
    }
    match rustix::fs::seek(fd, SeekFrom::Hole(data)) {
        Ok(hole) => Ok(Extent::Data {
            end: hole.next_multiple_of(align).min(size),
        }),
        Err(Errno::NXIO) => Ok(Extent::Data { end: size }),
        Err(errno) => Err(errno),
    }
}
