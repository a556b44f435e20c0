//! Content that shifted inside a file: rolling checksums (`fast_rsync`) find it where blocks at
//! fixed offsets cannot.
//!
//! The destination sends the signature of the file it has; the source finds in its own content
//! what the signature knows, and sends the rest. The result is built as a new file from the old
//! one, since a shift cannot be done in place. MD4 inside the signature only *suggests*: what the
//! destination ends up with is checked against the BLAKE3 root like everything else.

use std::ops::ControlFlow;

use fast_rsync::{Signature, diff};
use livmig_proto::{
    control::{Fault, FaultCode, Side},
    frame::{Op, OpenMode},
    limits::SIGNATURE_BLOCKS_MAX,
    session::Query,
    tree::{BLOCK, Digest, leaf, range_digest},
    wire::DecodeError,
};

use super::{
    content::{CompareError, Compared, Subject},
    file::{LaneSink, Transfer},
    shared::Shared,
};
use crate::{
    catalog::{
        segment::KeptFile,
        tags::{self, Tag, TagsRef, block_log2_for},
    },
    fault,
    fs::file,
    hash::{self, Options, Piece, StreamError},
};

/// Blocks that are probed before a shift is suspected.
const PROBES: u64 = 16;

/// Files beyond this size are not searched: the index of their signature would not fit the
/// memory that a mover may take.
const SIZE_MAX: u64 = 4 << 30;

/// Bytes of one block's entry in a signature: a rolling checksum and an MD4.
const SIGNATURE_ENTRY: usize = 4 + 16;

/// Bytes before the entries of a signature.
const SIGNATURE_HEAD: usize = 12;

/// Whether most of the old blocks are no longer where they were although the size changed: then
/// their content probably moved. Costs the reading of a few blocks.
pub(super) fn looks_shifted(
    shared: &Shared<'_>,
    transfer: &Transfer<'_>,
    kept: &KeptFile,
    old: &TagsRef,
    buffer: &mut Vec<u8>,
) -> Result<bool, Fault> {
    let size = transfer.open.before.identity.size;
    let both = size.min(kept.size);
    let blocks = both >> old.block_log2;
    let beside = !shared.is_tight();
    if !beside || size == kept.size || blocks < PROBES || size.max(kept.size) > SIZE_MAX {
        return Ok(false);
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
            .read(old, index, 1)
            .map_err(Shared::state_fault)?;
        if remembered != [tags::tag(&shared.tag_key, &leaves)] {
            moved += 1;
        }
    }
    Ok(moved * 2 >= PROBES)
}

