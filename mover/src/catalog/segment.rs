//! A segment: what is known of one directory and of each entry in it.

use livmig_proto::{
    control::Reasons,
    entry::Meta,
    frame::Reserve,
    manifest::{DirectoryMember, EntryRef},
    name::{Name, RelPath},
    tree::Digest,
    wire::{DecodeError, Decoder, Encoder},
};

use super::tags::TagsRef;
use crate::fs::stat::Identity;

/// What is known of one directory.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    /// Where it is.
    pub path: RelPath,
    /// Its metadata.
    pub meta: Meta,
    /// The state it was seen in.
    pub seen: Option<Seen>,
    /// Its entries, sorted by name.
    pub entries: Vec<Entry>,
}

/// The state in which something was seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    /// What identified it.
    pub identity: Identity,
    /// Whether an equal identity later proves that nothing changed. False for what is *hot*:
    /// changed too shortly before it was read, or on a file system that proves nothing.
    pub cold: bool,
    /// What of it was left out, so that a pass that skips it still tells.
    pub left: Reasons,
}

/// What is known of one entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its name.
    pub name: Name,
    /// The state it was seen in; nothing for what the other end told.
    pub seen: Option<Seen>,
    /// What it is.
    pub kept: Kept,
}

/// What an entry is and what of its content is known.
#[derive(Clone, Debug, PartialEq)]
pub enum Kept {
    /// A directory; it has a segment of its own.
    Directory,
    /// One of several links; what they share is kept with their group.
    Link {
        /// The group; 0 while the other end has not linked it.
        group: u64,
    },
    /// A file.
    File(KeptFile),
    /// What this migration leaves as it is: only the name counts.
    Apart,
    /// A symbolic link, fifo, socket or device.
    Other {
        /// [`entry_digest`](livmig_proto::entry::entry_digest).
        digest: Digest,
    },
}

/// What is known of a file's content.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KeptFile {
    /// [`entry_digest`](livmig_proto::entry::entry_digest).
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// The root of its content.
    pub root: Digest,
    /// The tags of its blocks, for files large enough.
    pub tags: Option<TagsRef>,
    /// The space beyond its end that was asked to be reserved, or is told to be. Nothing where nobody
    /// knows.
    pub reserved: Option<Reserve>,
}

impl Seen {
    /// The state `identity`, which proves later that nothing changed; of which nothing is left out.
    pub fn proven(identity: Identity) -> Self {
        Self {
            identity,
            cold: true,
            left: Reasons::NONE,
        }
    }

    /// Whether `now` proves that nothing changed since.
    pub fn proves(&self, now: &Identity) -> bool {
        self.cold && self.identity == *now
    }
}

impl Segment {
    /// The entry called `name`.
    pub fn entry(&self, name: &Name) -> Option<&Entry> {
        let at = self
            .entries
            .binary_search_by(|entry| entry.name.cmp(name))
            .ok()?;
        self.entries.get(at)
    }

    /// The entry called `name`, to be changed.
    pub fn entry_mut(&mut self, name: &Name) -> Option<&mut Entry> {
        let at = self
            .entries
            .binary_search_by(|entry| entry.name.cmp(name))
            .ok()?;
        self.entries.get_mut(at)
    }

    /// What stands for the directory in the manifest.
    pub fn member(&self) -> Digest {
        let mut member = DirectoryMember::new(&self.path, &self.meta);
        for entry in &self.entries {
            let entry_ref = match &entry.kept {
                Kept::Directory => EntryRef::Directory,
                Kept::Link { .. } => EntryRef::Link,
                Kept::Apart => EntryRef::Apart,
                Kept::File(KeptFile { digest, .. }) | Kept::Other { digest } => {
                    EntryRef::Entry(*digest)
                }
            };
            member.push(&entry.name, entry_ref);
        }
        member.finish()
    }

    /// The bytes of content in its files, those with several links aside.
    pub fn bytes(&self) -> u64 {
        self.entries
            .iter()
            .map(|entry| {
                if let Kept::File(file) = &entry.kept {
                    file.size
                } else {
                    0
                }
            })
            .sum()
    }

    /// Its bytes: a head that can be read alone, then the entries.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::with_capacity(256 + self.entries.len() * 192);
        out.path(&self.path);
        self.meta.encode(&mut out);
        encode_seen(self.seen.as_ref(), &mut out);
        out.count(self.entries.len());
        for entry in &self.entries {
            out.name(&entry.name);
            encode_seen(entry.seen.as_ref(), &mut out);
            match &entry.kept {
                Kept::Directory => out.u8(1),
                Kept::Link { group } => {
                    out.u8(2);
                    out.u64(*group);
                }
                Kept::File(file) => {
                    out.u8(3);
                    file.encode(&mut out);
                }
                Kept::Other { digest } => {
                    out.u8(4);
                    out.digest(digest);
                }
                Kept::Apart => out.u8(5),
            }
        }
        out.into_bytes().into()
    }

    /// The segment in `bytes`.
    pub fn decode(bytes: Vec<u8>) -> Result<Self, DecodeError> {
        let mut input = Decoder::new(bytes.into());
        let (path, meta) = (input.path()?, Meta::decode(&mut input)?);
        let seen = decode_seen(&mut input)?;
        let count = input.count(usize::MAX)?;
        // Not by the count, which the bytes need not bear out.
        let mut entries = Vec::new();
        for _ in 0..count {
            let name = input.name()?;
            let seen = decode_seen(&mut input)?;
            let kept = match input.u8()? {
                1 => Kept::Directory,
                2 => Kept::Link {
                    group: input.u64()?,
                },
                3 => Kept::File(KeptFile::decode(&mut input)?),
                4 => Kept::Other {
                    digest: input.digest()?,
                },
                5 => Kept::Apart,
                _ => return Err(DecodeError::Invalid("kept entry")),
            };
            entries.push(Entry { name, seen, kept });
        }
        input.finish()?;
        Ok(Self {
            path,
            meta,
            seen,
            entries,
        })
    }

    /// The path and metadata alone, from the beginning of a segment's bytes.
    pub fn decode_head(bytes: Vec<u8>) -> Result<(RelPath, Meta), DecodeError> {
        let mut input = Decoder::new(bytes.into());
        Ok((input.path()?, Meta::decode(&mut input)?))
    }
}

