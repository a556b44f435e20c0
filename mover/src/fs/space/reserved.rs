//! Which space of a file is reserved: it takes some, and nothing was ever written there. To whoever
//! reads it is a hole, and to `SEEK_HOLE` too.

use std::{ops::Range, os::fd::BorrowedFd};

use livmig_proto::frame::Reserve;
use rustix::io::Errno;

use crate::fs::{stat::Stat, sys};

/// How a file system tells.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Told {
    /// By its extents.
    Extents,
    /// By its extents, and by a flag whether what is beyond the end is the owner's wish.
    ExtentsAndFlag,
    /// By the pages that it has, of a file in memory.
    Pages,
}

/// What bytes that are zero are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Zeros {
    /// A hole: they take no space.
    Hole,
    /// Space that the file has, written or not.
    Reserved,
}

/// Stretches that are told of at once; what comes after is taken for holes.
const STRETCHES_MAX: usize = 1 << 16;

/// Bytes of a page, and of a block of most file systems.
const PAGE: u64 = 4096;

/// The stretches of the hole `hole` that are reserved, in order.
///
/// # Errors
/// `OPNOTSUPP` and the like where the file system does not tell.
pub fn within(fd: BorrowedFd<'_>, hole: Range<u64>, told: Told) -> Result<Vec<Range<u64>>, Errno> {
    let mut found = Vec::new();
    if told == Told::Pages {
        pages(fd, hole, &mut found)?;
        return Ok(found);
    }
    let mut at = hole.start;
    while at < hole.end && found.len() < STRETCHES_MAX {
        let extents = sys::extents_from(fd, at)?;
        let Some(last) = extents.last() else { break };
        // Nothing that could be told again.
        at = last.end().max(at + 1);
        for extent in extents.iter().filter(|extent| extent.is_unwritten()) {
            let stretch = extent.offset.max(hole.start)..extent.end().min(hole.end);
            add(&mut found, stretch);
        }
    }
    Ok(found)
}

/// The first stretch beyond the end of the file that is reserved. `stat` is of the file. Further ones,
/// after a gap, are not carried: space is reserved for what is to be appended next, and with the gaps they
/// would take more than there is.
pub fn beyond(fd: BorrowedFd<'_>, stat: &Stat, told: Told) -> Reserve {
    if !stat.may_have_holes() {
        return Reserve::NONE;
    }
    let end = stat.identity.size.next_multiple_of(PAGE);
    let found = match told {
        Told::Pages => beyond_pages(fd, stat, end),
        Told::ExtentsAndFlag if !sys::has_asked_for_space(fd) => None,
        Told::Extents | Told::ExtentsAndFlag => beyond_extents(fd, end),
    };
    let most = i64::MAX.unsigned_abs();
    let reserve = found.map(|found| Reserve {
        start: found.start,
        len: found.end.min(most).saturating_sub(found.start),
    });
    reserve.filter(|space| !space.is_none()).unwrap_or_default()
}

/// Whether what is reserved beyond an end, here and there, is the same but for the size of blocks.
pub fn is_alike(here: Reserve, there: Reserve) -> bool {
    /// Twice the blocks of the coarsest file systems (bigalloc, real-time extents) that are common.
    const GRAIN: u64 = 128 << 10;
    let (here, there) = (here.len, there.len);
    (here == 0) == (there == 0) && here.abs_diff(there) <= GRAIN
}

fn beyond_extents(fd: BorrowedFd<'_>, end: u64) -> Option<Range<u64>> {
    let mut found: Option<Range<u64>> = None;
    let mut at = end;
    for _ in 0..STRETCHES_MAX {
        let extents = sys::extents_from(fd, at).ok()?;
        let Some(last) = extents.last() else { break };
        at = last.end().max(at + 1);
        for extent in extents.iter().filter(|extent| !extent.is_delayed()) {
            let first = extent.offset.max(end);
            match &mut found {
                None => found = Some(first..extent.end()),
                Some(found) if first <= found.end => found.end = extent.end().max(found.end),
                Some(_) => return found,
            }
        }
    }
    found
}

/// What a file in memory has more pages than those up to its end.
fn beyond_pages(fd: BorrowedFd<'_>, stat: &Stat, end: u64) -> Option<Range<u64>> {
    let within = match end {
        0 => 0,
        _ => sys::cached_pages_in(fd, 0, end).ok()?.saturating_mul(PAGE),
    };
    let more = stat.allocated().saturating_sub(within);
    (more > 0).then(|| end..end.saturating_add(more))
}

