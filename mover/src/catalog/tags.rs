//! Tags: 16 bytes for every block of a large file, in one file on disk.
//!
//! A tag is the keyed BLAKE3 hash of its block's leaves, cut to 16 bytes. The key is random and
//! stays with the mover, so nobody can prepare two blocks with one tag; the 32-byte roots, which
//! both ends compute from what they read, stand behind it in any case. A block of zeros has the
//! tag zero, so the holes of a sparse file are holes here too; where the zeros take space, and that is
//! known, it has a tag of its own, so that a hole that is punched into them later is seen.
//!
//! A block is 8 KiB unless the file would have more than [`COUNT_MAX`] of them; then it doubles.

use std::{collections::BTreeMap, fs::File, os::fd::AsFd as _, sync::Mutex};

use livmig_proto::{
    tree::{BLOCK, Digest, leaf, zero_leaf},
    wire::{DecodeError, Decoder, Encoder},
};
use rustix::{fs::FallocateFlags, io::Errno};

use crate::fs::file;

/// The tag of one block.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tag(pub [u8; 16]);

impl Tag {
    /// A block of zeros that takes space. No other block has it, but by a chance of 1 in 2^128.
    pub const RESERVED: Self = Self([0xff; 16]);

    /// Whether its block is all zeros, a short last one excepted.
    pub fn is_zeros(self) -> bool {
        self == Self::default() || self == Self::RESERVED
    }

    /// The tag of its block's content, whether that takes space or not.
    pub fn of_content(self) -> Self {
        if self.is_zeros() {
            Self::default()
        } else {
            self
        }
    }

    /// The same tag of content that takes space.
    pub fn taking_space(self) -> Self {
        if self.is_zeros() {
            Self::RESERVED
        } else {
            self
        }
    }
}

/// Blocks of one file at most: 128 MiB of tags.
pub const COUNT_MAX: u64 = 8 << 20;

/// The block size's logarithm where it is smallest.
pub const BLOCK_LOG2: u32 = BLOCK.trailing_zeros();

/// The block size's logarithm where it is largest: a block must fit in memory. Files beyond 32 TiB
/// have more tags instead.
const BLOCK_LOG2_MAX: u32 = 22;

const TAG_LEN: u64 = 16;

/// Where the tags of one file lie.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TagsRef {
    /// Byte offset in the tag file.
    pub offset: u64,
    /// How many there are.
    pub count: u64,
    /// How many there is room for.
    pub capacity: u64,
    /// The block size's logarithm.
    pub block_log2: u32,
}

/// Whether the blocks of a file of `size` bytes, of which it takes `allocated`, have tags. A giant that
/// is a hole but for a little has not: it has more blocks than anybody could go through, and what it
/// holds is soon compared as a whole.
pub fn is_tagged(size: u64, allocated: u64) -> bool {
    size >> BLOCK_LOG2_MAX <= COUNT_MAX || allocated >= size >> 6
}

/// The tag of a block from the leaves in it.
pub fn tag(key: &[u8; 32], leaves: &[Digest]) -> Tag {
    let zero = zero_leaf();
    if leaves.iter().all(|leaf| *leaf == zero) {
        return Tag::default();
    }
    let mut hasher = blake3::Hasher::new_keyed(key);
    for leaf in leaves {
        hasher.update(&leaf.0);
    }
    let mut tag = Tag::default();
    hasher.finalize_xof().fill(&mut tag.0);
    tag
}

/// The tags of consecutive blocks of `block` bytes from the leaves in them; the last may be short.
pub fn of_blocks(
    key: &[u8; 32],
    leaves: &[Digest],
    block: u64,
) -> impl ExactSizeIterator<Item = Tag> {
    let per_block = usize::try_from(block).unwrap_or(usize::MAX) / BLOCK;
    leaves
        .chunks(per_block.max(1))
        .map(|leaves| tag(key, leaves))
}

/// The tag of the last block of a file that ends in a hole, `len` bytes into the block. Whole
/// blocks of a hole have the tag zero; a short leaf is not that of a block of zeros.
pub fn of_hole_tail(key: &[u8; 32], len: u64) -> Tag {
    let zeros = vec![0; usize::try_from(len).unwrap_or(0)];
    let leaves: Vec<Digest> = zeros.chunks(BLOCK).map(leaf).collect();
    tag(key, &leaves)
}

/// The block size, as a logarithm, for a file of `size` bytes that has no tags yet.
pub fn block_log2_for(size: u64) -> u32 {
    let mut log2 = BLOCK_LOG2;
    while size >> log2 > COUNT_MAX && log2 < BLOCK_LOG2_MAX {
        log2 += 1;
    }
    log2
}

