//! Ops: each one absolute fact about the destination, and its bytes.

use bytes::Bytes;

use crate::{
    entry::{Meta, Node},
    lately::Relative,
    limits::FRAME_CONTENT_MAX,
    name::Name,
    tree::Digest,
    wire::{DecodeError, Decoder, Encoder},
};

/// One instruction to the destination.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// What follows is in this directory, which exists at the source: whatever else stands at
    /// its path, or at a parent's, is removed and directories are made.
    Enter {
        /// The directory, as it differs from those that the lane spoke of.
        path: Relative,
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
    /// This name stands for what this pass leaves as it is, whatever it is: at the source something
    /// is mounted there, or the file system keeps it for itself. Where nothing is, an empty entry
    /// is made. Said in every pass, because nobody remembers it.
    Apart {
        /// Its name.
        name: Name,
        /// The metadata of what is made.
        meta: Meta,
        /// What is made.
        kind: ApartKind,
    },
    /// This name, which exists, has this metadata.
    Meta {
        /// Its name.
        name: Name,
        /// Its metadata.
        meta: Meta,
        /// How many names lead to what is there and are to change with it. Where more do, this name
        /// is taken out of it first.
        names: u32,
    },
    /// Content for the file of this name follows, until [`Op::Close`].
    Open {
        /// Its name.
        name: Name,
        /// What becomes of what is there.
        mode: OpenMode,
        /// How many names lead to the file that is written in place and are to change with it.
        /// Where more do, this name is taken out of it first.
        names: u32,
        /// Whether pages of zeros take no space.
        sparse: bool,
        /// The root of the content that is written over in place; zero where there is none.
        base: Digest,
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
        /// The space that is reserved beyond the end; a destination that cannot reserve any does not.
        reserved: Reserve,
        /// The file's metadata.
        meta: Meta,
    },
    /// This name is another link to the file `target` in `directory`.
    Link {
        /// Its name.
        name: Name,
        /// A directory that exists, as it differs from those that the lane spoke of, and one more of
        /// those from here on.
        directory: Relative,
        /// A name in it that exists.
        target: Name,
    },
    /// The directory itself has this metadata. Comes after everything below it.
    DirectoryMeta {
        /// Its metadata.
        meta: Meta,
        /// What it is in the source's manifest now.
        member: Digest,
    },
}

/// Space that a file takes beyond its end, in bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Reserve {
    /// Where it begins.
    pub start: u64,
    /// How much it is; with none it does not matter where it begins.
    pub len: u64,
}

impl Reserve {
    /// No space.
    pub const NONE: Self = Self { start: 0, len: 0 };

    /// Whether it is no space.
    pub fn is_none(self) -> bool {
        self.len == 0
    }
}

/// What becomes of what stands at the name of a file that is opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OpenMode {
    /// The file that is there is written in place.
    InPlace,
    /// The same, of a group of hard links: its other names are told of afterwards.
    Shared,
    /// A new, empty file.
    Replace,
    /// A new, empty file; the old one stays readable for [`Op::Copy`] until the close.
    Rebuild,
}

/// What is made under the name of an [`Op::Apart`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ApartKind {
    /// An empty directory.
    Directory,
    /// An empty file.
    File,
}

/// An [`Op::File`] of which nothing is owned: small files are most of what is sent.
#[derive(Clone, Copy, Debug)]
pub struct FileOp<'a> {
    /// Its name.
    pub name: &'a Name,
    /// Whether to make a new inode.
    pub replace: bool,
    /// Its metadata.
    pub meta: &'a Meta,
    /// The root of `content`.
    pub root: Digest,
    /// All of its content.
    pub content: &'a [u8],
}

impl FileOp<'_> {
    pub(super) fn encode(&self, out: &mut Encoder) {
        out.u8(4);
        out.name(self.name);
        out.u8(u8::from(self.replace));
        self.meta.encode(out);
        out.digest(&self.root);
        out.bytes(self.content);
    }
}

