//! Rewrites a log of which most is dead.

use std::fs::File;

use rustix::io::Errno;

use super::{inner::Inner, kind, place::StorePlace};
use crate::catalog::log::{Key, Log};

/// A log is rewritten when it is this large and three quarters of it are dead.
const COMPACT_MIN: u64 = 64 << 20;

impl Inner {
    /// Whether a rewrite would be worth it.
    pub(super) fn is_mostly_dead(&self) -> bool {
        let live: u64 = self
            .index
            .values()
            .map(|place| u64::from(place.len) + 64)
            .sum();
        self.log.len() >= COMPACT_MIN && live.saturating_mul(4) <= self.log.len()
    }

    /// Moves the live segments to the beginning of the log, in the order they lie in. In place
    /// is safe here because the caller holds the lock and a crash meanwhile only costs knowledge:
    /// the head goes last, and without it nothing is believed.
    pub(super) fn compact(&mut self, scratch: File) -> Result<(), Errno> {
        let mut live: Vec<(Key, StorePlace)> = self
            .index
            .iter()
            .map(|(key, place)| (*key, *place))
            .collect();
        live.sort_unstable_by_key(|(_, place)| place.offset);
        let mut bodies = Log::open(scratch, |_| {})?;
        let mut kept = Vec::with_capacity(live.len());
        for (key, place) in live {
            let body = if place.state.is_in_flight() {
                Vec::new()
            } else {
                place.encode(&self.read(&place)?)
            };
            kept.push((key, place.state, bodies.append(0, key, &body)?, body.len()));
        }
        let mut groups = Vec::new();
        for (group, place) in self.groups.clone() {
            let Some((offset, len)) = place else { continue };
            let body = self.log.read(offset, len)?;
            groups.push((group, bodies.append(0, Key::of_group(group), &body)?, len));
        }
        let head = self
            .head
            .as_ref()
            .and_then(|head| head.get(32..))
            .unwrap_or_default()
            .to_vec();
        // A group in flight is as good as an unknown one.
        self.groups.clear();
        self.index.clear();
        self.log.clear()?;
        for (key, state, offset, len) in kept {
            if state.is_in_flight() {
                self.log.append(kind::BEGIN, key, &[])?;
                self.index.insert(key, StorePlace::in_flight());
                continue;
            }
            let body = bodies.read(offset, len)?;
            let offset = self.log.append(kind::PUT, key, &body)?;
            if let Some(place) = StorePlace::decode(offset, body) {
                self.index.insert(key, place);
            }
        }
        for (group, offset, len) in groups {
            let body = bodies.read(offset, len)?;
            let offset = self
                .log
                .append(kind::GROUP_PUT, Key::of_group(group), &body)?;
            self.groups.insert(group, Some((offset, len)));
        }
        self.store_head(&head)
    }
}
