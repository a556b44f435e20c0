//! Compares a large file with the tags of what the destination holds, while it is read once.

use std::os::fd::{AsFd, BorrowedFd};

use livmig_proto::{
    control::Fault,
    limits::FRAME_CONTENT_MAX,
    tree::{BLOCK, Digest, range_digest, zero_leaf},
};

use rustix::io::Errno;

use super::block_action::{BlockAction, OldBlock, of_zeros, runs};
use crate::source::shared::Shared;
use crate::{
    catalog::tags::{self, Tag, TagFile, TagsRef},
    fs::{
        space::{
            extents::{self, Extent},
            reserved::{self, Told, Zeros},
        },
        stat::{SMALL, Stat},
        volume::Volume,
    },
    hash::{self, Hashed, Piece, StreamError, StreamOptions},
};

/// Where differences go.
pub trait Sink {
    /// These bytes are at `offset`.
    fn data(&mut self, offset: u64, digest: Digest, content: &[u8]) -> Result<(), Fault>;

    /// These bytes are zero.
    fn zero(&mut self, offset: u64, len: u64, zeros: Zeros) -> Result<(), Fault>;
}

/// What the destination's file is before.
#[derive(Clone, Copy, Debug)]
pub enum Existing {
    /// Empty: made anew.
    Fresh,
    /// What these tags say; beyond them, nothing.
    Tagged(TagsRef),
    /// Something, to be written over in place.
    Opaque,
}

/// The file that is compared.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// Its size, as far as is known before it is read.
    pub size: u64,
    /// Whether it took less space than its size before it was read.
    pub sparse: bool,
    /// Whether the file system's word on holes is believed.
    pub true_holes: bool,
    /// How it tells what is reserved.
    pub told: Told,
    /// Whether its blocks have tags.
    pub tagged: bool,
}

impl Subject {
    /// The file of `volume` that looks like `stat`.
    pub fn of(stat: &Stat, volume: &Volume) -> Self {
        Self {
            size: stat.identity.size,
            sparse: stat.is_sparse(),
            true_holes: volume.has_true_holes(),
            told: volume.reservations(),
            tagged: tags::is_tagged(stat.identity.size, stat.allocated()),
        }
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Compared {
    /// The content, summed up.
    pub hashed: Hashed,
    /// Its tags, if it has some.
    pub tags: Option<TagsRef>,
}

/// Why a comparison ended early.
pub type CompareError = StreamError<Fault>;

/// Reads the file `fd` and sends what differs from `before` to `sink`.
pub fn compare(
    shared: &Shared<'_>,
    fd: impl AsFd,
    subject: Subject,
    before: Existing,
    buffer: &mut Vec<u8>,
    sink: &mut impl Sink,
) -> Result<Compared, CompareError> {
    let block_log2 = match before {
        Existing::Tagged(tags) => tags.block_log2,
        Existing::Fresh | Existing::Opaque => tags::block_log2_for(subject.size),
    };
    let block = 1_u64 << block_log2;
    let store = shared.store.tags();
    let allocate = || store.allocate(subject.size.div_ceil(block), block_log2);
    let new = subject
        .tagged
        .then(allocate)
        .transpose()
        .map_err(|errno| StreamError::Stopped(Shared::state_fault(errno)))?;
    let window = hash::WINDOW.max(usize::try_from(block).unwrap_or(usize::MAX));
    let options = StreamOptions {
        window,
        align: block,
        cache: shared.cache_use(),
        true_holes: subject.true_holes,
        ..StreamOptions::new(subject.size)
    };
    let mut comparison = Comparison {
        store,
        key: shared.tag_key,
        follows_space: subject.true_holes && shared.tells_reserved,
        fd: fd.as_fd(),
        subject,
        before,
        new,
        block,
        sink,
    };
    let result = hash::stream(&fd, options, buffer, |piece| match piece {
        Piece::Data {
            offset,
            content,
            leaves,
        } => comparison.data(offset, content, leaves),
        Piece::Hole { offset, len } => comparison.hole(offset, len),
    });
    match result {
        Ok(hashed) => {
            let count = hashed.size.div_ceil(block);
            Ok(Compared {
                hashed,
                tags: new.map(|new| TagsRef { count, ..new }),
            })
        }
        Err(error) => {
            if let Some(new) = &new {
                store.release(new);
            }
            Err(error)
        }
    }
}

/// Whether the file `fd` has a hole that takes no space, of at least a block, or in a small file a page.
pub fn has_hole(fd: impl AsFd, subject: Subject) -> Result<bool, Errno> {
    let fd = fd.as_fd();
    let mut at = 0;
    while subject.true_holes && at < subject.size {
        let align = if subject.size > SMALL {
            u64::try_from(BLOCK).unwrap_or(1)
        } else {
            PAGE
        };
        let (hole, end) = match extents::at(fd, at, subject.size, align)? {
            Extent::Data { end } => (false, end),
            Extent::Hole { end } => (true, end),
        };
        if hole {
            let reserved = reserved::within(fd, at..end, subject.told).unwrap_or_default();
            let taken: u64 = reserved.iter().map(|part| part.end - part.start).sum();
            if taken.saturating_add(align) <= end.saturating_sub(at) {
                return Ok(true);
            }
        }
        at = end.max(at + 1);
    }
    Ok(false)
}

/// What a hole of a small file is cut to.
const PAGE: u64 = 4096;

struct Comparison<'a, S> {
    store: &'a TagFile,
    key: [u8; 32],
    /// Whether both ends tell which zeros take space.
    follows_space: bool,
    fd: BorrowedFd<'a>,
    subject: Subject,
    before: Existing,
    new: Option<TagsRef>,
    block: u64,
    sink: &'a mut S,
}

impl<S: Sink> Comparison<'_, S> {
    fn data(&mut self, offset: u64, content: &[u8], leaves: &[Digest]) -> Result<(), Fault> {
        let per_block = usize::try_from(self.block).unwrap_or(usize::MAX) / BLOCK;
        let first = offset / self.block;
        let mut new: Vec<Tag> = tags::of_blocks(&self.key, leaves, self.block).collect();
        let old = self.old(first, new.len())?;
        let zero = zero_leaf();
        let mut verdicts = Vec::with_capacity(new.len());
        for ((tag, old), leaves) in new.iter_mut().zip(&old).zip(leaves.chunks(per_block)) {
            let is_zero = leaves.iter().all(|leaf| *leaf == zero);
            verdicts.push(match old {
                // Zeros that take space: a block that was written, or reserved and read since. Where it
                // was a hole it is reserved now.
                Some(old) if is_zero && *old == Tag::default() && self.follows_space => {
                    BlockAction::Zero
                }
                Some(old) if old.of_content() == *tag => {
                    *tag = *old;
                    BlockAction::Same
                }
                _ if is_zero => BlockAction::Zero,
                _ => BlockAction::Data,
            });
        }
        let block = usize::try_from(self.block).unwrap_or(usize::MAX);
        for (verdict, run) in runs(verdicts.into_iter()) {
            let bytes = run.start * block..(run.end * block).min(content.len());
            let start = run.start;
            let at = offset + u64::try_from(bytes.start).unwrap_or(0);
            let content = content.get(bytes).unwrap_or_default();
            match verdict {
                BlockAction::Same => {}
                BlockAction::Zero | BlockAction::Reserve => {
                    let tags = new.get_mut(run).unwrap_or_default();
                    self.zeros(at, u64::try_from(content.len()).unwrap_or(0), tags)?;
                }
                BlockAction::Data => {
                    let leaves = leaves.get(start * per_block..).unwrap_or_default();
                    self.send(at, content, leaves)?;
                }
            }
        }
        self.write(first, &new)
    }

