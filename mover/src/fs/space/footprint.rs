//! Reads that leave the page cache as they found it, so that the workload's pages survive a pass
//! over more data than fits in memory.
//!
//! Before a window of a file is read it is asked (`cachestat`) whether the cache holds any of it; a
//! small file is read as far as that needs no waiting, which tells the same.
//! If not, nobody but this read brought it there, and it is dropped behind the read. What was
//! there before stays, whoever it belongs to; so does everything where the kernel cannot tell.
//! The question is asked 64 MiB ahead of the read, before the kernel's readahead comes there.

use std::{
    collections::VecDeque,
    io::IoSliceMut,
    os::fd::{AsFd, BorrowedFd},
};

use rustix::{
    fs::Advice,
    io::{Errno, ReadWriteFlags, preadv2},
};

use crate::fs::{file, sys};

/// Bytes about which is asked and which are dropped at once.
const WINDOW: u64 = 1 << 20;

/// How far ahead of the read the cache is asked; beyond what the kernel reads ahead.
const LEAD: u64 = 64 * WINDOW;

/// Bytes that the cache may hold as one page (a large folio).
const FOLIO_MAX: u64 = 2 * WINDOW;

/// Bytes beyond the end of a file that may lie in its last folio.
const TAIL: u64 = 128 << 10;

/// What a reading leaves in the page cache.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CacheUse {
    /// All that it read: what else is in there may have to make way.
    Fills,
    /// What was there before, and nothing else.
    Spares,
}

/// Reads a small file from its beginning, `buffer` being as large; how many bytes there were.
pub fn read_whole(fd: impl AsFd, buffer: &mut [u8], cache: CacheUse) -> Result<usize, Errno> {
    let fd = fd.as_fd();
    if cache == CacheUse::Fills || buffer.is_empty() {
        return file::read_at(fd, buffer, 0);
    }
    let size = to_u64(buffer.len());
    let at_once = preadv2(
        fd,
        &mut [IoSliceMut::new(buffer)],
        0,
        ReadWriteFlags::NOWAIT,
    );
    match at_once {
        // Some of it was there, whoever it belongs to.
        Ok(read) => {
            let rest = buffer.get_mut(read..).unwrap_or_default();
            Ok(read + file::read_at(fd, rest, to_u64(read))?)
        }
        Err(Errno::AGAIN) => {
            let read = file::read_at(fd, buffer, 0)?;
            drop_up_to(fd, 0, size, size);
            Ok(read)
        }
        // Not offered here (by overlayfs before Linux 6.6, for one).
        Err(_) => {
            let mut footprint = Footprint::new(cache);
            footprint.before(fd, 0, size, size);
            let read = file::read_at(fd, buffer, 0)?;
            footprint.behind(fd, 0, to_u64(read));
            Ok(read)
        }
    }
}

/// What one reading of one file may drop.
#[derive(Debug)]
pub struct Footprint {
    cache: CacheUse,
    /// The number of the first window in `ours`.
    first: u64,
    /// Whether each window was not in the cache before it was read.
    ours: VecDeque<bool>,
    /// The size of the file.
    size: u64,
    /// From here up to the last read, nothing was in the cache before.
    run: u64,
}

impl Footprint {
    /// Of a reading that has not begun. One that fills the cache costs nothing.
    pub fn new(cache: CacheUse) -> Self {
        Self {
            cache,
            first: 0,
            ours: VecDeque::new(),
            size: 0,
            run: 0,
        }
    }

    /// To be called before `len` bytes of a file of `size` bytes are read from `offset`, which
    /// never goes back.
    pub fn before(&mut self, fd: impl AsFd, offset: u64, len: u64, size: u64) {
        if self.cache == CacheUse::Fills {
            return;
        }
        self.size = size;
        let at = offset / WINDOW;
        // Beyond a long hole it begins anew; what is not dropped yet before it stays.
        if self.first + self.known() < at {
            self.ours.clear();
        }
        if self.ours.is_empty() {
            self.first = at;
        }
        let end = size.min(offset.saturating_add(len).saturating_add(LEAD));
        let windows = end.div_ceil(WINDOW);
        while self.first + self.known() < windows {
            let window = self.first + self.known();
            self.ours.push_back(is_absent(fd.as_fd(), window));
        }
    }

    /// To be called once the same bytes were read, in the same order; others may have been read
    /// meanwhile.
    pub fn behind(&mut self, fd: impl AsFd, offset: u64, len: u64) {
        if self.cache == CacheUse::Fills || len == 0 {
            return;
        }
        let end = offset + len;
        // What lies before is done with.
        while self.first < offset / WINDOW && self.ours.pop_front().is_some() {
            self.first += 1;
        }
        let ours = (offset / WINDOW..end.div_ceil(WINDOW)).all(|window| {
            let at = window.checked_sub(self.first).map(usize::try_from);
            matches!(at, Some(Ok(at)) if self.ours.get(at) == Some(&true))
        });
        if !ours {
            self.run = end;
            return;
        }
        // A large folio that reaches beyond what is dropped stays, so what was
        // read just before is dropped once more. Dirty and mapped pages stay in any case.
        let from = self.run.max(offset.saturating_sub(FOLIO_MAX));
        drop_up_to(fd.as_fd(), from, end, self.size);
    }

