//! A buffer that a device can be read into without the page cache in between.

use std::os::fd::{AsFd, BorrowedFd};

use livmig_proto::tree::Digest;
use rustix::io::Errno;

use crate::fs::file;

/// What direct reads must be aligned to, in memory and in the file. Devices ask for their logical
/// block, 512 to 4096 bytes.
const ALIGN: usize = 4096;

/// Bytes that were read, and room for more.
#[derive(Debug, Default)]
pub struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Buffer {
    /// Fills it with up to `len` bytes at `offset` of the file `fd`, short only at the file's end.
    pub fn fill(&mut self, fd: impl AsFd, offset: u64, len: usize) -> Result<(), Errno> {
        self.len = file::read_at(fd, self.room(len), offset)?;
        Ok(())
    }

    /// As [`Buffer::fill`]; the leaves of what was read.
    pub(super) fn fill_hashed(
        &mut self,
        fd: BorrowedFd<'_>,
        offset: u64,
        len: usize,
    ) -> Result<Vec<Digest>, Errno> {
        let (read, leaves) = super::read_leaves(fd, self.room(len), offset)?;
        self.len = read;
        Ok(leaves)
    }

    /// As [`Buffer::fill`], of a file that was opened by [`file::open_direct`]; `offset` is a multiple of 4096.
    pub fn fill_directly(&mut self, fd: impl AsFd, offset: u64, len: usize) -> Result<(), Errno> {
        let room = self.room(len.next_multiple_of(ALIGN));
        let mut filled = 0;
        while let Some(rest) = room.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let at = offset + u64::try_from(filled).unwrap_or(0);
            match rustix::io::pread(fd.as_fd(), rest, at) {
                Ok(read) => {
                    filled += read;
                    // Only at the end of the file; nothing could be asked for there.
                    if read == 0 || !read.is_multiple_of(ALIGN) {
                        break;
                    }
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        self.len = filled.min(len);
        Ok(())
    }

    /// Aligned room for `len` bytes.
    fn room(&mut self, len: usize) -> &mut [u8] {
        self.len = 0;
        if self.bytes.len() < len + ALIGN {
            self.bytes.resize(len + ALIGN, 0);
        }
        self.start = self.bytes.as_ptr().align_offset(ALIGN).min(ALIGN);
        self.bytes
            .get_mut(self.start..self.start + len)
            .unwrap_or_default()
    }

    /// What was read.
    pub fn content(&self) -> &[u8] {
        self.bytes
            .get(self.start..self.start + self.len)
            .unwrap_or_default()
    }
}
