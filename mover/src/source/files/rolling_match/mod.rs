//! Finds what of the old content of a file is still there, at other places.
//!
//! Content that shifted is where it was plus a distance, for a long way. So the distance is found
//! by a few rolling checksums of old blocks, which the destination made, and then *followed*: block
//! after block is compared with the tag that the source remembers, until one differs. No byte is
//! claimed to be old that no tag has proven.

use std::{collections::HashMap, ops::Range};

use crate::{
    catalog::tags::{self, Tag},
    hash::{self, rolling::Rolling},
};

/// Old blocks with one checksum that are compared; content that repeats itself has many.
const CANDIDATES_MAX: usize = 4;

/// Vain comparisons that are allowed without anything scanned, and one of how many scanned bytes
/// allows another: beyond that, content was made to look like what it is not, and a search would
/// hash a block for every byte.
const VAIN: (u64, u64) = (1024, 1024);

/// Bits of a checksum that the filter looks at.
const FILTER_BITS: u32 = 16;

/// The old content, as far as it is remembered.
#[derive(Clone, Copy, Debug)]
pub struct Old {
    /// Its size in bytes.
    pub size: u64,
    /// Bytes of a block.
    pub block: usize,
    /// One of how many blocks has a checksum, from the first on.
    pub every: u64,
}

/// A stretch of new content.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Part {
    /// New bytes.
    Literal(Range<usize>),
    /// The bytes that were at `from`.
    Copy {
        /// Where they were, in the old file.
        from: u64,
        /// Where they are, in the window.
        at: Range<usize>,
    },
}

/// What a window consists of.
#[derive(Debug)]
pub struct Decided {
    /// Its parts, in order and without gaps, but for what the window before has decided.
    pub parts: Vec<Part>,
    /// Where the next window must begin.
    pub consumed: usize,
}

/// Which window of a file it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WindowPlace {
    /// Another one follows.
    Inner,
    /// It ends with the file.
    Last,
}

/// The search through one file, window by window.
#[derive(Debug)]
pub struct Search {
    old: Old,
    key: [u8; 32],
    samples: Samples,
    /// The old bytes that come next, while they do.
    next: Option<u64>,
    /// What of the window before is decided although the next begins with it.
    carried: Vec<u8>,
    scanned: u64,
    vain: u64,
}

impl Search {
    /// A search for `old` content, of whose blocks these are the checksums. `key` is that of the
    /// tags.
    pub fn new(old: Old, key: [u8; 32], sums: &[u32]) -> Self {
        Self {
            samples: Samples::new(sums, &old),
            old,
            key,
            next: None,
            carried: Vec::new(),
            scanned: 0,
            vain: 0,
        }
    }

    /// Decides what `content` consists of, which begins where the window before was consumed. Only
    /// the last window may be shorter than eight blocks, or eight times `align`, a multiple of
    /// which is consumed of all others. `known` tells the tags of so many old blocks from one on.
    pub fn window<E>(
        &mut self,
        content: &[u8],
        window: WindowPlace,
        align: usize,
        known: impl Fn(u64, usize) -> Result<Vec<Tag>, E>,
    ) -> Result<Decided, E> {
        let last = window == WindowPlace::Last;
        let mut parts = Vec::new();
        let carried = std::mem::take(&mut self.carried);
        let mut at = carried.len().min(content.len());
        // Whoever writes may have changed meanwhile what the window before has decided.
        let mut literal = if content.starts_with(&carried) { at } else { 0 };
        loop {
            if let Some(from) = self.next.take() {
                let rest = content.get(at..).unwrap_or_default();
                let matched = self.follow(rest, from, last, &known)?;
                if matched > 0 {
                    push_literal(&mut parts, literal..at);
                    let end = at + matched;
                    parts.push(Part::Copy { from, at: at..end });
                    (literal, at) = (end, end);
                } else {
                    self.vain += 1;
                }
                if !last && content.len() - at < self.old.block {
                    // The block is cut off here; what it was supposed to follow may be changed.
                    push_literal(&mut parts, literal..at);
                    literal = at;
                    self.next = Some(from + to_u64(matched));
                    break;
                }
            }
            let Some((place, from)) = self.find(content, at, &known)? else {
                break;
            };
            let (place, from) = self.walk_back(content, literal, place, from, &known)?;
            at = place;
            self.next = Some(from);
        }
        let len = content.len();
        if last {
            push_literal(&mut parts, literal..len);
            return Ok(Decided {
                parts,
                consumed: len,
            });
        }
        // Without a match yet, one that begins here may be found by a checksum further on.
        let kept = match self.next {
            Some(_) => len - at,
            None if self.is_exhausted() => 0,
            None => self.spacing().min(len / 2),
        };
        let consumed = (len - kept).max(literal) / align * align;
        push_literal(&mut parts, literal..consumed);
        self.carried = content.get(consumed..literal).unwrap_or_default().to_vec();
        Ok(Decided { parts, consumed })
    }

