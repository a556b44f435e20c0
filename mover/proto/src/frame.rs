//! Data frames: what the source tells the destination to do.
//!
//! A *lane* is one QUIC stream from the source. It carries frames in order, and the destination
//! applies them in order on one thread:
//!
//! ```text
//! frame  := length u32 | sequence u64 | op*          length: bytes after itself, at most FRAME_MAX
//! op     := tag u8 | fields
//! ```
//!
//! Ops stand for absolute facts ("this name is this file"), so applying one twice, or over what
//! an interrupted pass left behind, ends in the same state. [`Op::Enter`] names the directory
//! that the following ops speak of and [`Op::Open`] the file that the following content belongs
//! to; both hold within one lane until the next of their kind. A path therefore travels once per
//! directory and every other name is a single component.

use bytes::Bytes;

use crate::{
    entry::{Meta, Node},
    limits::{FRAME_CONTENT_MAX, FRAME_MAX},
    name::{Name, RelPath},
    tree::Digest,
    wire::{DecodeError, Decoder, Encoder},
};

/// The ALPN of the data protocol; its number is the major version.
pub const ALPN: &[u8] = b"livmig-data/1";

/// One instruction to the destination.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// What follows is in this directory, which exists at the source: whatever else stands at
    /// its path, or at a parent's, is removed and directories are made.
    Enter {
        /// The directory.
        path: RelPath,
    },
    /// Nothing of this name exists: whatever is there goes, with all below it.
    Remove {
        /// Its name.
        name: Name,
    },
    /// This name is a directory. Its own metadata comes later.
    Directory {
        /// Its name.
        name: Name,
    },
    /// This name is a file with exactly this content.
    File {
        /// Its name.
        name: Name,
        /// Whether to make a new inode even if there is a file: the old one may have links that
        /// are not this file's any more.
        replace: bool,
        /// Its metadata.
        meta: Meta,
        /// The root of `content`.
        root: Digest,
        /// All of its content.
        content: Bytes,
    },
    /// This name is a symbolic link, fifo, socket or device. What is there is replaced.
    Node {
        /// Its name.
        name: Name,
        /// Its metadata.
        meta: Meta,
        /// What it is; never a file or directory.
        node: Node,
    },
    /// This name, which exists, has this metadata.
    Meta {
        /// Its name.
        name: Name,
        /// Its metadata.
        meta: Meta,
    },
    /// Content for the file of this name follows, until [`Op::Close`].
    Open {
        /// Its name.
        name: Name,
        /// What becomes of what is there.
        mode: OpenMode,
        /// Whether pages of zeros take no space.
        sparse: bool,
    },
    /// These bytes are at `offset`.
    Data {
        /// Where; a multiple of the block size.
        offset: u64,
        /// [`range_digest`](crate::tree::range_digest) of the blocks.
        digest: Digest,
        /// The bytes; whole blocks except at the end of the file.
        content: Bytes,
    },
    /// These bytes are zero, and their space is reserved.
    Zero {
        /// Where; a multiple of the block size.
        offset: u64,
        /// How many.
        len: u64,
    },
    /// These bytes are zero and take no space.
    Hole {
        /// Where; a multiple of the block size.
        offset: u64,
        /// How many.
        len: u64,
    },
    /// These bytes are those that the file had at `from` before it was opened with
    /// [`OpenMode::Rebuild`].
    Copy {
        /// Where they were.
        from: u64,
        /// Where they are.
        offset: u64,
        /// How many.
        len: u64,
    },
    /// The content is complete.
    Close {
        /// The file's size; what was there beyond it goes.
        size: u64,
        /// The root of its whole content.
        root: Digest,
        /// The file's metadata.
        meta: Meta,
    },
    /// This name is another link to the file at `target`.
    Link {
        /// Its name.
        name: Name,
        /// A path that exists.
        target: RelPath,
    },
    /// The directory itself has this metadata. Comes after everything below it.
    DirectoryMeta {
        /// Its metadata.
        meta: Meta,
        /// What it is in the source's manifest now.
        member: Digest,
    },
}

/// What becomes of what stands at the name of a file that is opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OpenMode {
    /// A file with one link is written in place; anything else is replaced by an empty file.
    InPlace,
    /// A file is written in place although it has several links: they all change at the source
    /// too.
    Shared,
    /// A new, empty file.
    Replace,
    /// A new, empty file; the old one stays readable for [`Op::Copy`] until the close.
    Rebuild,
}

