//! Content that shifted inside a file, which blocks at fixed offsets cannot find.
//!
//! The destination sends rolling checksums of some blocks of the file it has; the source finds in
//! its own content where those went and follows from there by the tags it remembers
//! ([`shift`](super::rolling_match)). The result is built as a new file from the old one, since a shift
//! cannot be done in place, and what the destination ends up with is checked against the root like
//! everything else.

use std::{os::fd::AsFd, thread};

use livmig_proto::{
    control::{Fault, FaultCode, Side},
    frame::{Op, OpenMode},
    limits::{FRAME_CONTENT_MAX, SUMS_MAX},
    session::Query,
    tree::{BLOCK, ContentTree, Digest, leaf, range_digest},
    wire::DecodeError,
};

use super::{
    content::{CompareError, Compared, Subject},
    file::{LaneSink, Transfer},
    rolling_match::{Decided, Old, Part, Search, WindowPlace},
};
use crate::source::shared::Shared;
use crate::{
    catalog::{
        segment::KeptFile,
        tags::{self, Tag, TagsRef, block_log2_for},
    },
    fault,
    fs::{file, space::footprint::Footprint},
    hash::{self, Hashed, StreamError},
};

/// Blocks that are probed before a shift is suspected.
const PROBES: u64 = 16;

/// Files beyond this size are not searched: the blocks with checksums would be so far apart that
/// much is sent before one is found.
const SIZE_MAX: u64 = 64 << 30;

/// Bytes that are searched at once: enough that what a window is searched for before it knows, and
/// again in the next, is little.
const WINDOW: usize = 4 * hash::WINDOW;

/// What the destination holds of the file, and the tags of that, if most of its blocks are no longer
/// where they were although the size changed: then their content probably moved. Costs the reading of
/// a few blocks.
pub(crate) fn shifted<'t>(
    shared: &Shared<'_>,
    transfer: &'t Transfer<'_>,
    old: Option<TagsRef>,
    buffer: &mut Vec<u8>,
) -> Result<Option<(&'t KeptFile, TagsRef)>, Fault> {
    let (Some(kept), Some(old)) = (&transfer.kept, old) else {
        return Ok(None);
    };
    let size = transfer.open.before.identity.size;
    let blocks = size.min(kept.size) >> old.block_log2;
    // The new file stands beside the old one until it is whole.
    let possible = transfer.in_place == OpenMode::InPlace
        && !shared.is_tight()
        && !transfer.open.before.is_sparse();
    if !possible || size == kept.size || blocks < PROBES || size.max(kept.size) > SIZE_MAX {
        return Ok(None);
    }
    let block = 1_usize << old.block_log2;
    buffer.resize(block, 0);
    let mut moved = 0;
    for probe in 0..PROBES {
        let index = blocks * probe / PROBES;
        let read = file::read_at(&transfer.open.fd, buffer, index << old.block_log2)
            .map_err(|errno| fault::at(Side::Source, transfer.path, "read the file", errno))?;
        let leaves: Vec<Digest> = buffer
            .get(..read)
            .unwrap_or_default()
            .chunks(BLOCK)
            .map(leaf)
            .collect();
        let remembered = shared
            .store
            .tags()
            .read(&old, index, 1)
            .map_err(Shared::state_fault)?;
        let now = tags::tag(&shared.tag_key, &leaves);
        if remembered.first().map(|tag| tag.of_content()) != Some(now) {
            moved += 1;
        }
    }
    Ok((moved * 2 >= PROBES).then_some((kept, old)))
}

/// Sends the file as copies of the old one, `kept` and with the tags `old`, and what is new.
pub(crate) fn send(
    sink: &mut LaneSink<'_, '_, '_, '_>,
    subject: Subject,
    (kept, old): (&KeptFile, &TagsRef),
    buffer: &mut Vec<u8>,
) -> Result<Compared, CompareError> {
    let shared = sink.visitor.shared;
    let stopped = StreamError::Stopped;
    // What was sent of this directory before must be applied before the file is asked about.
    let search = ask(sink, kept, old).map_err(stopped)?;
    sink.open_as(OpenMode::Rebuild).map_err(stopped)?;

    let store = shared.store.tags();
    let block_log2 = block_log2_for(subject.size);
    let new = store
        .allocate(subject.size.div_ceil(1 << block_log2), block_log2)
        .map_err(|errno| StreamError::Stopped(Shared::state_fault(errno)))?;
    match stream(sink, subject.size, search, (old, &new), buffer) {
        Ok(hashed) => {
            let count = hashed.size.div_ceil(1 << block_log2);
            Ok(Compared {
                hashed,
                tags: Some(TagsRef { count, ..new }),
            })
        }
        Err(error) => {
            store.release(&new);
            Err(error)
        }
    }
}