/// Halves the hole until a half has no pages, or nothing but pages.
fn pages(fd: BorrowedFd<'_>, hole: Range<u64>, found: &mut Vec<Range<u64>>) -> Result<(), Errno> {
    let mut halves = vec![hole];
    while let Some(half) = halves.pop() {
        let len = half.end.saturating_sub(half.start);
        if len == 0 || found.len() >= STRETCHES_MAX {
            continue;
        }
        let there = sys::cached_pages_in(fd, half.start, len)?;
        if there == 0 {
            continue;
        }
        if there >= len.div_ceil(PAGE) || len <= PAGE {
            add(found, half);
        } else {
            let middle = half.start + (len / 2).next_multiple_of(PAGE);
            halves.push(middle..half.end);
            halves.push(half.start..middle);
        }
    }
    Ok(())
}

/// Adds a stretch that is not before the last, or goes on from there.
fn add(found: &mut Vec<Range<u64>>, stretch: Range<u64>) {
    if stretch.start >= stretch.end {
        return;
    }
    match found.last_mut() {
        Some(last) if last.end >= stretch.start => last.end = last.end.max(stretch.end),
        _ => found.push(stretch),
    }
}

/// Which of `count` blocks of `block` bytes from `from` on are reserved: those of which at least half
/// is, by `stretches`. So neither space nor holes become the other by more than half a block.
pub fn by_block(stretches: &[Range<u64>], from: u64, block: u64, count: usize) -> Vec<bool> {
    let mut stretches = stretches.iter().peekable();
    let mut reserved = Vec::with_capacity(count);
    let mut start = from;
    for _ in 0..count {
        let end = start.saturating_add(block);
        let mut covered = 0;
        while let Some(stretch) = stretches.peek() {
            let (first, last) = (stretch.start.max(start), stretch.end.min(end));
            covered += last.saturating_sub(first);
            if stretch.end > end {
                break;
            }
            stretches.next();
        }
        reserved.push(covered > 0 && covered >= block / 2);
        start = end;
    }
    reserved
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::AsFd as _};

    use proptest::prelude::*;
    use rustix::fs::FallocateFlags;

    use super::*;

    const MIB: u64 = 1 << 20;

    /// What is reserved within a file and beyond its end.
    type Reserved = (Vec<Range<u64>>, Reserve);

    /// What is reserved of a file of 16 MiB with a reservation within it and one beyond, by `told`.
    fn told_of(file: &File, told: Told) -> Option<Reserved> {
        file.set_len(16 * MIB).unwrap();
        rustix::fs::fallocate(file, FallocateFlags::empty(), 4 * MIB, 2 * MIB).ok()?;
        rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, 16 * MIB, 3 * MIB).ok()?;
        file.sync_all().unwrap();
        let within = within(file.as_fd(), 0..16 * MIB, told).ok()?;
        let stat = Stat::of_fd(file).unwrap();
        Some((within, beyond(file.as_fd(), &stat, told)))
    }

    #[test]
    fn reservations_are_told_from_holes() {
        let here = tempfile::tempfile().unwrap();
        let in_memory = tempfile::tempfile_in("/dev/shm").ok();
        let told = [
            told_of(&here, Told::Extents),
            in_memory.and_then(|file| told_of(&file, Told::Pages)),
        ];
        for told in told {
            let Some((within, beyond)) = told else {
                eprintln!("skipped: the file system does not tell");
                continue;
            };
            assert_eq!(within.len(), 1);
            assert_eq!(within.first(), Some(&(4 * MIB..6 * MIB)));
            assert_eq!((beyond.start, beyond.len), (16 * MIB, 3 * MIB));
        }
    }

    #[test]
    fn what_is_reserved_differs_by_more_than_a_block() {
        let of = |len| Reserve { start: MIB, len };
        assert!(is_alike(Reserve::NONE, of(0)));
        assert!(is_alike(of(MIB), of(MIB + 4096)));
        assert!(!is_alike(of(4096), Reserve::NONE));
        assert!(!is_alike(Reserve::NONE, of(4096)));
        assert!(!is_alike(of(MIB), of(2 * MIB)));
    }

    proptest! {
        #[test]
        fn no_block_becomes_the_other_by_more_than_half(
            lens in prop::collection::vec((1_u64..40, 1_u64..40), 0..20),
            from in 0_u64..100,
            block in prop_oneof![Just(8_u64), Just(16), Just(64)],
            count in 1_usize..40,
        ) {
            let mut at = 0;
            let stretches: Vec<Range<u64>> = lens
                .into_iter()
                .map(|(gap, len)| {
                    let start = at + gap;
                    at = start + len;
                    start..at
                })
                .collect();
            let reserved = by_block(&stretches, from, block, count);
            prop_assert_eq!(reserved.len(), count);
            let mut start = from;
            for reserved in reserved {
                let covered = (start..start + block)
                    .filter(|at| stretches.iter().any(|stretch| stretch.contains(at)))
                    .count() as u64;
                prop_assert_eq!(reserved, covered * 2 >= block);
                start += block;
            }
        }
    }
}