    fn write(&self, first: u64, tags: &[Tag]) -> Result<(), Fault> {
        match &self.new {
            Some(new) => self
                .store
                .write(new, first, tags)
                .map_err(Shared::state_fault),
            None => Ok(()),
        }
    }

    fn send(&mut self, offset: u64, content: &[u8], leaves: &[Digest]) -> Result<(), Fault> {
        let per_part = FRAME_CONTENT_MAX / BLOCK;
        for (part, (content, leaves)) in content
            .chunks(FRAME_CONTENT_MAX)
            .zip(leaves.chunks(per_part))
            .enumerate()
        {
            let at = offset + u64::try_from(part * FRAME_CONTENT_MAX).unwrap_or(0);
            let leaves = leaves
                .get(..content.len().div_ceil(BLOCK))
                .unwrap_or_default();
            self.sink.data(at, range_digest(leaves), content)?;
        }
        Ok(())
    }

    fn hole(&mut self, offset: u64, len: u64) -> Result<(), Fault> {
        if self.new.is_none() {
            return self.untagged_hole(offset, len);
        }
        let end = offset + len;
        let whole_end = end / self.block * self.block;
        let (mut at, mut changed) = (offset, false);
        while at < whole_end {
            let first = at / self.block;
            let count = usize::try_from((whole_end - at) / self.block)
                .unwrap_or(usize::MAX)
                .min(1 << 16);
            let old = self.old(first, count)?;
            let reserved = self.reserved(at, self.block, count);
            let beyond = if self.is_opaque() {
                OldBlock::Unknown
            } else {
                OldBlock::Nothing
            };
            let verdicts = old.iter().zip(&reserved).map(|(old, reserved)| {
                let zeros = if *reserved {
                    Zeros::Reserved
                } else {
                    Zeros::Hole
                };
                of_zeros(old.map_or(beyond, OldBlock::Tagged), zeros)
            });
            let mut new: Vec<Tag> = old.iter().map(|old| old.unwrap_or_default()).collect();
            for (verdict, run) in runs(verdicts) {
                let sent = match verdict {
                    BlockAction::Reserve => Tag::RESERVED,
                    BlockAction::Zero => Tag::default(),
                    BlockAction::Same | BlockAction::Data => continue,
                };
                new.get_mut(run.clone()).unwrap_or_default().fill(sent);
                let from = at + u64::try_from(run.start).unwrap_or(0) * self.block;
                let len = u64::try_from(run.len()).unwrap_or(0) * self.block;
                self.sink.zero(from, len, verdict.zeros())?;
                changed = true;
            }
            self.write(first, &new)?;
            at += u64::try_from(count).unwrap_or(0) * self.block;
        }
        if at < end {
            self.hole_tail(at, end - at, changed)?;
        }
        Ok(())
    }