    fn known(&self) -> u64 {
        to_u64(self.ours.len())
    }
}

/// Drops what was read from `from` to `end` of a file of `size` bytes.
fn drop_up_to(fd: BorrowedFd<'_>, from: u64, end: u64, size: u64) {
    // At the end of the file the last folio may reach beyond it.
    let to = if end < size {
        end
    } else {
        end.next_multiple_of(TAIL)
    };
    let _ = rustix::fs::fadvise(fd, from, (to - from).try_into().ok(), Advice::DontNeed);
}

fn to_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

fn is_absent(fd: BorrowedFd<'_>, window: u64) -> bool {
    sys::cached_pages_in(fd, window * WINDOW, WINDOW) == Ok(0)
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::unix::fs::FileExt as _};

    use super::*;

    const SIZE: u64 = 72 * WINDOW + 5000;

    /// A file on a disk, none of it in the cache; nothing where the kernel cannot tell.
    fn cold() -> Option<(tempfile::NamedTempFile, File)> {
        let named = tempfile::NamedTempFile::new().unwrap();
        let block = vec![7; 1 << 20];
        for window in 0..=SIZE / WINDOW {
            let at = window * WINDOW;
            let len = usize::try_from((SIZE - at).min(WINDOW)).unwrap();
            named.as_file().write_all_at(&block[..len], at).unwrap();
        }
        named.as_file().sync_all().unwrap();
        let file = File::open(named.path()).unwrap();
        crate::fs::file::drop_cache(&file).then_some((named, file))
    }

    fn read(file: &File, footprint: &mut Footprint) {
        // With as much readahead as there is.
        crate::fs::file::expect_sequential(file);
        let mut buffer = vec![0; 128 << 10];
        let mut offset = 0;
        while offset < SIZE {
            footprint.before(file, offset, buffer.len() as u64, SIZE);
            let read = file.read_at(&mut buffer, offset).unwrap() as u64;
            footprint.behind(file, offset, read);
            offset += read;
        }
    }

    fn cached(file: &File, offset: u64, len: u64) -> u64 {
        sys::cached_pages_in(file.as_fd(), offset, len).unwrap()
    }

    #[test]
    fn a_small_file_is_dropped_only_if_nothing_of_it_was_there() {
        for size in [10_u64, 5000, 128 << 10] {
            let named = tempfile::NamedTempFile::new().unwrap();
            let content: Vec<u8> = (0..=255).cycle().take(size.try_into().unwrap()).collect();
            named.as_file().write_all_at(&content, 0).unwrap();
            named.as_file().sync_all().unwrap();
            let file = File::open(named.path()).unwrap();
            if !crate::fs::file::drop_cache(&file) {
                return;
            }
            let read = |cache| {
                let mut buffer = vec![0; content.len()];
                let read = read_whole(&file, &mut buffer, cache).unwrap();
                assert_eq!(buffer[..read], content);
            };
            read(CacheUse::Spares);
            assert_eq!(cached(&file, 0, size), 0, "{size}");
            read(CacheUse::Fills);
            read(CacheUse::Spares);
            assert_eq!(cached(&file, 0, size), size.div_ceil(4096), "{size}");
            if size > 5000 {
                // A part is enough.
                let rest = std::num::NonZeroU64::new(size - 8192);
                let _ = rustix::fs::fadvise(&file, 8192, rest, Advice::DontNeed);
                let before = cached(&file, 0, size);
                read(CacheUse::Spares);
                assert!(cached(&file, 0, size) >= before);
            }
        }
    }

    #[test]
    fn what_was_in_the_cache_stays_and_nothing_else() {
        let Some((_named, file)) = cold() else {
            return;
        };
        read(&file, &mut Footprint::new(CacheUse::Fills));
        assert_eq!(cached(&file, 0, SIZE), SIZE.div_ceil(4096));
        // All of it is the workload's now.
        read(&file, &mut Footprint::new(CacheUse::Spares));
        assert_eq!(cached(&file, 0, SIZE), SIZE.div_ceil(4096));

        assert!(crate::fs::file::drop_cache(&file));
        // Two stretches are, one that is met at once and one far ahead.
        for offset in [0, 40 * WINDOW] {
            let _ = rustix::fs::fadvise(&file, offset, None, Advice::Random);
            file.read_exact_at(&mut vec![0; 1 << 20], offset).unwrap();
            assert!(cached(&file, offset, WINDOW) > 0);
        }
        let windows = || (0..=SIZE / WINDOW).map(|at| cached(&file, at * WINDOW, WINDOW));
        let before: Vec<u64> = windows().collect();
        assert!(before.iter().filter(|pages| **pages == 0).count() > 30);
        read(&file, &mut Footprint::new(CacheUse::Spares));
        for (window, (before, after)) in before.iter().zip(windows()).enumerate() {
            assert!(after >= *before, "window {window}: {before} of {after}");
            assert_eq!(*before == 0, after == 0, "window {window}: {after}");
        }
    }
}
