//! Where in the log a directory's segment lies, and what is asked too often to be read there.

use std::collections::HashMap;

use livmig_proto::{
    tree::Digest,
    wire::{Decoder, Encoder},
};

use crate::catalog::log::Key;

#[derive(Clone, Copy, Debug)]
pub(super) struct StorePlace {
    pub(super) offset: u64,
    pub(super) len: u32,
    pub(super) depth: u16,
    pub(super) state: PlaceState,
    pub(super) entries: u32,
    pub(super) bytes: u64,
    pub(super) member: Digest,
    /// The how manyth it was of those that were spoken of in this round; zero when it was not.
    pub(super) order: u32,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum PlaceState {
    InFlight,
    /// In flight for whoever asks later: something in it failed. This pass knows its names, and its
    /// own metadata is still to be applied.
    Doubtful,
    /// Known, but the directory's own metadata is still to be applied.
    Unfinished,
    Finished,
}

impl PlaceState {
    /// Whether the other end must be asked.
    pub(super) fn is_in_flight(self) -> bool {
        matches!(self, Self::InFlight | Self::Doubtful)
    }
}

impl StorePlace {
    const HEAD: usize = 1 + 4 + 4 + 8 + 32;

    pub(super) fn in_flight() -> Self {
        Self {
            offset: 0,
            len: 0,
            depth: 0,
            state: PlaceState::InFlight,
            entries: 0,
            bytes: 0,
            member: Digest([0; 32]),
            order: 0,
        }
    }

    /// The body of a record: what the index holds, then the segment.
    pub(super) fn encode(&self, segment: &[u8]) -> Vec<u8> {
        let mut out = Encoder::with_capacity(Self::HEAD + segment.len());
        out.u8(u8::from(self.state == PlaceState::Finished));
        out.u32(u32::from(self.depth));
        out.u32(self.entries);
        out.u64(self.bytes);
        out.digest(&self.member);
        out.raw(segment);
        out.into_bytes().into()
    }

    pub(super) fn decode(offset: u64, body: Vec<u8>) -> Option<Self> {
        let len = body.len().checked_sub(Self::HEAD)?;
        let mut input = Decoder::new(body.into());
        Some(Self {
            offset: offset + u64::try_from(Self::HEAD).ok()?,
            len: u32::try_from(len).ok()?,
            state: if input.flag().ok()? {
                PlaceState::Finished
            } else {
                PlaceState::Unfinished
            },
            depth: u16::try_from(input.u32().ok()?).ok()?,
            entries: input.u32().ok()?,
            bytes: input.u64().ok()?,
            member: input.digest().ok()?,
            order: 0,
        })
    }
}

/// The metadata of every directory was applied.
pub(super) fn finish(index: &mut HashMap<Key, StorePlace>) {
    for place in index
        .values_mut()
        .filter(|place| place.state == PlaceState::Unfinished)
    {
        place.state = PlaceState::Finished;
    }
}