    /// A hole of a file that is too large to speak of each of its blocks.
    fn untagged_hole(&mut self, offset: u64, len: u64) -> Result<(), Fault> {
        if self.is_opaque() {
            self.sink.zero(offset, len, Zeros::Hole)?;
        }
        let hole = offset..offset.saturating_add(len);
        let stretches = reserved::within(self.fd, hole, self.subject.told).unwrap_or_default();
        let block = u64::try_from(BLOCK).unwrap_or(1);
        for stretch in stretches {
            let from = stretch.start.next_multiple_of(block);
            let end = stretch.end / block * block;
            if from < end {
                self.sink.zero(from, end - from, Zeros::Reserved)?;
            }
        }
        Ok(())
    }

    /// The last, partial block of a file that ends in a hole. Its tag does not say whether it takes
    /// space; where what is before it has `changed`, it has too.
    fn hole_tail(&mut self, offset: u64, len: u64, changed: bool) -> Result<(), Fault> {
        let reserved = self.reserved(offset, len, 1).first() == Some(&true);
        let tag = tags::of_hole_tail(&self.key, len);
        let index = offset / self.block;
        match self.old(index, 1)?.first().copied().flatten() {
            Some(old) if old == tag && !changed => {}
            None if !reserved && !self.is_opaque() => {}
            _ if reserved => self.sink.zero(offset, len, Zeros::Reserved)?,
            _ => self.sink.zero(offset, len, Zeros::Hole)?,
        }
        self.write(index, &[tag])
    }

    /// Zeros that were read where there was data, and their `tags`. If that was a hole by the time of
    /// the reading, they are no more reserved than any other hole.
    fn zeros(&mut self, offset: u64, len: u64, tags: &mut [Tag]) -> Result<(), Fault> {
        let end = offset + len;
        let mut at = offset;
        while at < end {
            let extent = if self.subject.true_holes {
                extents::at(self.fd, at, end, self.block).unwrap_or(Extent::Data { end })
            } else {
                Extent::Hole { end }
            };
            let (Extent::Data { end: next } | Extent::Hole { end: next }) = extent;
            // A file that was cut since has no data there.
            let next = if next > at { next.min(end) } else { end };
            let count = usize::try_from((next - at).div_ceil(self.block)).unwrap_or(1);
            let reserved = match extent {
                Extent::Data { .. } => vec![true; count],
                Extent::Hole { .. } => self.reserved(at, self.block, count),
            };
            let verdict = |reserved| {
                if reserved {
                    BlockAction::Reserve
                } else {
                    BlockAction::Zero
                }
            };
            for (verdict, run) in runs(reserved.into_iter().map(verdict)) {
                let from = at + u64::try_from(run.start).unwrap_or(0) * self.block;
                let to = (at + u64::try_from(run.end).unwrap_or(0) * self.block).min(next);
                self.sink.zero(from, to - from, verdict.zeros())?;
                if verdict == BlockAction::Reserve {
                    let first = usize::try_from((from - offset) / self.block).unwrap_or(0);
                    let sent = first..(first + run.len()).min(tags.len());
                    tags.get_mut(sent).unwrap_or_default().fill(Tag::RESERVED);
                }
            }
            at = next;
        }
        Ok(())
    }

    /// Which of `count` blocks of a hole from `from` on take space that nothing was written to. Where
    /// nobody tells: all of them, if the file takes all of its space.
    fn reserved(&self, from: u64, block: u64, count: usize) -> Vec<bool> {
        let len = block.saturating_mul(u64::try_from(count).unwrap_or(u64::MAX));
        let hole = from..from.saturating_add(len);
        let believed = self.subject.true_holes;
        let told = believed.then(|| reserved::within(self.fd, hole, self.subject.told));
        match told.and_then(Result::ok) {
            Some(stretches) => reserved::by_block(&stretches, from, block, count),
            None => vec![self.is_full(); count],
        }
    }

    /// Whether the file takes all of its space. Asked again once zeros were found: what was punched
    /// or left out by a writer since the file was looked at would be reserved, until the next pass.
    fn is_full(&self) -> bool {
        !self.subject.sparse && !Stat::of_fd(self.fd).is_ok_and(|now| now.is_sparse())
    }

    fn is_opaque(&self) -> bool {
        matches!(self.before, Existing::Opaque)
    }

    /// The old tags of `count` blocks; nothing for a block that did not exist.
    fn old(&self, first: u64, count: usize) -> Result<Vec<Option<Tag>>, Fault> {
        let Existing::Tagged(old) = self.before else {
            return Ok(vec![None; count]);
        };
        let tags = self
            .store
            .read(&old, first, count)
            .map_err(Shared::state_fault)?;
        Ok(tags
            .into_iter()
            .zip(first..)
            .map(|(tag, index)| (index < old.count).then_some(tag))
            .collect())
    }
}