/// Frames and the ops in them, as they are built.
#[derive(Debug)]
pub struct FrameBuilder {
    out: Encoder,
}

const HEADER: usize = 4 + 8;

impl FrameBuilder {
    /// An empty frame.
    pub fn new() -> Self {
        let mut out = Encoder::with_capacity(FRAME_CONTENT_MAX + (FRAME_CONTENT_MAX >> 3));
        out.raw(&[0; HEADER]);
        Self { out }
    }

    /// Appends an op.
    pub fn push(&mut self, op: &Op) {
        op.encode(&mut self.out);
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether no op was appended yet.
    pub fn is_empty(&self) -> bool {
        self.out.len() <= HEADER
    }

    /// Whether the frame should be sent before an op with `content` bytes is appended.
    pub fn is_full_for(&self, content: usize) -> bool {
        !self.is_empty() && self.out.len() + content > FRAME_CONTENT_MAX
    }

    /// The finished frame; the builder is empty again.
    pub fn take(&mut self, sequence: u64) -> Bytes {
        let frame = std::mem::take(self);
        let mut bytes: Vec<u8> = frame.out.into_bytes().into();
        let length = u32::try_from(bytes.len().saturating_sub(4)).unwrap_or(u32::MAX);
        let mut header = [0; HEADER];
        let (first, second) = header.split_at_mut(4);
        first.copy_from_slice(&length.to_le_bytes());
        second.copy_from_slice(&sequence.to_le_bytes());
        if let Some(place) = bytes.get_mut(..HEADER) {
            place.copy_from_slice(&header);
        }
        Bytes::from(bytes)
    }
}

impl Default for FrameBuilder {
    fn default() -> Self {
        Self::new()
    }
}

/// How many bytes of frame follow this prefix.
///
/// # Errors
/// When they are beyond [`FRAME_MAX`] or too few for a sequence number.
pub fn frame_length(prefix: [u8; 4]) -> Result<usize, DecodeError> {
    match usize::try_from(u32::from_le_bytes(prefix)) {
        Ok(length) if length < 8 => Err(DecodeError::Short),
        Ok(length) if length <= FRAME_MAX => Ok(length),
        _ => Err(DecodeError::TooLong),
    }
}

/// The sequence number and ops of a frame, without its length prefix.
///
/// # Errors
/// When a byte of it is not as this module defines.
pub fn decode_frame(frame: Bytes) -> Result<(u64, Vec<Op>), DecodeError> {
    let mut input = Decoder::new(frame);
    let sequence = input.u64()?;
    let mut ops = Vec::new();
    while !input.is_empty() {
        ops.push(Op::decode(&mut input)?);
    }
    Ok((sequence, ops))
}

impl Op {
    /// Appends its bytes.
    pub fn encode(&self, out: &mut Encoder) {
        match self {
            Self::Enter { path } => {
                out.u8(1);
                out.path(path);
            }
            Self::Remove { name } => {
                out.u8(2);
                out.name(name);
            }
            Self::Directory { name } => {
                out.u8(3);
                out.name(name);
            }
            Self::File {
                name,
                replace,
                meta,
                root,
                content,
            } => {
                out.u8(4);
                out.name(name);
                out.u8(u8::from(*replace));
                meta.encode(out);
                out.digest(root);
                out.bytes(content);
            }
            Self::Node { name, meta, node } => {
                out.u8(5);
                out.name(name);
                meta.encode(out);
                node.encode(out);
            }
            Self::Meta { name, meta } => {
                out.u8(6);
                out.name(name);
                meta.encode(out);
            }
            Self::Open { name, mode, sparse } => {
                out.u8(7);
                out.name(name);
                out.u8(mode.number());
                out.u8(u8::from(*sparse));
            }
            Self::Data {
                offset,
                digest,
                content,
            } => {
                out.u8(8);
                out.u64(*offset);
                out.digest(digest);
                out.bytes(content);
            }
            Self::Zero { offset, len } => {
                out.u8(9);
                out.u64(*offset);
                out.u64(*len);
            }
            Self::Hole { offset, len } => {
                out.u8(10);
                out.u64(*offset);
                out.u64(*len);
            }
            Self::Copy { from, offset, len } => {
                out.u8(11);
                out.u64(*from);
                out.u64(*offset);
                out.u64(*len);
            }
            Self::Close { size, root, meta } => {
                out.u8(12);
                out.u64(*size);
                out.digest(root);
                meta.encode(out);
            }
            Self::Link { name, target } => {
                out.u8(13);
                out.name(name);
                out.path(target);
            }
            Self::DirectoryMeta { meta, member } => {
                out.u8(14);
                meta.encode(out);
                out.digest(member);
            }
        }
    }