impl KeptFile {
    /// Appends its bytes.
    pub fn encode(&self, out: &mut Encoder) {
        out.digest(&self.digest);
        out.u64(self.size);
        out.digest(&self.root);
        TagsRef::encode(self.tags.as_ref(), out);
        match self.reserved {
            None => out.u8(0),
            Some(reserve) if reserve.is_none() => out.u8(1),
            Some(Reserve { start, len }) => {
                out.u8(2);
                out.u64(start);
                out.u64(len);
            }
        }
    }

    /// Takes its bytes.
    pub fn decode(input: &mut Decoder) -> Result<Self, DecodeError> {
        Ok(Self {
            digest: input.digest()?,
            size: input.u64()?,
            root: input.digest()?,
            tags: TagsRef::decode(input)?,
            reserved: match input.u8()? {
                0 => None,
                1 => Some(Reserve::NONE),
                2 => Some(Reserve {
                    start: input.u64()?,
                    len: input.u64()?,
                }),
                _ => return Err(DecodeError::Invalid("reservation")),
            },
        })
    }
}

/// Appends a state, or its absence.
pub fn encode_seen(seen: Option<&Seen>, out: &mut Encoder) {
    match seen {
        None => out.u8(0),
        Some(seen) => {
            out.u8(if seen.cold { 2 } else { 1 });
            out.u16(seen.left.bits());
            seen.identity.encode(out);
        }
    }
}

/// Takes a state, or its absence.
pub fn decode_seen(input: &mut Decoder) -> Result<Option<Seen>, DecodeError> {
    let cold = match input.u8()? {
        0 => return Ok(None),
        1 => false,
        2 => true,
        _ => return Err(DecodeError::Invalid("state")),
    };
    Ok(Some(Seen {
        left: Reasons::from_bits(input.u16()?),
        identity: Identity::decode(input)?,
        cold,
    }))
}

#[cfg(test)]
mod tests {
    use livmig_proto::{control::Reason, entry::Time};

    use super::*;

    fn identity(ino: u64) -> Identity {
        Identity {
            ino,
            device: (8, 1),
            btime: Time {
                seconds: 5,
                nanoseconds: 6,
            },
            size: 7,
            mtime: Time {
                seconds: -8,
                nanoseconds: 9,
            },
            ctime: Time {
                seconds: 10,
                nanoseconds: 11,
            },
            mode: 0o100_644,
            uid: 12,
            gid: 13,
            nlink: 1,
        }
    }

    fn segment() -> Segment {
        let entry = |name: &[u8], kept| Entry {
            name: Name::new(name).unwrap(),
            seen: Some(Seen {
                identity: identity(3),
                cold: name == b"a",
                left: [Reason::Flags].into_iter().collect(),
            }),
            kept,
        };
        let file = KeptFile {
            digest: Digest([1; 32]),
            size: 99,
            root: Digest([2; 32]),
            tags: Some(TagsRef {
                offset: 4096,
                count: 13,
                capacity: 32,
                block_log2: 13,
            }),
            reserved: Some(Reserve {
                start: 4096,
                len: 8192,
            }),
        };
        Segment {
            path: RelPath::new(b"x/y").unwrap(),
            meta: Meta {
                mode: 0o755,
                ..Meta::default()
            },
            seen: None,
            entries: vec![
                entry(b"a", Kept::File(file)),
                entry(b"b", Kept::Directory),
                entry(b"ba", Kept::Apart),
                entry(b"c", Kept::Link { group: 9 }),
                entry(
                    b"d",
                    Kept::Other {
                        digest: Digest([3; 32]),
                    },
                ),
            ],
        }
    }

    #[test]
    fn a_segment_survives_its_bytes() {
        let segment = segment();
        let bytes = segment.encode();
        assert_eq!(Segment::decode(bytes.clone()).unwrap(), segment);
        assert_eq!(
            Segment::decode_head(bytes.clone()).unwrap(),
            (segment.path, segment.meta)
        );
        for cut in 0..bytes.len() {
            assert!(Segment::decode(bytes[..cut].to_vec()).is_err(), "{cut}");
        }
    }

    #[test]
    fn only_a_cold_equal_identity_proves_anything() {
        let cold = Seen::proven(identity(1));
        assert!(cold.proves(&identity(1)));
        assert!(!cold.proves(&identity(2)));
        assert!(
            !Seen {
                cold: false,
                ..cold
            }
            .proves(&identity(1))
        );
    }

    #[test]
    fn the_member_ignores_how_things_were_seen() {
        let (one, mut other) = (segment(), segment());
        other.entries[0].seen = None;
        assert_eq!(one.member(), other.member());
        other.entries.remove(1);
        assert_ne!(one.member(), other.member());
    }
}
