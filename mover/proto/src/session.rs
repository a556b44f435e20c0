//! The data session: what the two movers say to each other around the frames of a pass.
//!
//! ```text
//! source                                            destination
//!   | == connect (QUIC or TCP, both keys pinned) =====> |
//!   | -- first bidirectional stream: a token, Begin --> |
//!   | <------------------------------------------ Ready |
//!   | == further connections with this token =========> |
//!   | -- lanes: streams of frames, on any of them ----> |   see `frame`
//!   | <--------------------------- Applied{lane, upTo} |   after each frame
//!   | -- queries: further bidirectional streams ------> |   what does this directory hold?
//!   | <---------------------- answers, one after the other |
//!   | -- Settle (every frame is applied) -------------> |
//!   | <---------------------------------------- Settled |   durable, verified, digest
//! ```
//!
//! The messages here are JSON in the frames of [`control`](crate::control): few, small, and
//! readable in a trace. Answers to queries are binary: they carry digests of every block.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    attributes::Kinds,
    control::{Fault, PassKind, VerifyLevel},
    entry::{Meta, Node},
    frame::Reserve,
    hex,
    ids::{Epoch, MigrationUid, PassNumber},
    lately::Relative,
    limits::FRAME_MAX,
    name::Name,
    tree::Digest,
    wire::{DecodeError, Decoder, Encoder},
};

/// The minor version of the data protocol.
pub const VERSION: u32 = 2;

/// From the source, on the first bidirectional stream.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum ToDestination {
    /// Before a pass: so many bytes follow that mean nothing. To be answered once they are there.
    Probe {
        /// How many.
        bytes: u64,
    },
    /// A pass begins.
    Begin(Begin),
    /// Every frame of the pass has been applied: make it durable, verify it, answer `Settled`.
    Settle,
}

/// How a pass begins.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Begin {
    /// Minor version of the data protocol.
    pub version: u32,
    /// The migration.
    pub migration: MigrationUid,
    /// The epoch of the coordinator that asked for it; a lower one than seen before is refused.
    pub epoch: Epoch,
    /// Its number.
    pub pass: PassNumber,
    /// Names this run of it, of which there may be several.
    #[serde(default, with = "hex::array")]
    pub run: [u8; 16],
    /// Whether the run has lost a connection and goes on over this one. Refused when another run
    /// has begun since: that one is in charge.
    #[serde(default)]
    pub resumes: bool,
    /// Live or final.
    pub kind: PassKind,
    /// How to prove what is written.
    pub verify: VerifyLevel,
    /// Whether entries that this migration did not write may be taken over.
    pub adopt: bool,
    /// Whether a first copy may be read back after the pass.
    #[serde(default)]
    pub may_leave_read_back: bool,
    /// The attributes that the source can see.
    #[serde(default = "Kinds::plain")]
    pub sees: Kinds,
    /// The key of the block tags that queries are answered with.
    #[serde(with = "hex::array")]
    pub tag_key: [u8; 32],
    /// What the source's root is.
    #[serde(default)]
    pub root: Option<RootMark>,
}

/// What a root directory is, for an end of the same machine, which may meet it in its own tree.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RootMark {
    /// Names the machine, and its run since it was started.
    pub boot: String,
    /// The device, major and minor.
    pub device: (u32, u32),
    /// The inode.
    pub ino: u64,
    /// Seconds and nanoseconds of its birth; zero where unknown.
    pub birth: (i64, u32),
    /// Whether its file system shows directories of another (an overlay).
    pub stacked: bool,
}

/// From the destination, on the first bidirectional stream.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum ToSource {
    /// What came after a [`ToDestination::Probe`] is there.
    Probed,
    /// The pass may begin.
    Ready(Ready),
    /// All frames of this lane up to this sequence number are applied.
    Applied {
        /// The lane, as its stream said.
        lane: u32,
        /// The sequence number.
        up_to: u64,
    },
    /// Something went wrong; frames go on being applied and acknowledged unless `fatal`.
    Fault {
        /// What.
        fault: Fault,
        /// The directory whose state is unknown since, as hexadecimal path bytes.
        directory: Option<String>,
        /// Whether the pass is over.
        fatal: bool,
    },
    /// Everything is durable, and verified as far as it says.
    Settled(Settled),
}

/// What the destination is when a pass begins.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts that have nothing to do with each other"
)]
pub struct Ready {
    /// Names the state of the destination: as long as it stays the same, what was acknowledged
    /// still counts. Changes with a reboot, and with the loss of the destination's state.
    #[serde(with = "hex::array")]
    pub instance: [u8; 16],
    /// Whether the volume holds nothing.
    pub empty: bool,
    /// Whether the name `lost+found` in the root is taken by the file system itself.
    #[serde(default)]
    pub lost_and_found: bool,
    /// The attributes that the destination can store.
    #[serde(default = "Kinds::plain")]
    pub stores: Kinds,
    /// Whether the destination tells which space is reserved beyond the end of a file.
    #[serde(default)]
    pub tells_reserved: bool,
    /// Whether entries that the migration did not write may have attributes there that only a process
    /// with `CAP_SYS_ADMIN` could see and remove.
    #[serde(default)]
    pub unlisted: bool,
    /// What the destination's root is.
    #[serde(default)]
    pub root: Option<RootMark>,
}

/// What a settled pass left at the destination.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Settled {
    /// The manifest's digest; none while what was written is still to be read back.
    pub digest: Option<Digest>,
    /// Entries it covers.
    pub entries: u64,
    /// Bytes of content it covers.
    pub bytes: u64,
    /// Whether what was read back came from the device.
    pub on_device: bool,
    /// Seconds of `syncfs`.
    pub flush_seconds: f64,
    /// Seconds of read-back and digests.
    pub verify_seconds: f64,
    /// Seconds of read-back of what an earlier pass had left.
    #[serde(default)]
    pub earlier_seconds: f64,
    /// Directories, as hexadecimal path bytes, in which something differs from what was sent.
    /// The source forgets what it knows of them.
    pub mismatched: Vec<String>,
}