    /// How many bytes of `rest` are the old ones at `from`, a multiple of the block.
    fn follow<E>(
        &self,
        rest: &[u8],
        from: u64,
        last: bool,
        known: impl Fn(u64, usize) -> Result<Vec<Tag>, E>,
    ) -> Result<usize, E> {
        let block = self.old.block;
        let index = from / to_u64(block);
        let left = self.old.size.saturating_sub(from);
        let whole = usize::try_from(left / to_u64(block)).unwrap_or(usize::MAX);
        let count = whole.min(rest.len() / block);
        let tags = known(index, count + 1)?;
        let mut matched = 0;
        for (content, tag) in rest.chunks_exact(block).zip(tags.iter().take(count)) {
            if self.tag(content) != *tag {
                return Ok(matched);
            }
            matched += block;
        }
        // Both end with the same short block.
        let end = rest.get(matched..).unwrap_or_default();
        let both_end = last && count == whole && to_u64(matched + end.len()) == left;
        if both_end && !end.is_empty() && tags.get(count) == Some(&self.tag(end)) {
            matched += end.len();
        }
        Ok(matched)
    }

    /// The next place from `at` on that holds an old block with a checksum, and which.
    fn find<E>(
        &mut self,
        content: &[u8],
        at: usize,
        known: impl Fn(u64, usize) -> Result<Vec<Tag>, E>,
    ) -> Result<Option<(usize, u64)>, E> {
        if self.samples.is_empty() {
            return Ok(None);
        }
        let block = self.old.block;
        let rest = content.get(at..).unwrap_or_default();
        let Some((window, after)) = rest.split_at_checked(block) else {
            return Ok(None);
        };
        let mut rolling = Rolling::of(window);
        // Past the last byte there is nothing to roll to: whatever comes there is not looked at.
        let steps = rest.iter().zip(after.iter().chain(std::iter::once(&0)));
        for (place, (out, next)) in steps.enumerate() {
            let indexes = self.samples.blocks(rolling.value());
            if !indexes.is_empty() {
                if self.is_exhausted() {
                    return Ok(None);
                }
                let tag = self.tag(rest.get(place..place + block).unwrap_or_default());
                for index in indexes {
                    if known(*index, 1)?.first() == Some(&tag) {
                        let from = index * to_u64(block);
                        self.scanned += to_u64(place);
                        return Ok(Some((at + place, from)));
                    }
                }
                self.vain += 1;
            }
            rolling.roll(*out, *next);
        }
        self.scanned += to_u64(rest.len());
        Ok(None)
    }

    /// Where the match at `place` with the old bytes at `from` begins, not before `least`.
    fn walk_back<E>(
        &self,
        content: &[u8],
        least: usize,
        mut place: usize,
        mut from: u64,
        known: impl Fn(u64, usize) -> Result<Vec<Tag>, E>,
    ) -> Result<(usize, u64), E> {
        let block = self.old.block;
        while let (Some(earlier), Some(before)) =
            (place.checked_sub(block), from.checked_sub(to_u64(block)))
        {
            if earlier < least {
                break;
            }
            let tag = self.tag(content.get(earlier..place).unwrap_or_default());
            if known(before / to_u64(block), 1)?.first() != Some(&tag) {
                break;
            }
            (place, from) = (earlier, before);
        }
        Ok((place, from))
    }

    fn is_exhausted(&self) -> bool {
        let (free, every) = VAIN;
        self.samples.is_empty() || self.vain > free + self.scanned / every
    }

    /// Bytes from one block with a checksum to the next.
    fn spacing(&self) -> usize {
        usize::try_from(self.old.every)
            .unwrap_or(usize::MAX)
            .saturating_mul(self.old.block)
    }

    fn tag(&self, content: &[u8]) -> Tag {
        tags::tag(&self.key, &hash::leaves_of(content))
    }
}

fn push_literal(parts: &mut Vec<Part>, range: Range<usize>) {
    if !range.is_empty() {
        parts.push(Part::Literal(range));
    }
}

/// Old blocks by their checksums.
#[derive(Debug)]
struct Samples {
    /// Whether some checksum has these low bits: nearly no byte of a file gets beyond this.
    filter: Vec<bool>,
    blocks: HashMap<u32, Vec<u64>>,
}

impl Samples {
    fn new(sums: &[u32], old: &Old) -> Self {
        let whole = old.size / to_u64(old.block);
        let mut filter = vec![false; 1 << FILTER_BITS];
        let mut blocks: HashMap<u32, Vec<u64>> = HashMap::new();
        for (sum, number) in sums.iter().zip(0_u64..) {
            let index = number.saturating_mul(old.every);
            // Whoever sent them may have sent more than there are.
            if index >= whole {
                break;
            }
            let same = blocks.entry(*sum).or_default();
            if same.len() < CANDIDATES_MAX {
                same.push(index);
            }
            if let Some(bit) = filter.get_mut(filter_bits(*sum)) {
                *bit = true;
            }
        }
        Self { filter, blocks }
    }

    #[inline]
    fn blocks(&self, sum: u32) -> &[u64] {
        if self.filter.get(filter_bits(sum)) == Some(&true) {
            self.blocks.get(&sum).map(Vec::as_slice).unwrap_or_default()
        } else {
            &[]
        }
    }

    fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }
}

/// The bits of a checksum that the filter looks at: both its halves have a part in them.
#[inline]
fn filter_bits(sum: u32) -> usize {
    usize::try_from((sum ^ sum >> (32 - FILTER_BITS)) & ((1 << FILTER_BITS) - 1))
        .unwrap_or(usize::MAX)
}

fn to_u64(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
