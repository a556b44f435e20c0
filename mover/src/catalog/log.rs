//! The log under a store: records appended to one file, found again after a crash of the
//! process.
//!
//! ```text
//! record := length u32 | check u64 | kind u8 | key 16 | body          length: of kind, key, body
//! ```
//!
//! The check is BLAKE3 of what `length` covers. The log need not survive the machine: its owner
//! knows the boot it belongs to. It must survive `kill -9`, and does, because what was written
//! is in the page cache; a record cut short is the end.

use std::{fs::File, os::fd::AsFd as _};

use livmig_proto::limits::DIRECTORY_ENTRIES_MAX;
use rustix::io::Errno;

use crate::fs::file;

/// Names a directory in the index without holding its path.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Key(pub [u8; 16]);

impl Key {
    /// The key of a group of hard links.
    pub fn of_group(group: u64) -> Self {
        Self(u128::from(group).to_le_bytes())
    }

    /// The group of hard links that this is the key of.
    pub fn group(self) -> u64 {
        u64::try_from(u128::from_le_bytes(self.0)).unwrap_or(0)
    }
}

/// A record as it was found.
#[derive(Debug)]
pub struct Found {
    /// What kind it is.
    pub kind: u8,
    /// What it is about.
    pub key: Key,
    /// Where its body lies.
    pub offset: u64,
    /// Its body.
    pub body: Vec<u8>,
}

/// An append-only file of records.
#[derive(Debug)]
pub struct Log {
    file: File,
    /// Bytes in the file.
    written: u64,
    /// What comes after them.
    buffer: Vec<u8>,
}

const PREFIX: usize = 4 + 8;
const HEAD: usize = PREFIX + 1 + 16;

/// Bytes of one record's body: a directory of as many entries as are carried fits, if each has
/// the longest name.
const BODY_MAX: usize = 1 << 31;

const _: () = assert!(DIRECTORY_ENTRIES_MAX * 480 < BODY_MAX);

/// Bytes that are kept back before they are written.
const BUFFER_MAX: usize = 256 << 10;

impl Log {
    /// The log in `file`: calls `visit` for each record, and drops what a crash left half
    /// written.
    pub fn open(file: File, mut visit: impl FnMut(Found)) -> Result<Self, Errno> {
        let len = u64::try_from(rustix::fs::fstat(&file)?.st_size).unwrap_or(0);
        let mut at = 0;
        while let Some((found, next)) = Self::read_record(&file, at, len)? {
            visit(found);
            at = next;
        }
        rustix::fs::ftruncate(&file, at)?;
        Ok(Self {
            file,
            written: at,
            buffer: Vec::new(),
        })
    }

    /// Appends a record; where its body will lie.
    pub fn append(&mut self, kind: u8, key: Key, body: &[u8]) -> Result<u64, Errno> {
        if body.len() > BODY_MAX {
            return Err(Errno::FBIG);
        }
        let start = self.buffer.len();
        let length = u32::try_from(body.len() + 17).map_err(|_| Errno::FBIG)?;
        self.buffer.extend_from_slice(&length.to_le_bytes());
        self.buffer.extend_from_slice(&[0; 8]);
        self.buffer.push(kind);
        self.buffer.extend_from_slice(&key.0);
        self.buffer.extend_from_slice(body);
        let check = check(self.buffer.get(start + PREFIX..).unwrap_or_default());
        if let Some(place) = self.buffer.get_mut(start + 4..start + PREFIX) {
            place.copy_from_slice(&check);
        }
        let offset = self.written + u64::try_from(start + HEAD).unwrap_or(0);
        if self.buffer.len() >= BUFFER_MAX {
            self.flush()?;
        }
        Ok(offset)
    }

    /// Hands everything to the kernel.
    pub fn flush(&mut self) -> Result<(), Errno> {
        file::write_at(self.file.as_fd(), &self.buffer, self.written)?;
        self.written += u64::try_from(self.buffer.len()).unwrap_or(0);
        self.buffer.clear();
        Ok(())
    }