    /// Takes its bytes.
    ///
    /// # Errors
    /// When they are no op, or an op that could not be obeyed (a range beyond what a file can
    /// hold, a device that is called a file).
    pub fn decode(input: &mut Decoder) -> Result<Self, DecodeError> {
        Ok(match input.u8()? {
            1 => Self::Enter {
                path: input.path()?,
            },
            2 => Self::Remove {
                name: input.name()?,
            },
            3 => Self::Directory {
                name: input.name()?,
            },
            4 => Self::File {
                name: input.name()?,
                replace: input.flag()?,
                meta: Meta::decode(input)?,
                root: input.digest()?,
                content: input.bytes(FRAME_CONTENT_MAX)?,
            },
            5 => {
                let (name, meta, node) =
                    (input.name()?, Meta::decode(input)?, Node::decode(input)?);
                if matches!(node, Node::File { .. } | Node::Directory) {
                    return Err(DecodeError::Invalid("entry kind"));
                }
                Self::Node { name, meta, node }
            }
            6 => Self::Meta {
                name: input.name()?,
                meta: Meta::decode(input)?,
            },
            7 => Self::Open {
                name: input.name()?,
                mode: OpenMode::from_number(input.u8()?)?,
                sparse: input.flag()?,
            },
            8 => {
                let (offset, digest) = (input.file_offset()?, input.digest()?);
                let content = input.bytes(FRAME_CONTENT_MAX)?;
                range(offset, u64::try_from(content.len()).unwrap_or(u64::MAX))?;
                Self::Data {
                    offset,
                    digest,
                    content,
                }
            }
            9 => {
                let (offset, len) = (input.u64()?, input.u64()?);
                range(offset, len)?;
                Self::Zero { offset, len }
            }
            10 => {
                let (offset, len) = (input.u64()?, input.u64()?);
                range(offset, len)?;
                Self::Hole { offset, len }
            }
            11 => {
                let (from, offset, len) = (input.u64()?, input.u64()?, input.u64()?);
                range(from, len)?;
                range(offset, len)?;
                Self::Copy { from, offset, len }
            }
            12 => Self::Close {
                size: input.file_offset()?,
                root: input.digest()?,
                meta: Meta::decode(input)?,
            },
            13 => {
                let (name, target) = (input.name()?, input.path()?);
                if target.is_root() {
                    return Err(DecodeError::Invalid("link target"));
                }
                Self::Link { name, target }
            }
            14 => Self::DirectoryMeta {
                meta: Meta::decode(input)?,
                member: input.digest()?,
            },
            _ => return Err(DecodeError::Invalid("op")),
        })
    }
}

impl OpenMode {
    fn number(self) -> u8 {
        match self {
            Self::InPlace => 0,
            Self::Shared => 1,
            Self::Replace => 2,
            Self::Rebuild => 3,
        }
    }

