//! Reads back the blocks of a file that were written, several at a time: a device answers many
//! questions in hardly more time than one.

use std::{
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use livmig_proto::tree::{BLOCK, Digest, is_zero, leaf, range_digest};
use rustix::{fs::SeekFrom, io::Errno};

use crate::destination::touched::BlockRange;
use crate::hash::{self, Buffer};

/// Threads that read one file at most: they wait for the device most of the time.
const THREADS_MAX: usize = 8;

/// Ranges that are worth a thread's start.
const RANGES_EACH: usize = 4;

/// A file that was written to.
#[derive(Debug)]
pub struct WrittenFile<'f> {
    /// The file.
    pub fd: BorrowedFd<'f>,
    /// The same, opened for reads that leave the page cache out.
    pub direct: Option<OwnedFd>,
    /// Its size.
    pub size: u64,
    /// Whether the file system's word on holes is believed.
    pub true_holes: bool,
}

impl WrittenFile<'_> {
    /// Whether each of `ranges` holds what was written to it.
    pub fn holds(&self, ranges: &[BlockRange]) -> Result<bool, Errno> {
        let threads = (ranges.len() / RANGES_EACH).clamp(1, THREADS_MAX);
        let next = AtomicUsize::new(0);
        // What ended it early: an error, or a difference.
        let end: Mutex<Result<bool, Errno>> = Mutex::new(Ok(true));
        let work = || {
            let mut buffer = Buffer::default();
            while let Some(range) = ranges.get(next.fetch_add(1, Ordering::Relaxed)) {
                let held = self.range(range, &mut buffer);
                if held != Ok(true) {
                    *end.lock().unwrap_or_else(PoisonError::into_inner) = held;
                    next.store(ranges.len(), Ordering::Relaxed);
                }
            }
        };
        thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        });
        end.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn range(&self, range: &BlockRange, buffer: &mut Buffer) -> Result<bool, Errno> {
        let end = (range.offset + range.len).min(self.size);
        if range.digest.is_none() && self.true_holes {
            match rustix::fs::seek(self.fd, SeekFrom::Data(range.offset)) {
                Err(Errno::NXIO) => return Ok(true),
                Ok(data) if data >= end => return Ok(true),
                _ => {}
            }
        }
        let mut at = range.offset;
        let mut leaves: Vec<Digest> = Vec::new();
        while at < end {
            let step = usize::try_from(end - at)
                .unwrap_or(usize::MAX)
                .min(hash::WINDOW);
            self.fill(buffer, at, step)?;
            let content = buffer.content();
            if content.len() < step {
                return Ok(false);
            }
            match range.digest {
                Some(_) => leaves.extend(content.chunks(BLOCK).map(leaf)),
                None if !is_zero(content) => return Ok(false),
                None => {}
            }
            at += u64::try_from(step).unwrap_or(0);
        }
        // A file cut short since then proves nothing of what was cut.
        let whole = end == range.offset + range.len;
        Ok(range
            .digest
            .is_none_or(|digest| !whole || digest == range_digest(&leaves)))
    }

    fn fill(&self, buffer: &mut Buffer, offset: u64, len: usize) -> Result<(), Errno> {
        match &self.direct {
            Some(direct) => match buffer.fill_directly(direct.as_fd(), offset, len) {
                // Whoever answers so reads only through the cache.
                Err(Errno::INVAL) => buffer.fill(self.fd, offset, len),
                filled => filled,
            },
            None => buffer.fill(self.fd, offset, len),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::unix::fs::FileExt as _};

    use livmig_proto::name::Name;

    use super::*;
    use crate::fs::file;

    const SIZE: u64 = 64 * BLOCK as u64 + 100;

    /// What was written at `offset`.
    fn written(offset: u64, content: &[u8]) -> BlockRange {
        let leaves: Vec<Digest> = content.chunks(BLOCK).map(leaf).collect();
        BlockRange {
            offset,
            len: content.len() as u64,
            digest: Some(range_digest(&leaves)),
        }
    }

    fn zeros(offset: u64, len: u64) -> BlockRange {
        BlockRange {
            offset,
            len,
            digest: None,
        }
    }

    #[test]
    fn every_range_is_read_whoever_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let file = File::create_new(&path).unwrap();
        file.set_len(SIZE).unwrap();
        let block = BLOCK as u64;
        let mut ranges: Vec<BlockRange> = (0..32)
            .map(|number| {
                let content = vec![number + 1; BLOCK * (1 + usize::from(number % 2))];
                let offset = u64::from(number) * 2 * block;
                file.write_all_at(&content, offset).unwrap();
                written(offset, &content)
            })
            .collect();
        file.write_all_at(&[7; 100], SIZE - 100).unwrap();
        ranges.push(written(SIZE - 100, &[7; 100]));
        ranges.push(zeros(block, block));
        file.sync_all().unwrap();
        let folder = File::open(dir.path()).unwrap();
        let name = Name::new(b"f").unwrap();
        for (direct, true_holes) in [(true, true), (true, false), (false, true), (false, false)] {
            let back = WrittenFile {
                fd: file.as_fd(),
                direct: direct.then(|| file::open_direct(&folder, &name)).flatten(),
                size: SIZE,
                true_holes,
            };
            assert_eq!(back.holds(&ranges), Ok(true));
            assert_eq!(back.holds(&[]), Ok(true));
            for wrong in [
                written(10 * block, &[99; BLOCK]),
                zeros(2 * block, block),
                written(SIZE - 100, &[8; 100]),
            ] {
                let mut all = ranges.clone();
                all.insert(17, wrong);
                assert_eq!(back.holds(&all), Ok(false), "{wrong:?}");
            }
        }
    }

    #[test]
    fn a_file_that_was_cut_does_not_hold_what_it_lost() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[1; BLOCK], 0).unwrap();
        let back = WrittenFile {
            fd: file.as_fd(),
            direct: None,
            size: 2 * BLOCK as u64,
            true_holes: false,
        };
        assert_eq!(back.holds(&[written(BLOCK as u64, &[1; BLOCK])]), Ok(false));
        // Cut by its source, and so known to be: what lies beyond is not asked for.
        let cut = WrittenFile {
            size: BLOCK as u64,
            ..back
        };
        assert_eq!(cut.holds(&[written(0, &[1; 2 * BLOCK])]), Ok(true));
    }
}
