//! Directories whose own metadata is still to be applied.

use livmig_proto::{entry::Meta, name::RelPath, tree::Digest};
use rustix::io::Errno;

use super::{
    Change, Known, Store, kind,
    place::{self, PlaceState},
};
use crate::catalog::{log::Key, segment::Segment};

/// A directory whose metadata has not been applied since something in it was.
#[derive(Debug)]
pub struct Unfinished {
    /// Where it is.
    pub path: RelPath,
    /// Its metadata.
    pub meta: Meta,
    /// What stands for it in the manifest; zero where something in it failed.
    pub member: Digest,
}

/// Bytes in which the head of a segment is expected; a longer one is read again, whole.
const HEAD_GUESS: usize = 1024;

impl Store {
    /// The directories whose own metadata is still to be applied, each after those below it, as keys
    /// for [`Store::unfinished`]. Those of this round come in the order in which they were spoken of,
    /// the last first, so that it is not far from one to the next; others before them, deepest first.
    pub fn unfinished_keys(&self) -> Vec<Key> {
        let inner = self.lock();
        let mut keys: Vec<(bool, u32, u16, Key)> = inner
            .index
            .iter()
            .filter(|(_, place)| match place.state {
                PlaceState::Unfinished => true,
                PlaceState::Doubtful => place.order > 0,
                PlaceState::InFlight | PlaceState::Finished => false,
            })
            .map(|(key, place)| (place.order == 0, place.order, place.depth, *key))
            .collect();
        keys.sort_unstable_by(|one, other| other.cmp(one));
        keys.into_iter().map(|(_, _, _, key)| key).collect()
    }

    /// The unfinished directory with this key.
    pub fn unfinished(&self, key: Key) -> Result<Option<Unfinished>, Errno> {
        let mut inner = self.lock();
        let Some(place) = inner.index.get(&key).copied() else {
            return Ok(None);
        };
        let len = usize::try_from(place.len).unwrap_or(usize::MAX);
        let guess = inner.log.read(place.offset, len.min(HEAD_GUESS))?;
        let head = match Segment::decode_head(guess) {
            Ok(head) => head,
            Err(_) => Segment::decode_head(inner.read(&place)?).map_err(|_| Errno::IO)?,
        };
        Ok(Some(Unfinished {
            path: head.0,
            meta: head.1,
            member: if place.state == PlaceState::Doubtful {
                Digest([0; 32])
            } else {
                place.member
            },
        }))
    }

    /// Marks a directory as unfinished: something in it changed behind its segment's back.
    pub fn unfinish(&self, path: &RelPath) -> Result<(), Errno> {
        if let Known::Segment(segment) = self.get(path)? {
            self.put(&segment, Change::Made)?;
        }
        Ok(())
    }

    /// Says that the metadata of every directory is applied.
    pub fn finish_all(&self) -> Result<(), Errno> {
        let mut inner = self.lock();
        let none = Key([0; 16]);
        inner.log.append(kind::FINISHED, none, &[])?;
        place::finish(&mut inner.index);
        inner.log.flush()
    }
}
