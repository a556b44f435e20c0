//! Compares a large file with the tags of what the destination holds, while it is read once.

use std::os::fd::{AsFd, BorrowedFd};

use livmig_proto::{
    control::Fault,
    limits::FRAME_CONTENT_MAX,
    tree::{BLOCK, Digest, range_digest, zero_leaf},
};

use super::shared::Shared;
use crate::{
    catalog::tags::{self, Tag, TagFile, TagsRef},
    fs::{
        extents::{self, Extent},
        stat::Stat,
    },
    hash::{self, Hashed, Options, Piece, StreamError},
};

/// Where differences go.
pub trait Sink {
    /// These bytes are at `offset`.
    fn data(&mut self, offset: u64, digest: Digest, content: &[u8]) -> Result<(), Fault>;

    /// These bytes are zero; `reserved` when they take space.
    fn zero(&mut self, offset: u64, len: u64, reserved: bool) -> Result<(), Fault>;
}

/// What the destination's file is before.
#[derive(Clone, Copy, Debug)]
pub enum Before {
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
}

/// What came of it.
#[derive(Debug)]
pub struct Compared {
    /// The content, summed up.
    pub hashed: Hashed,
    /// Its tags.
    pub tags: TagsRef,
}

/// Why a comparison ended early.
pub type CompareError = StreamError<Fault>;

/// Reads the file `fd` and sends what differs from `before` to `sink`.
pub fn compare(
    shared: &Shared<'_>,
    fd: impl AsFd,
    subject: Subject,
    before: Before,
    buffer: &mut Vec<u8>,
    sink: &mut impl Sink,
) -> Result<Compared, CompareError> {
    let block_log2 = match before {
        Before::Tagged(tags) => tags.block_log2,
        Before::Fresh | Before::Opaque => tags::block_log2_for(subject.size),
    };
    let block = 1_u64 << block_log2;
    let store = shared.store.tags();
    let new = store
        .allocate(subject.size.div_ceil(block), block_log2)
        .map_err(|errno| StreamError::Stopped(Shared::state_fault(errno)))?;
    let window = hash::WINDOW.max(usize::try_from(block).unwrap_or(usize::MAX));
    let options = Options {
        window,
        align: block,
        spares_cache: shared.spares_cache(),
        ..Options::new(subject.size, subject.true_holes)
    };
    let mut comparison = Comparison {
        store,
        key: shared.tag_key,
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
                tags: TagsRef { count, ..new },
            })
        }
        Err(error) => {
            store.release(&new);
            Err(error)
        }
    }
}

struct Comparison<'a, S> {
    store: &'a TagFile,
    key: [u8; 32],
    fd: BorrowedFd<'a>,
    subject: Subject,
    before: Before,
    new: TagsRef,
    block: u64,
    sink: &'a mut S,
}

