//! Entries: what a volume holds besides content, and their canonical bytes.

use crate::{
    limits::{SYMLINK_MAX, XATTR_COUNT_MAX, XATTR_NAME_MAX, XATTR_TOTAL_MAX, XATTR_VALUE_MAX},
    tree::Digest,
    wire::{DecodeError, Decoder, Encoder},
};

/// A point in time as a file system stores it: seconds since 1970, possibly negative, and
/// nanoseconds within the second.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Time {
    /// Seconds since 1970-01-01 00:00 UTC.
    pub seconds: i64,
    /// 0 to 999 999 999.
    pub nanoseconds: u32,
}

/// One extended attribute; POSIX ACLs and file capabilities are such attributes too.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Xattr {
    /// Its full name, namespace included.
    pub name: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}

/// What is carried of every entry besides its content.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Meta {
    /// The twelve permission bits; 0 for a symbolic link, which has none.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Modification time.
    pub mtime: Time,
    /// Attributes, sorted by name.
    pub xattrs: Vec<Xattr>,
}

/// What an entry is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Node {
    /// A regular file.
    File {
        /// Its length in bytes.
        size: u64,
        /// The root of its content's tree.
        root: Digest,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// Its target, as stored.
        target: Vec<u8>,
    },
    /// A fifo.
    Fifo,
    /// A Unix socket's name.
    Socket,
    /// A character device.
    CharDevice {
        /// Major and minor number.
        device: (u32, u32),
    },
    /// A block device.
    BlockDevice {
        /// Major and minor number.
        device: (u32, u32),
    },
}

impl Meta {
    /// Appends the canonical bytes.
    pub fn encode(&self, out: &mut Encoder) {
        out.u32(self.mode);
        out.u32(self.uid);
        out.u32(self.gid);
        out.i64(self.mtime.seconds);
        out.u32(self.mtime.nanoseconds);
        out.count(self.xattrs.len());
        for xattr in &self.xattrs {
            out.bytes(&xattr.name);
            out.bytes(&xattr.value);
        }
    }

    /// Takes canonical bytes.
    pub fn decode(input: &mut Decoder) -> Result<Self, DecodeError> {
        let (mode, uid, gid) = (input.u32()?, input.u32()?, input.u32()?);
        let mtime = Time {
            seconds: input.i64()?,
            nanoseconds: input.u32()?,
        };
        if mode > 0o7777 || mtime.nanoseconds > 999_999_999 {
            return Err(DecodeError::Invalid("metadata"));
        }
        let mut xattrs: Vec<Xattr> = Vec::new();
        let mut total = 0;
        for _ in 0..input.count(XATTR_COUNT_MAX)? {
            let xattr = Xattr {
                name: input.bytes(XATTR_NAME_MAX)?.to_vec(),
                value: input.bytes(XATTR_VALUE_MAX)?.to_vec(),
            };
            total += xattr.name.len() + xattr.value.len();
            let sorted = xattrs.last().is_none_or(|last| last.name < xattr.name);
            if xattr.name.is_empty() || xattr.name.contains(&0) || !sorted {
                return Err(DecodeError::Invalid("extended attribute name"));
            }
            if total > XATTR_TOTAL_MAX {
                return Err(DecodeError::TooLong);
            }
            xattrs.push(xattr);
        }
        Ok(Self {
            mode,
            uid,
            gid,
            mtime,
            xattrs,
        })
    }
}

impl Node {
    /// Appends the canonical bytes.
    pub fn encode(&self, out: &mut Encoder) {
        match self {
            Self::File { size, root } => {
                out.u8(1);
                out.u64(*size);
                out.digest(root);
            }
            Self::Directory => out.u8(2),
            Self::Symlink { target } => {
                out.u8(3);
                out.bytes(target);
            }
            Self::Fifo => out.u8(4),
            Self::Socket => out.u8(5),
            Self::CharDevice { device } => {
                out.u8(6);
                out.u32(device.0);
                out.u32(device.1);
            }
            Self::BlockDevice { device } => {
                out.u8(7);
                out.u32(device.0);
                out.u32(device.1);
            }
        }
    }

    /// Takes canonical bytes.
    pub fn decode(input: &mut Decoder) -> Result<Self, DecodeError> {
        Ok(match input.u8()? {
            1 => Self::File {
                size: input.file_offset()?,
                root: input.digest()?,
            },
            2 => Self::Directory,
            3 => {
                let target = input.bytes(SYMLINK_MAX)?.to_vec();
                if target.is_empty() || target.contains(&0) {
                    return Err(DecodeError::Invalid("symbolic link target"));
                }
                Self::Symlink { target }
            }
            4 => Self::Fifo,
            5 => Self::Socket,
            6 => Self::CharDevice {
                device: (input.u32()?, input.u32()?),
            },
            7 => Self::BlockDevice {
                device: (input.u32()?, input.u32()?),
            },
            _ => return Err(DecodeError::Invalid("entry kind")),
        })
    }
}

/// The digest of everything that is carried of one entry, its name aside.
pub fn entry_digest(meta: &Meta, node: &Node) -> Digest {
    let mut out = Encoder::new();
    meta.encode(&mut out);
    node.encode(&mut out);
    let mut hasher = blake3::Hasher::new_keyed(b"livmig manifest/1: one entry of ");
    hasher.update(out.as_slice());
    Digest(*hasher.finalize().as_bytes())
}

#[cfg(test)]
pub(crate) mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn metas() -> impl Strategy<Value = Meta> {
        let xattrs = prop::collection::btree_map(
            prop::collection::vec(1_u8.., 1..20),
            prop::collection::vec(any::<u8>(), 0..40),
            0..4,
        );
        (
            0_u32..=0o7777,
            any::<(u32, u32)>(),
            any::<i64>(),
            0_u32..1_000_000_000,
            xattrs,
        )
            .prop_map(|(mode, (uid, gid), seconds, nanoseconds, xattrs)| Meta {
                mode,
                uid,
                gid,
                mtime: Time {
                    seconds,
                    nanoseconds,
                },
                xattrs: xattrs
                    .into_iter()
                    .map(|(name, value)| Xattr { name, value })
                    .collect(),
            })
    }

    pub(crate) fn nodes() -> impl Strategy<Value = Node> {
        prop_oneof![
            (0..=crate::limits::FILE_SIZE_MAX, any::<[u8; 32]>()).prop_map(|(size, root)| {
                Node::File {
                    size,
                    root: Digest(root),
                }
            }),
            Just(Node::Directory),
            prop::collection::vec(1_u8.., 1..60).prop_map(|target| Node::Symlink { target }),
            Just(Node::Fifo),
            Just(Node::Socket),
            any::<(u32, u32)>().prop_map(|device| Node::CharDevice { device }),
            any::<(u32, u32)>().prop_map(|device| Node::BlockDevice { device }),
        ]
    }

    proptest! {
        #[test]
        fn entries_survive_their_bytes(meta in metas(), node in nodes()) {
            let mut out = Encoder::new();
            meta.encode(&mut out);
            node.encode(&mut out);
            let mut input = Decoder::new(out.into_bytes());
            prop_assert_eq!(Meta::decode(&mut input).unwrap(), meta);
            prop_assert_eq!(Node::decode(&mut input).unwrap(), node);
            prop_assert!(input.finish().is_ok());
        }

        #[test]
        fn any_bytes_decode_or_are_refused(bytes: Vec<u8>) {
            let mut input = Decoder::new(Bytes::from(bytes.clone()));
            let _ = Meta::decode(&mut input);
            let _ = Node::decode(&mut Decoder::new(Bytes::from(bytes)));
        }
    }
}
