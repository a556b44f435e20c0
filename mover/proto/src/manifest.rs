//! The manifest: one digest for everything a volume holds.
//!
//! A manifest is a *set* of members, each a digest that stands for itself: a directory (its path,
//! its metadata, and the name and [`entry_digest`](crate::entry::entry_digest) of each entry in
//! it) or a group of hard links (all paths, and what they share). The manifest's digest is taken
//! over the sorted members, so directories may be visited in any order, by any number of threads,
//! and a directory that did not change keeps its member from pass to pass.
//!
//! Entries with more than one link stand in their directory by name only; what they share is said
//! once, by their group. Left out on purpose: allocation, access and change times, inode numbers.

use crate::{
    entry::Meta,
    name::{Name, RelPath},
    tree::Digest,
    wire::Encoder,
};

const DIRECTORY_KEY: [u8; 32] = *b"livmig manifest/1: one directory";
const GROUP_KEY: [u8; 32] = *b"livmig manifest/1: one linkgroup";
const MANIFEST_KEY: [u8; 32] = *b"livmig manifest/1: all there is.";

/// Computes the member of one directory.
#[derive(Debug)]
pub struct DirectoryMember(blake3::Hasher);

/// What stands for an entry in its directory's member.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EntryRef {
    /// The entry, by its digest.
    Entry(Digest),
    /// A subdirectory; it is a member of its own.
    Directory,
    /// One of several links; their group is a member of its own.
    Link,
    /// A name that is there; what stands under it is left as it is at either end.
    Apart,
}

impl DirectoryMember {
    /// The directory at `path` with the metadata `meta`.
    pub fn new(path: &RelPath, meta: &Meta) -> Self {
        let mut out = Encoder::new();
        out.path(path);
        meta.encode(&mut out);
        let mut hasher = blake3::Hasher::new_keyed(&DIRECTORY_KEY);
        hasher.update(out.as_slice());
        Self(hasher)
    }

    /// Adds an entry. Entries come in the order of their names' bytes.
    pub fn push(&mut self, name: &Name, entry: EntryRef) {
        let mut out = Encoder::new();
        out.name(name);
        match entry {
            EntryRef::Entry(digest) => {
                out.u8(1);
                out.digest(&digest);
            }
            EntryRef::Directory => out.u8(2),
            EntryRef::Link => out.u8(3),
            EntryRef::Apart => out.u8(4),
        }
        self.0.update(out.as_slice());
    }

    /// The member.
    pub fn finish(self) -> Digest {
        Digest(*self.0.finalize().as_bytes())
    }
}

/// The member of a group of hard links: its paths, sorted, and the digest of what they share.
pub fn group_member<'a>(paths: impl IntoIterator<Item = &'a RelPath>, entry: &Digest) -> Digest {
    let mut out = Encoder::new();
    out.digest(entry);
    for path in paths {
        out.path(path);
    }
    let mut hasher = blake3::Hasher::new_keyed(&GROUP_KEY);
    hasher.update(out.as_slice());
    Digest(*hasher.finalize().as_bytes())
}

/// The manifest's digest over all members, in any order.
pub fn manifest_digest(mut members: Vec<Digest>) -> Digest {
    members.sort_unstable();
    let mut hasher = blake3::Hasher::new_keyed(&MANIFEST_KEY);
    for member in &members {
        hasher.update(&member.0);
    }
    Digest(*hasher.finalize().as_bytes())
}