/// What is to be done with a run of blocks.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Verdict {
    Same,
    Zero,
    Data,
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
            verdicts.push(match old {
                Some(old) if old.of_content() == *tag => {
                    // Whether its zeros take space stays as it is.
                    *tag = *old;
                    Verdict::Same
                }
                _ if leaves.iter().all(|leaf| *leaf == zero) => Verdict::Zero,
                _ => Verdict::Data,
            });
        }
        let block = usize::try_from(self.block).unwrap_or(usize::MAX);
        for (verdict, run) in runs(verdicts.into_iter()) {
            let bytes = run.start * block..(run.end * block).min(content.len());
            let start = run.start;
            let at = offset + u64::try_from(bytes.start).unwrap_or(0);
            let content = content.get(bytes).unwrap_or_default();
            match verdict {
                Verdict::Same => {}
                Verdict::Zero => {
                    let tags = new.get_mut(run).unwrap_or_default();
                    self.zeros(at, u64::try_from(content.len()).unwrap_or(0), tags)?;
                }
                Verdict::Data => {
                    let leaves = leaves.get(start * per_block..).unwrap_or_default();
                    self.send(at, content, leaves)?;
                }
            }
        }
        self.store
            .write(&self.new, first, &new)
            .map_err(Shared::state_fault)
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
        // A file without room to spare whose holes are not holes has reserved space.
        let reserved = self.is_full();
        let end = offset + len;
        let whole_end = end / self.block * self.block;
        let mut at = offset;
        while at < whole_end {
            let first = at / self.block;
            let count = usize::try_from((whole_end - at) / self.block)
                .unwrap_or(usize::MAX)
                .min(1 << 16);
            let old = self.old(first, count)?;
            let opaque = self.is_opaque();
            let verdict = |old: &Option<Tag>| match old {
                Some(tag) if *tag == Tag::default() => Verdict::Same,
                Some(tag) if reserved && tag.is_zeros() => Verdict::Same,
                Some(_) => Verdict::Zero,
                // Beyond what was there: already zero, perhaps to be reserved.
                None if reserved || opaque => Verdict::Zero,
                None => Verdict::Same,
            };
            let mut new: Vec<Tag> = old.iter().map(|old| old.unwrap_or_default()).collect();
            for (verdict, run) in runs(old.iter().map(verdict)) {
                if verdict == Verdict::Zero {
                    let sent = if reserved {
                        Tag::RESERVED
                    } else {
                        Tag::default()
                    };
                    new.get_mut(run.clone()).unwrap_or_default().fill(sent);
                    let from = at + u64::try_from(run.start).unwrap_or(0) * self.block;
                    let len = u64::try_from(run.len()).unwrap_or(0) * self.block;
                    self.sink.zero(from, len, reserved)?;
                }
            }
            self.store
                .write(&self.new, first, &new)
                .map_err(Shared::state_fault)?;
            at += u64::try_from(count).unwrap_or(0) * self.block;
        }
        if at < end {
            self.hole_tail(at, end - at, reserved)?;
        }
        Ok(())
    }

    /// The last, partial block of a file that ends in a hole.
    fn hole_tail(&mut self, offset: u64, len: u64, reserved: bool) -> Result<(), Fault> {
        let tag = tags::of_hole_tail(&self.key, len);
        let index = offset / self.block;
        match self.old(index, 1)?.first().copied().flatten() {
            Some(old) if old == tag => {}
            None if !reserved && !self.is_opaque() => {}
            _ => self.sink.zero(offset, len, reserved)?,
        }
        self.store
            .write(&self.new, index, &[tag])
            .map_err(Shared::state_fault)
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
            let (reserved, next) = match extent {
                Extent::Data { end } => (true, end),
                Extent::Hole { end } => (self.is_full(), end),
            };
            // A file that was cut since has no data there.
            let next = if next > at { next.min(end) } else { end };
            self.sink.zero(at, next - at, reserved)?;
            if reserved {
                let block = |at: u64| usize::try_from((at - offset) / self.block);
                let sent = block(at).unwrap_or(0)..block(next).unwrap_or(0);
                tags.get_mut(sent).unwrap_or_default().fill(Tag::RESERVED);
            }
            at = next;
        }
        Ok(())
    }

    /// Whether the file takes all of its space. Asked again once zeros were found: what was punched
    /// or left out by a writer since the file was looked at would be reserved, until the next pass.
    fn is_full(&self) -> bool {
        !self.subject.sparse && !Stat::of_fd(self.fd).is_ok_and(|now| now.is_sparse())
    }

    fn is_opaque(&self) -> bool {
        matches!(self.before, Before::Opaque)
    }

    /// The old tags of `count` blocks; nothing for a block that did not exist.
    fn old(&self, first: u64, count: usize) -> Result<Vec<Option<Tag>>, Fault> {
        let Before::Tagged(old) = self.before else {
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

/// Consecutive equal verdicts, with the blocks they cover.
fn runs(
    verdicts: impl Iterator<Item = Verdict>,
) -> impl Iterator<Item = (Verdict, std::ops::Range<usize>)> {
    let mut verdicts = verdicts.enumerate().peekable();
    std::iter::from_fn(move || {
        let (start, verdict) = verdicts.next()?;
        let mut end = start + 1;
        while verdicts.next_if(|(_, next)| *next == verdict).is_some() {
            end += 1;
        }
        Some((verdict, start..end))
    })
}