/// The file of all tags.
#[derive(Debug)]
pub struct TagFile {
    file: File,
    free: Mutex<Free>,
}

#[derive(Debug, Default)]
struct Free {
    end: u64,
    /// Extents that may be used again, by capacity.
    extents: BTreeMap<u64, Vec<u64>>,
}

impl TagFile {
    /// Tags in `file`, keeping what it holds. What was free before is lost as space, no more.
    pub fn new(file: File) -> Result<Self, Errno> {
        let end = rustix::fs::fstat(&file)?.st_size;
        let end = u64::try_from(end).unwrap_or(0).next_multiple_of(4096);
        Ok(Self {
            file,
            free: Mutex::new(Free {
                end,
                extents: BTreeMap::new(),
            }),
        })
    }

    /// Room for `count` tags, all zero.
    pub fn allocate(&self, count: u64, block_log2: u32) -> Result<TagsRef, Errno> {
        // Powers of two, so that a growing file moves rarely.
        let capacity = count.max(32).next_power_of_two();
        let mut free = self
            .free
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let reused = free.extents.get_mut(&capacity).and_then(Vec::pop);
        let offset = if let Some(offset) = reused {
            offset
        } else {
            // Whoever announces one giant after the other may not make places overlap.
            let end = free.end.checked_add(capacity * TAG_LEN);
            let end = end.ok_or(Errno::FBIG)?;
            // A later process begins where the file ends: after all room that was ever given, also
            // where nothing was written to it.
            rustix::fs::ftruncate(&self.file, end)?;
            std::mem::replace(&mut free.end, end)
        };
        drop(free);
        if reused.is_some() {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            let punched = rustix::fs::fallocate(&self.file, flags, offset, capacity * TAG_LEN);
            if punched.is_err() {
                let zeros = vec![0; 1 << 16];
                let mut at = offset;
                let end = offset + capacity * TAG_LEN;
                while at < end {
                    let len = usize::try_from(end - at)
                        .unwrap_or(usize::MAX)
                        .min(zeros.len());
                    file::write_at(&self.file, zeros.get(..len).unwrap_or_default(), at)?;
                    at += u64::try_from(len).unwrap_or(0);
                }
            }
        }
        Ok(TagsRef {
            offset,
            count,
            capacity,
            block_log2,
        })
    }

    /// Gives room back. Only after nothing refers to it, not even what a crash would restore.
    pub fn release(&self, tags: &TagsRef) {
        let mut free = self
            .free
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        free.extents
            .entry(tags.capacity)
            .or_default()
            .push(tags.offset);
    }

    /// The tags `first..first + count`; beyond the last there are zeros.
    pub fn read(&self, tags: &TagsRef, first: u64, count: usize) -> Result<Vec<Tag>, Errno> {
        let there = tags.count.saturating_sub(first);
        let wanted = usize::try_from(there).unwrap_or(usize::MAX).min(count);
        let mut bytes = vec![0; wanted * 16];
        file::read_at(self.file.as_fd(), &mut bytes, tags.offset + first * TAG_LEN)?;
        let mut result: Vec<Tag> = bytes
            .chunks_exact(16)
            .map(|chunk| Tag(<[u8; 16]>::try_from(chunk).unwrap_or_default()))
            .collect();
        result.resize(count, Tag::default());
        Ok(result)
    }

    /// Writes tags from `first` on.
    pub fn write(&self, tags: &TagsRef, first: u64, values: &[Tag]) -> Result<(), Errno> {
        if first + u64::try_from(values.len()).unwrap_or(u64::MAX) > tags.capacity {
            return Err(Errno::INVAL);
        }
        // A fresh extent is all zeros already: keep the holes of sparse files.
        if values.iter().all(|tag| *tag == Tag::default()) {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(values.len() * 16);
        for tag in values {
            bytes.extend_from_slice(&tag.0);
        }
        file::write_at(self.file.as_fd(), &bytes, tags.offset + first * TAG_LEN)
    }
}

impl TagsRef {
    /// Appends the place of some tags, or that there are none.
    pub fn encode(tags: Option<&Self>, out: &mut Encoder) {
        match tags {
            None => out.u8(0),
            Some(tags) => {
                out.u8(1);
                out.u64(tags.offset);
                out.u64(tags.count);
                out.u64(tags.capacity);
                out.u32(tags.block_log2);
            }
        }
    }