pub(super) fn encode_data(offset: u64, digest: &Digest, content: &[u8], out: &mut Encoder) {
    out.u8(8);
    out.u64(offset);
    out.digest(digest);
    out.bytes(content);
}

fn encode_name(tag: u8, name: &Name, out: &mut Encoder) {
    out.u8(tag);
    out.name(name);
}

fn encode_range(number: u8, offset: u64, len: u64, out: &mut Encoder) {
    out.u8(number);
    out.u64(offset);
    out.u64(len);
}

impl Op {
    /// Appends its bytes.
    pub fn encode(&self, out: &mut Encoder) {
        match self {
            Self::Enter { path } => {
                out.u8(1);
                path.encode(out);
            }
            Self::Remove { name } => encode_name(2, name, out),
            Self::Directory { name } => encode_name(3, name, out),
            Self::File {
                name,
                replace,
                meta,
                root,
                content,
            } => FileOp {
                name,
                replace: *replace,
                meta,
                root: *root,
                content,
            }
            .encode(out),
            Self::Node { name, meta, node } => {
                out.u8(5);
                out.name(name);
                meta.encode(out);
                node.encode(out);
            }
            Self::Apart { name, meta, kind } => {
                out.u8(15);
                out.name(name);
                meta.encode(out);
                out.u8(kind.number());
            }
            Self::Meta { name, meta, names } => {
                out.u8(6);
                out.name(name);
                meta.encode(out);
                out.u32(*names);
            }
            Self::Open {
                name,
                mode,
                names,
                sparse,
                base,
            } => {
                out.u8(7);
                out.name(name);
                out.u8(mode.number());
                out.u32(*names);
                out.u8(u8::from(*sparse));
                out.digest(base);
            }
            Self::Data {
                offset,
                digest,
                content,
            } => encode_data(*offset, digest, content, out),
            Self::Zero { offset, len } => encode_range(9, *offset, *len, out),
            Self::Hole { offset, len } => encode_range(10, *offset, *len, out),
            Self::Copy { from, offset, len } => {
                out.u8(11);
                out.u64(*from);
                out.u64(*offset);
                out.u64(*len);
            }
            Self::Close {
                size,
                root,
                reserved,
                meta,
            } => {
                out.u8(12);
                out.u64(*size);
                out.digest(root);
                out.u64(reserved.start);
                out.u64(reserved.len);
                meta.encode(out);
            }
            Self::Link {
                name,
                directory,
                target,
            } => {
                out.u8(13);
                out.name(name);
                directory.encode(out);
                out.name(target);
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
                path: Relative::decode(input)?,
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
                names: input.u32()?,
            },
            7 => Self::Open {
                name: input.name()?,
                mode: OpenMode::from_number(input.u8()?)?,
                names: input.u32()?,
                sparse: input.flag()?,
                base: input.digest()?,
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
            12 => {
                let (size, root) = (input.file_offset()?, input.digest()?);
                let reserved = Reserve {
                    start: input.u64()?,
                    len: input.u64()?,
                };
                range(reserved.start, reserved.len)?;
                Self::Close {
                    size,
                    root,
                    reserved,
                    meta: Meta::decode(input)?,
                }
            }
            13 => Self::Link {
                name: input.name()?,
                directory: Relative::decode(input)?,
                target: input.name()?,
            },
            14 => Self::DirectoryMeta {
                meta: Meta::decode(input)?,
                member: input.digest()?,
            },
            15 => Self::Apart {
                name: input.name()?,
                meta: Meta::decode(input)?,
                kind: ApartKind::from_number(input.u8()?)?,
            },
            _ => return Err(DecodeError::Invalid("op")),
        })
    }
}

impl ApartKind {
    fn number(self) -> u8 {
        match self {
            Self::Directory => 0,
            Self::File => 1,
        }
    }

    fn from_number(number: u8) -> Result<Self, DecodeError> {
        match number {
            0 => Ok(Self::Directory),
            1 => Ok(Self::File),
            _ => Err(DecodeError::Invalid("kind of an entry left apart")),
        }
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