/// Asks the destination for the checksums of its file, for a search.
fn ask(sink: &LaneSink<'_, '_, '_, '_>, kept: &KeptFile, tags: &TagsRef) -> Result<Search, Fault> {
    let shared = sink.visitor.shared;
    let block = 1_u32 << tags.block_log2;
    let sums_max = u64::try_from(SUMS_MAX).unwrap_or(u64::MAX);
    let every = (kept.size >> tags.block_log2).div_ceil(sums_max).max(1);
    let mut answer = shared.link.query(&sink.scope.path, |path| Query::Sums {
        path,
        name: sink.transfer.name.as_bytes().to_vec(),
        block,
        every,
    })?;
    let bytes = answer
        .next(|prefix| match usize::try_from(u32::from_le_bytes(prefix)) {
            Ok(length) if length <= 4 * SUMS_MAX => Ok(length),
            _ => Err(DecodeError::TooLong),
        })?
        .unwrap_or_default();
    answer.end();
    let sums: Vec<u32> = bytes
        .chunks_exact(4)
        .filter_map(|sum| sum.try_into().ok())
        .map(u32::from_le_bytes)
        .collect();
    let old = Old {
        size: kept.size,
        block: usize::try_from(block).unwrap_or(usize::MAX),
        every,
    };
    Ok(Search::new(old, shared.tag_key, &sums))
}

/// Reads the file and sends what it consists of, window by window.
fn stream(
    sink: &mut LaneSink<'_, '_, '_, '_>,
    size: u64,
    mut search: Search,
    (old, new): (&TagsRef, &TagsRef),
    buffer: &mut Vec<u8>,
) -> Result<Hashed, CompareError> {
    let shared = sink.visitor.shared;
    let store = shared.store.tags();
    let fd = sink.transfer.open.fd.as_fd();
    let known = |first, count| {
        let tags = store.read(old, first, count).map_err(Shared::state_fault)?;
        Ok(tags.into_iter().map(Tag::of_content).collect())
    };
    let block = 1_u64 << new.block_log2;
    let align = usize::try_from(block).unwrap_or(usize::MAX).max(BLOCK);
    let window = WINDOW.max(8 * align).max(8 << old.block_log2);
    let mut footprint = Footprint::new(shared.cache_use());
    let mut tree = ContentTree::new();
    while tree.len() < size {
        let offset = tree.len();
        let wanted = usize::try_from(size - offset)
            .unwrap_or(usize::MAX)
            .min(window);
        buffer.resize(wanted, 0);
        footprint.before(fd, offset, u64_of(wanted), size);
        let read = file::read_at(fd, buffer, offset).map_err(StreamError::Read)?;
        let content = buffer.get(..read).unwrap_or_default();
        // A file that is shorter than expected ends where it ends.
        let last = read < wanted || offset + u64_of(read) >= size;
        let place = if last {
            WindowPlace::Last
        } else {
            WindowPlace::Inner
        };
        let (leaves, decided) = thread::scope(|scope| {
            let leaves = scope.spawn(|| hash::leaves_of(content));
            let decided = search.window(content, place, align, known);
            (leaves.join(), decided)
        });
        let leaves = leaves.map_err(|_| StreamError::Stopped(internal()))?;
        let decided = decided.map_err(StreamError::Stopped)?;
        send_parts(sink, offset, content, &leaves, &decided).map_err(StreamError::Stopped)?;

        let consumed = content.get(..decided.consumed).unwrap_or_default();
        let leaves = leaves
            .get(..consumed.len().div_ceil(BLOCK))
            .unwrap_or_default();
        for (leaf, block) in leaves.iter().zip(consumed.chunks(BLOCK)) {
            tree.push_leaf(*leaf, block.len());
        }
        // Zeros are content like any other here.
        let values: Vec<Tag> = tags::of_blocks(&shared.tag_key, leaves, block)
            .map(Tag::taking_space)
            .collect();
        store
            .write(new, offset / block, &values)
            .map_err(|errno| StreamError::Stopped(Shared::state_fault(errno)))?;
        footprint.behind(fd, offset, u64_of(consumed.len()));
        if last {
            break;
        }
    }
    Ok(Hashed {
        size: tree.len(),
        root: tree.finish(),
    })
}

fn send_parts(
    sink: &mut LaneSink<'_, '_, '_, '_>,
    offset: u64,
    content: &[u8],
    leaves: &[Digest],
    decided: &Decided,
) -> Result<(), Fault> {
    for part in &decided.parts {
        match part {
            Part::Literal(range) => send_literal(sink, offset, content, leaves, range)?,
            Part::Copy { from, at } => {
                let op = Op::Copy {
                    from: *from,
                    offset: offset + u64_of(at.start),
                    len: u64_of(at.len()),
                };
                sink.visitor.lane.push(&op, 32)?;
            }
        }
    }
    Ok(())
}

/// Sends new bytes in whole blocks: what a neighbouring copy also covers is sent twice rather than
/// hashed at odd offsets.
fn send_literal(
    sink: &mut LaneSink<'_, '_, '_, '_>,
    offset: u64,
    content: &[u8],
    leaves: &[Digest],
    range: &std::ops::Range<usize>,
) -> Result<(), Fault> {
    let last = range.end.div_ceil(BLOCK).min(leaves.len());
    let mut first = range.start / BLOCK;
    while first < last {
        let end = (first + FRAME_CONTENT_MAX / BLOCK).min(last);
        let bytes = content
            .get(first * BLOCK..(end * BLOCK).min(content.len()))
            .unwrap_or_default();
        let digest = range_digest(leaves.get(first..end).unwrap_or_default());
        let at = offset + u64_of(first * BLOCK);
        sink.visitor.lane.push_with(bytes.len() + 64, |frame| {
            frame.push_data(at, &digest, bytes);
        })?;
        first = end;
    }
    Ok(())
}

fn u64_of(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

fn internal() -> Fault {
    fault::plain(
        Side::Source,
        FaultCode::Internal,
        "source: a thread that hashes ended unexpectedly",
    )
}
