//! The log and its index.

use std::{collections::HashMap, fs::File, io};

use livmig_proto::name::RelPath;
use rustix::io::Errno;

use super::{
    kind,
    place::{self, StorePlace},
};
use crate::{
    catalog::log::{Key, Log},
    random::random,
};

/// What the lock of a store guards.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) log: Log,
    pub(super) key: [u8; 32],
    pub(super) index: HashMap<Key, StorePlace>,
    /// What groups of hard links share; nothing for a group that is in flight.
    pub(super) groups: HashMap<u64, Option<(u64, usize)>>,
    pub(super) head: Option<Vec<u8>>,
    /// How many directories were spoken of in this round.
    pub(super) spoken_of: u32,
}

impl Inner {
    /// What `log` says, replayed.
    pub(super) fn open(log: File) -> io::Result<Self> {
        let mut index = HashMap::new();
        let mut groups = HashMap::new();
        let mut head: Option<Vec<u8>> = None;
        let log = Log::open(log, |found| {
            let key = found.key;
            match found.kind {
                kind::HEAD => head = Some(found.body),
                kind::BEGIN | kind::DOUBT => {
                    index.insert(key, StorePlace::in_flight());
                }
                kind::PUT => {
                    if let Some(place) = StorePlace::decode(found.offset, found.body) {
                        index.insert(key, place);
                    }
                }
                kind::FORGET => {
                    index.remove(&key);
                }
                kind::FINISHED => place::finish(&mut index),
                kind::GROUP_BEGIN => {
                    groups.insert(found.key.group(), None);
                }
                kind::GROUP_PUT => {
                    groups.insert(found.key.group(), Some((found.offset, found.body.len())));
                }
                kind::GROUP_FORGET => {
                    groups.remove(&found.key.group());
                }
                _ => {}
            }
        })?;
        // The head begins with the key of the index; without it nothing can be looked up.
        let key = head
            .as_ref()
            .and_then(|head| head.first_chunk::<32>().copied());
        if key.is_none() {
            index.clear();
            groups.clear();
        }
        let key = key.unwrap_or_else(random);
        Ok(Self {
            log,
            key,
            index,
            groups,
            head,
            spoken_of: 0,
        })
    }

    pub(super) fn key_of(&self, path: &RelPath) -> Key {
        let mut key = [0; 16];
        blake3::Hasher::new_keyed(&self.key)
            .update(path.as_bytes())
            .finalize_xof()
            .fill(&mut key);
        Key(key)
    }

    /// The place of the directory of `key` in the order of this round: that of its first word.
    pub(super) fn order(&mut self, key: Key) -> u32 {
        match self.index.get(&key) {
            Some(place) if place.order > 0 => place.order,
            _ => {
                self.spoken_of = self.spoken_of.saturating_add(1);
                self.spoken_of
            }
        }
    }

    pub(super) fn has(&self, path: &RelPath) -> bool {
        self.index.contains_key(&self.key_of(path))
    }

    pub(super) fn store_head(&mut self, head: &[u8]) -> Result<(), Errno> {
        let mut body = self.key.to_vec();
        body.extend_from_slice(head);
        self.log.append(kind::HEAD, Key([0; 16]), &body)?;
        self.head = Some(body);
        self.log.flush()
    }

    pub(super) fn read(&mut self, place: &StorePlace) -> Result<Vec<u8>, Errno> {
        self.log.read(
            place.offset,
            usize::try_from(place.len).unwrap_or(usize::MAX),
        )
    }
}