    /// Takes the place of some tags, or that there are none.
    pub fn decode(input: &mut Decoder) -> Result<Option<Self>, DecodeError> {
        if !input.flag()? {
            return Ok(None);
        }
        let tags = Self {
            offset: input.u64()?,
            count: input.u64()?,
            capacity: input.u64()?,
            block_log2: input.u32()?,
        };
        let valid =
            (BLOCK_LOG2..=BLOCK_LOG2_MAX).contains(&tags.block_log2) && tags.count <= tags.capacity;
        if valid {
            Ok(Some(tags))
        } else {
            Err(DecodeError::Invalid("tags"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_zero_when_it_is_used_again() {
        let tags = TagFile::new(tempfile::tempfile().unwrap()).unwrap();
        let first = tags.allocate(10, BLOCK_LOG2).unwrap();
        tags.write(&first, 3, &[Tag([7; 16]); 2]).unwrap();
        assert_eq!(
            tags.read(&first, 4, 2).unwrap(),
            [Tag([7; 16]), Tag::default()]
        );
        tags.release(&first);
        let second = tags.allocate(12, BLOCK_LOG2).unwrap();
        assert_eq!(second.offset, first.offset);
        assert_eq!(tags.read(&second, 0, 12).unwrap(), [Tag::default(); 12]);
    }

    #[test]
    fn what_lies_beyond_the_last_tag_is_zero() {
        let tags = TagFile::new(tempfile::tempfile().unwrap()).unwrap();
        let place = tags.allocate(300, BLOCK_LOG2).unwrap();
        tags.write(&place, 299, &[Tag([1; 16])]).unwrap();
        assert_eq!(tags.read(&place, 299, 3).unwrap()[1..], [Tag::default(); 2]);
        assert!(tags.write(&place, place.capacity, &[Tag([1; 16])]).is_err());
    }

    #[test]
    fn places_never_overlap() {
        let tags = TagFile::new(tempfile::tempfile().unwrap()).unwrap();
        let log2 = block_log2_for(i64::MAX as u64);
        let count = (i64::MAX as u64).div_ceil(1 << log2);
        let mut end = 0;
        // However many giants are announced: at some point there is no room for one more.
        while let Ok(place) = tags.allocate(count, log2) {
            assert!(place.offset >= end);
            end = place.offset + place.capacity * TAG_LEN;
        }
        assert!(tags.allocate(10, BLOCK_LOG2).unwrap().offset >= end);
    }

    #[test]
    fn places_of_an_earlier_process_are_not_given_away() {
        let file = tempfile::tempfile().unwrap();
        let earlier = TagFile::new(file.try_clone().unwrap()).unwrap();
        // Room for twice as many, of which nothing is written.
        let first = earlier.allocate(520, BLOCK_LOG2).unwrap();
        earlier.write(&first, 0, &[Tag([7; 16]); 520]).unwrap();
        drop(earlier);
        let later = TagFile::new(file).unwrap();
        let second = later.allocate(2000, BLOCK_LOG2).unwrap();
        assert!(second.offset >= first.offset + first.capacity * TAG_LEN);
        later.write(&second, 0, &vec![Tag([9; 16]); 2000]).unwrap();
        later.release(&first);
        later.allocate(600, BLOCK_LOG2).unwrap();
        assert_eq!(later.read(&second, 0, 1).unwrap(), [Tag([9; 16])]);
    }

    #[test]
    fn blocks_double_where_there_would_be_too_many() {
        assert_eq!(block_log2_for(0), 13);
        assert_eq!(block_log2_for(64 << 30), 13);
        assert_eq!(block_log2_for((64 << 30) + (1 << 13)), 14);
        assert_eq!(block_log2_for(65 << 30), 14);
        assert_eq!(block_log2_for(10 << 40), 21);
        assert_eq!(block_log2_for(i64::MAX as u64), 22);
    }

    #[test]
    fn a_hole_has_the_tags_of_the_zeros_that_it_is() {
        let (key, block) = ([1; 32], 2 * BLOCK);
        for len in [1, BLOCK - 1, BLOCK, BLOCK + 1, block - 1] {
            let zeros = vec![0; 2 * block + len];
            let leaves: Vec<Digest> = zeros.chunks(BLOCK).map(leaf).collect();
            let tags: Vec<Tag> = of_blocks(&key, &leaves, block as u64).collect();
            let tail = of_hole_tail(&key, len as u64);
            assert_eq!(tags, [Tag::default(), Tag::default(), tail], "{len}");
        }
    }

    #[test]
    fn a_tag_depends_on_key_and_leaves() {
        let leaf = |byte| livmig_proto::tree::leaf(&[byte; BLOCK]);
        assert_eq!(tag(&[1; 32], &[leaf(0), leaf(0)]), Tag::default());
        assert_ne!(tag(&[1; 32], &[leaf(1)]), tag(&[2; 32], &[leaf(1)]));
        assert_ne!(tag(&[1; 32], &[leaf(1)]), tag(&[1; 32], &[leaf(2)]));
    }
}