/// A question about what the destination holds.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Query {
    /// Everything in this directory, content included. Answered by [`Listed`] records.
    List {
        /// The directory, as it differs from those that the stream asked about.
        path: Relative,
    },
    /// Rolling checksums of some blocks of this file. Answered by one length-prefixed list of
    /// them, 4 bytes each, little-endian.
    Sums {
        /// Its directory, as above.
        path: Relative,
        /// Its name.
        #[serde(with = "hex::vec")]
        name: Vec<u8>,
        /// Bytes of a block.
        block: u32,
        /// One of how many blocks, beginning with the first, is asked about.
        every: u64,
    },
}

/// One record of the answer to [`Query::List`].
#[derive(Clone, Debug, PartialEq)]
pub enum Listed {
    /// The directory itself. Comes first; its absence means there is no such directory.
    Directory {
        /// Its metadata.
        meta: Meta,
    },
    /// An entry. They come sorted by name.
    Entry {
        /// Its name.
        name: Name,
        /// Its metadata.
        meta: Meta,
        /// What it is.
        node: Node,
        /// Its inode number if it has several links, else 0.
        links: u64,
        /// How many links it has, inside the volume or out of it.
        count: u32,
    },
    /// The tags of a file of this size follow, and then the file's entry.
    Content {
        /// Bytes of it.
        size: u64,
    },
    /// The file whose entry follows has this space beyond its end.
    Reserved(Reserve),
    /// Tags, in order; several records where they are many.
    Tags {
        /// 16 bytes each.
        tags: Bytes,
    },
    /// There is no more.
    End,
}

impl Listed {
    /// The record as it travels: a 4-byte length and its bytes.
    pub fn to_frame(&self) -> Bytes {
        let mut out = Encoder::new();
        out.u32(0);
        match self {
            Self::Directory { meta } => {
                out.u8(1);
                meta.encode(&mut out);
            }
            Self::Entry {
                name,
                meta,
                node,
                links,
                count,
            } => {
                out.u8(2);
                out.name(name);
                meta.encode(&mut out);
                node.encode(&mut out);
                out.u64(*links);
                out.u32(*count);
            }
            Self::Tags { tags } => {
                out.u8(3);
                out.bytes(tags);
            }
            Self::End => out.u8(4),
            Self::Content { size } => {
                out.u8(5);
                out.u64(*size);
            }
            Self::Reserved(Reserve { start, len }) => {
                out.u8(6);
                out.u64(*start);
                out.u64(*len);
            }
        }
        let mut bytes: Vec<u8> = out.into_bytes().into();
        let length = u32::try_from(bytes.len().saturating_sub(4)).unwrap_or(u32::MAX);
        if let Some(prefix) = bytes.first_chunk_mut::<4>() {
            *prefix = length.to_le_bytes();
        }
        Bytes::from(bytes)
    }

    /// How many bytes of record follow this prefix.
    pub fn frame_length(prefix: [u8; 4]) -> Result<usize, DecodeError> {
        match usize::try_from(u32::from_le_bytes(prefix)) {
            Ok(length) if length <= FRAME_MAX => Ok(length),
            _ => Err(DecodeError::TooLong),
        }
    }

    /// The record in `bytes`, without its length.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut input = Decoder::new(bytes);
        let listed = match input.u8()? {
            1 => Self::Directory {
                meta: Meta::decode(&mut input)?,
            },
            2 => Self::Entry {
                name: input.name()?,
                meta: Meta::decode(&mut input)?,
                node: Node::decode(&mut input)?,
                links: input.u64()?,
                count: input.u32()?,
            },
            3 => {
                let tags = input.bytes(FRAME_MAX)?;
                if !tags.len().is_multiple_of(16) {
                    return Err(DecodeError::Invalid("tags"));
                }
                Self::Tags { tags }
            }
            4 => Self::End,
            5 => Self::Content {
                size: input.file_offset()?,
            },
            6 => Self::Reserved(Reserve {
                start: input.file_offset()?,
                len: input.file_offset()?,
            }),
            _ => return Err(DecodeError::Invalid("listing record")),
        };
        input.finish()?;
        Ok(listed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::entry::tests::{metas, nodes};

    fn records() -> impl Strategy<Value = Listed> {
        prop_oneof![
            metas().prop_map(|meta| Listed::Directory { meta }),
            (metas(), nodes(), any::<u64>()).prop_map(|(meta, node, links)| Listed::Entry {
                name: Name::new(b"n\n").unwrap(),
                meta,
                node,
                links,
                count: 3,
            }),
            (0_usize..40).prop_map(|count| Listed::Tags {
                tags: vec![3; 16 * count].into()
            }),
            (0_u64..1 << 60).prop_map(|size| Listed::Content { size }),
            (0_u64..1 << 60, 0_u64..1 << 60)
                .prop_map(|(start, len)| Listed::Reserved(Reserve { start, len })),
            Just(Listed::End),
        ]
    }

    proptest! {
        #[test]
        fn records_survive_the_wire(record in records()) {
            let mut frame = record.to_frame();
            let prefix: [u8; 4] = frame.split_to(4)[..].try_into().unwrap();
            prop_assert_eq!(Listed::frame_length(prefix).unwrap(), frame.len());
            prop_assert_eq!(Listed::decode(frame).unwrap(), record);
        }

        #[test]
        fn any_bytes_decode_or_are_refused(bytes: Vec<u8>) {
            let _ = Listed::decode(Bytes::from(bytes));
        }
    }
}