    /// `len` bytes of a body at `offset`.
    pub fn read(&mut self, offset: u64, len: usize) -> Result<Vec<u8>, Errno> {
        if offset + u64::try_from(len).unwrap_or(0) > self.written {
            self.flush()?;
        }
        let mut bytes = vec![0; len];
        let read = file::read_at(self.file.as_fd(), &mut bytes, offset)?;
        if read == len {
            Ok(bytes)
        } else {
            Err(Errno::IO)
        }
    }

    /// Bytes in all.
    pub fn len(&self) -> u64 {
        self.written + u64::try_from(self.buffer.len()).unwrap_or(0)
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets everything.
    pub fn clear(&mut self) -> Result<(), Errno> {
        self.buffer.clear();
        self.written = 0;
        rustix::fs::ftruncate(&self.file, 0)
    }

    fn read_record(file: &File, at: u64, len: u64) -> Result<Option<(Found, u64)>, Errno> {
        let mut prefix = [0; PREFIX];
        if file::read_at(file.as_fd(), &mut prefix, at)? < PREFIX {
            return Ok(None);
        }
        let (length, expected) = prefix.split_at(4);
        let length = u32::from_le_bytes(<[u8; 4]>::try_from(length).unwrap_or_default());
        let end = at + u64::try_from(PREFIX).unwrap_or(0) + u64::from(length);
        let size = usize::try_from(length).unwrap_or(usize::MAX);
        if !(17..=BODY_MAX + 17).contains(&size) || end > len {
            return Ok(None);
        }
        let mut bytes = vec![0; size];
        file::read_at(
            file.as_fd(),
            &mut bytes,
            at + u64::try_from(PREFIX).unwrap_or(0),
        )?;
        if check(&bytes) != expected {
            return Ok(None);
        }
        let body = bytes.split_off(17);
        let Some((kind, key)) = bytes.split_first() else {
            return Ok(None);
        };
        let key = Key(<[u8; 16]>::try_from(key).unwrap_or_default());
        let offset = at + u64::try_from(HEAD).unwrap_or(0);
        Ok(Some((
            Found {
                kind: *kind,
                key,
                offset,
                body,
            },
            end,
        )))
    }
}

fn check(bytes: &[u8]) -> [u8; 8] {
    let mut check = [0; 8];
    blake3::Hasher::new()
        .update(bytes)
        .finalize_xof()
        .fill(&mut check);
    check
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_found_again_up_to_the_first_torn_one() {
        let file = tempfile::tempfile().unwrap();
        let mut log = Log::open(file.try_clone().unwrap(), |_| panic!("empty")).unwrap();
        let offset = log.append(1, Key([1; 16]), b"one").unwrap();
        log.append(2, Key([2; 16]), b"").unwrap();
        assert_eq!(log.read(offset, 3).unwrap(), b"one");
        log.flush().unwrap();
        let whole = log.len();

        for cut in 0..=whole {
            let torn = tempfile::tempfile().unwrap();
            let mut bytes = vec![0; usize::try_from(cut).unwrap()];
            file::read_at(&file, &mut bytes, 0).unwrap();
            file::write_at(&torn, &bytes, 0).unwrap();
            let mut kinds = Vec::new();
            let log = Log::open(torn, |found| kinds.push((found.kind, found.offset))).unwrap();
            let expected = [(1, offset), (2, whole)];
            let complete = match cut {
                _ if cut == whole => 2,
                _ if cut >= offset + 3 => 1,
                _ => 0,
            };
            assert_eq!(kinds, expected[..complete], "{cut}");
            assert!(log.len() <= cut);
        }
    }

    #[test]
    fn a_flipped_bit_ends_the_log() {
        let file = tempfile::tempfile().unwrap();
        let mut log = Log::open(file.try_clone().unwrap(), |_| {}).unwrap();
        let offset = log.append(1, Key([1; 16]), b"one").unwrap();
        log.flush().unwrap();
        file::write_at(&file, b"X", offset).unwrap();
        let mut found = 0;
        Log::open(file, |_| found += 1).unwrap();
        assert_eq!(found, 0);
    }
}