    fn from_number(number: u8) -> Result<Self, DecodeError> {
        match number {
            0 => Ok(Self::InPlace),
            1 => Ok(Self::Shared),
            2 => Ok(Self::Replace),
            3 => Ok(Self::Rebuild),
            _ => Err(DecodeError::Invalid("open mode")),
        }
    }
}

/// Refuses a range that no file can hold.
fn range(offset: u64, len: u64) -> Result<(), DecodeError> {
    match offset.checked_add(len) {
        Some(end) if end <= crate::limits::FILE_SIZE_MAX => Ok(()),
        _ => Err(DecodeError::TooLong),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::entry::tests::{metas, nodes};

    fn names() -> impl Strategy<Value = Name> {
        prop::collection::vec(1_u8.., 1..30)
            .prop_filter_map("not a name", |bytes| Name::new(&bytes).ok())
    }

    fn paths() -> impl Strategy<Value = RelPath> {
        prop::collection::vec(names(), 0..4).prop_map(|names| {
            names
                .iter()
                .fold(RelPath::ROOT, |path, name| path.child(name).unwrap())
        })
    }

    fn ops() -> impl Strategy<Value = Op> {
        let digest = || any::<[u8; 32]>().prop_map(Digest);
        let content = || prop::collection::vec(any::<u8>(), 0..100).prop_map(Bytes::from);
        let range = || (0_u64..1 << 50, 0_u64..1 << 50);
        let mode = prop_oneof![
            Just(OpenMode::InPlace),
            Just(OpenMode::Shared),
            Just(OpenMode::Replace),
            Just(OpenMode::Rebuild)
        ];
        prop_oneof![
            paths().prop_map(|path| Op::Enter { path }),
            names().prop_map(|name| Op::Remove { name }),
            names().prop_map(|name| Op::Directory { name }),
            (names(), any::<bool>(), metas(), digest(), content()).prop_map(
                |(name, replace, meta, root, content)| Op::File {
                    name,
                    replace,
                    meta,
                    root,
                    content
                }
            ),
            (names(), metas(), nodes()).prop_filter_map("a file", |(name, meta, node)| {
                (!matches!(node, Node::File { .. } | Node::Directory)).then_some(Op::Node {
                    name,
                    meta,
                    node,
                })
            }),
            (names(), metas()).prop_map(|(name, meta)| Op::Meta { name, meta }),
            (names(), mode, any::<bool>()).prop_map(|(name, mode, sparse)| Op::Open {
                name,
                mode,
                sparse
            }),
            (0_u64..1 << 50, digest(), content()).prop_map(|(offset, digest, content)| Op::Data {
                offset,
                digest,
                content
            }),
            range().prop_map(|(offset, len)| Op::Zero { offset, len }),
            range().prop_map(|(offset, len)| Op::Hole { offset, len }),
            (range(), 0_u64..1 << 50).prop_map(|((offset, len), from)| Op::Copy {
                from,
                offset,
                len
            }),
            (0_u64..1 << 50, metas(), digest()).prop_map(|(size, meta, root)| Op::Close {
                size,
                root,
                meta
            }),
            (names(), paths()).prop_filter_map("root", |(name, target)| {
                (!target.is_root()).then_some(Op::Link { name, target })
            }),
            (metas(), digest()).prop_map(|(meta, member)| Op::DirectoryMeta { meta, member }),
        ]
    }

    proptest! {
        #[test]
        fn frames_survive_the_wire(
            ops in prop::collection::vec(ops(), 0..12),
            sequence: u64,
        ) {
            let mut builder = FrameBuilder::new();
            for op in &ops {
                builder.push(op);
            }
            let mut frame = builder.take(sequence);
            prop_assert!(builder.is_empty());
            let prefix: [u8; 4] = frame.split_to(4)[..].try_into().unwrap();
            prop_assert_eq!(frame_length(prefix).unwrap(), frame.len());
            prop_assert_eq!(decode_frame(frame).unwrap(), (sequence, ops));
        }

        #[test]
        fn any_bytes_decode_or_are_refused(bytes: Vec<u8>) {
            let _ = decode_frame(Bytes::from(bytes));
        }

        #[test]
        fn a_flipped_byte_never_panics(
            ops in prop::collection::vec(ops(), 1..4),
            position: prop::sample::Index,
            flip in 1_u8..,
        ) {
            let mut builder = FrameBuilder::new();
            ops.iter().for_each(|op| builder.push(op));
            let mut frame = builder.take(0).to_vec();
            let position = position.index(frame.len());
            frame[position] ^= flip;
            let _ = decode_frame(Bytes::from(frame).slice(4..));
        }
    }

    #[test]
    fn names_that_leave_the_tree_are_refused() {
        for bad in [&b".."[..], b"", b"a/b", b"."] {
            let mut out = Encoder::new();
            out.u64(0);
            out.u8(2);
            out.bytes(bad);
            assert!(decode_frame(out.into_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_full_frame_stays_below_the_limit() {
        const { assert!(FRAME_CONTENT_MAX * 2 < FRAME_MAX) };
        assert!(frame_length(u32::MAX.to_le_bytes()).is_err());
        assert!(frame_length(7_u32.to_le_bytes()).is_err());
    }
}