/// Sends the file as copies of the old one and what is new.
pub(super) fn send(
    sink: &mut LaneSink<'_, '_, '_, '_>,
    subject: Subject,
    buffer: &mut Vec<u8>,
) -> Result<Compared, CompareError> {
    let shared = sink.visitor.shared;
    let stopped = StreamError::Stopped;
    // What was sent of this directory before must be applied before the file is asked about.
    let signature = fetch(shared, sink).map_err(stopped)?;
    let index = signature.index();
    sink.open_as(OpenMode::Rebuild)
        .map_err(StreamError::Stopped)?;

    let store = shared.store.tags();
    let block_log2 = block_log2_for(subject.size);
    let block = 1_u64 << block_log2;
    let new = store
        .allocate(subject.size.div_ceil(block), block_log2)
        .map_err(|errno| StreamError::Stopped(Shared::state_fault(errno)))?;
    // The search loses a match at each edge of a window, so windows are large.
    let options = Options {
        window: 4 * hash::WINDOW,
        align: block,
        spares_cache: shared.spares_cache(),
        ..Options::new(subject.size, subject.true_holes)
    };
    let mut delta = Vec::new();
    let result = hash::stream(transfer_fd(sink), options, buffer, |piece| match piece {
        Piece::Hole { .. } => Ok(()),
        Piece::Data {
            offset,
            content,
            leaves,
        } => {
            let values: Vec<Tag> = tags::of_blocks(&shared.tag_key, leaves, block).collect();
            store
                .write(&new, offset / block, &values)
                .map_err(Shared::state_fault)?;
            delta.clear();
            diff(&index, content, &mut delta).map_err(|_| internal())?;
            replay(sink, offset, content, leaves, &delta)
        }
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

fn transfer_fd<'t>(sink: &LaneSink<'_, '_, 't, '_>) -> &'t std::os::fd::OwnedFd {
    &sink.transfer.open.fd
}

/// Fetches the signature of the destination's file.
fn fetch(shared: &Shared<'_>, sink: &mut LaneSink<'_, '_, '_, '_>) -> Result<Signature, Fault> {
    let transfer = sink.transfer;
    let old_size = transfer.kept.map_or(0, |kept| kept.size);
    let block = block_for(old_size);
    let query = Query::Signature {
        path: sink.scope.path.as_bytes().to_vec(),
        name: transfer.name.as_bytes().to_vec(),
        block,
    };
    let longest = SIGNATURE_HEAD + SIGNATURE_BLOCKS_MAX * SIGNATURE_ENTRY;
    let mut answer = shared.link.query(&query)?;
    let bytes = answer
        .next(|prefix| match usize::try_from(u32::from_le_bytes(prefix)) {
            Ok(length) if length <= longest => Ok(length),
            _ => Err(DecodeError::TooLong),
        })?
        .ok_or_else(bad_signature)?;
    answer.end();
    checked_signature(&bytes, block)
}

/// The signature in `bytes`, if it is one with blocks of `block` bytes. It is checked before the
/// library sees it: a block size of zero, for one, would keep it busy for ever.
pub fn checked_signature(bytes: &[u8], block: u32) -> Result<Signature, Fault> {
    let field = |at: usize| {
        bytes
            .get(at..at + 4)
            .and_then(|f| <[u8; 4]>::try_from(f).ok())
            .map(u32::from_be_bytes)
    };
    let valid = field(4) == Some(block)
        && field(8) == Some(16)
        && bytes
            .len()
            .saturating_sub(SIGNATURE_HEAD)
            .is_multiple_of(SIGNATURE_ENTRY);
    if bytes.len() < SIGNATURE_HEAD || !valid {
        return Err(bad_signature());
    }
    Signature::deserialize(bytes.to_vec()).map_err(|_| bad_signature())
}

/// Bytes of a block in a signature for a file of `size` bytes: small enough to find small
/// shifts, large enough that the index of the largest file takes some 8 MiB.
pub fn block_for(size: u64) -> u32 {
    let mut block = 4096;
    while size / u64::from(block) > 1 << 16 {
        block *= 2;
    }
    block
}

/// Sends what the library found in one window.
fn replay(
    sink: &mut LaneSink<'_, '_, '_, '_>,
    offset: u64,
    content: &[u8],
    leaves: &[Digest],
    delta: &[u8],
) -> Result<(), Fault> {
    let mut at = 0_usize;
    let mut literal = Literal { start: 0, end: 0 };
    let flow = commands(delta, |command| {
        match command {
            Command::Literal(len) => {
                literal.end += len;
                at += len;
            }
            Command::Copy { from, len } => {
                let size = usize::try_from(len).map_err(|_| internal())?;
                literal.flush(sink, offset, content, leaves)?;
                let op = Op::Copy {
                    from,
                    offset: offset + u64_of(at),
                    len,
                };
                sink.visitor.lane.push(&op, 32)?;
                at += size;
                literal = Literal { start: at, end: at };
            }
        }
        Ok(())
    });
    match flow {
        ControlFlow::Continue(()) if at == content.len() => {
            literal.flush(sink, offset, content, leaves)
        }
        ControlFlow::Break(fault) => Err(fault),
        ControlFlow::Continue(()) => Err(internal()),
    }
}

/// New bytes that are not sent yet.
struct Literal {
    start: usize,
    end: usize,
}

impl Literal {
    /// Sends them in whole blocks: what a neighbouring copy also covers is sent twice rather than
    /// hashed at odd offsets.
    fn flush(
        &self,
        sink: &mut LaneSink<'_, '_, '_, '_>,
        offset: u64,
        content: &[u8],
        leaves: &[Digest],
    ) -> Result<(), Fault> {
        if self.start == self.end {
            return Ok(());
        }
        let first = self.start / BLOCK;
        let last = self.end.div_ceil(BLOCK).min(leaves.len());
        let step = livmig_proto::limits::FRAME_CONTENT_MAX / BLOCK;
        let mut block = first;
        while block < last {
            let end = (block + step).min(last);
            let bytes = content
                .get(block * BLOCK..(end * BLOCK).min(content.len()))
                .unwrap_or_default();
            let digest = range_digest(leaves.get(block..end).unwrap_or_default());
            let op = Op::Data {
                offset: offset + u64_of(block * BLOCK),
                digest,
                content: bytes::Bytes::copy_from_slice(bytes),
            };
            sink.visitor.lane.push(&op, bytes.len() + 64)?;
            block = end;
        }
        Ok(())
    }
}

/// One command of a delta.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Command {
    /// So many bytes are new.
    Literal(usize),
    /// Bytes of the old file.
    Copy {
        /// Where they are in it.
        from: u64,
        /// How many.
        len: u64,
    },
}

/// Takes a delta of librsync's format apart: 0x00 ends, 0x01–0x40 are short literals, 0x41–0x44
/// literals with a length of 1, 2, 4 or 8 bytes, 0x45–0x54 copies with offset and length of 1,
/// 2, 4 or 8 bytes each, all big-endian.
pub fn commands(
    delta: &[u8],
    mut each: impl FnMut(Command) -> Result<(), Fault>,
) -> ControlFlow<Fault> {
    let mut rest = delta.get(4..).unwrap_or_default();
    let number = |rest: &mut &[u8], log2: u8| -> Option<u64> {
        let (bytes, tail) = rest.split_at_checked(1 << log2)?;
        *rest = tail;
        Some(
            bytes
                .iter()
                .fold(0, |number, byte| number << 8 | u64::from(*byte)),
        )
    };
    while let Some((&opcode, tail)) = rest.split_first() {
        rest = tail;
        let command = match opcode {
            0 => return ControlFlow::Continue(()),
            0x01..=0x44 => {
                let len = if opcode <= 0x40 {
                    Some(u64::from(opcode))
                } else {
                    number(&mut rest, opcode - 0x41)
                };
                let literal = len
                    .and_then(|len| usize::try_from(len).ok())
                    .and_then(|len| Some((len, rest.split_at_checked(len)?.1)));
                let Some((len, tail)) = literal else { break };
                rest = tail;
                Command::Literal(len)
            }
            0x45..=0x54 => {
                let widths = opcode - 0x45;
                let from = number(&mut rest, widths / 4);
                let len = number(&mut rest, widths % 4);
                let (Some(from), Some(len)) = (from, len) else {
                    break;
                };
                Command::Copy { from, len }
            }
            _ => break,
        };
        if let Err(fault) = each(command) {
            return ControlFlow::Break(fault);
        }
    }
    ControlFlow::Break(internal())
}

fn u64_of(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

fn bad_signature() -> Fault {
    fault::plain(
        Side::Source,
        FaultCode::Protocol,
        "source: the destination sent a signature that makes no sense",
    )
}

fn internal() -> Fault {
    fault::plain(
        Side::Source,
        FaultCode::Internal,
        "source: a delta could not be taken apart",
    )
}
