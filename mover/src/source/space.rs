//! What becomes of a pass whose destination runs out of room.
//!
//! Nothing is removed sooner than it would be otherwise: what goes is what complete listings say
//! is gone. A round over the tree that runs short goes on to its end, so that everything that
//! gives room back is applied, but sends nothing more that needs room; what it left out is in
//! flight, and another round asks for it. From the second round on, the names that hard links
//! replace go before anything is written, and no file is rebuilt beside its old self.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use livmig_proto::{limits::LISTED_MAX, name::RelPath};

use crate::catalog::segment::{Kept, KeptFile};

/// Rounds over the tree at most. One gives back what can be given back; what is freed later than
/// that takes one more.
const ROUNDS_MAX: u32 = 4;

/// What the workers of a round do about room.
#[derive(Debug, Default)]
pub struct Space {
    /// Room was short in an earlier round.
    tight: AtomicBool,
    /// Things sent in this round that may have given room back.
    freed: AtomicU64,
    /// Things left out in this round because there was no room for others.
    deferred: AtomicU64,
    /// The first of them.
    waiting: Mutex<Vec<RelPath>>,
}

/// What a round came to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SpaceOutcome {
    /// Which one; the first is 0.
    pub round: u32,
    /// Things that may have given room back.
    pub freed: u64,
    /// Things for which there was no room, or that were not tried.
    pub unfinished: u64,
}

impl SpaceOutcome {
    /// Whether another round may end better; `before` is the round before this one.
    pub fn is_worth_another(&self, before: Option<&Self>) -> bool {
        let nearer = before.is_none_or(|before| self.unfinished < before.unfinished);
        self.freed > 0 && nearer && self.round + 1 < ROUNDS_MAX
    }
}

impl Space {
    /// Whether room was short in an earlier round.
    pub fn is_tight(&self) -> bool {
        self.tight.load(Ordering::Relaxed)
    }

    /// Something was sent that may give room back.
    pub fn free(&self) {
        self.freed.fetch_add(1, Ordering::Relaxed);
    }

    /// The entry at `path` was left out.
    pub fn defer(&self, path: &RelPath) {
        self.deferred.fetch_add(1, Ordering::Relaxed);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < LISTED_MAX {
            waiting.push(path.clone());
        }
    }

    /// What was left out since the last call: the first of it.
    pub fn take_waiting(&self) -> Vec<RelPath> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends a round in which there was no room for `refused` things.
    pub fn end_round(&self, round: u32, refused: u64) -> SpaceOutcome {
        self.tight.store(true, Ordering::Relaxed);
        SpaceOutcome {
            round,
            freed: self.freed.swap(0, Ordering::Relaxed),
            unfinished: refused + self.deferred.swap(0, Ordering::Relaxed),
        }
    }
}

/// What to do about an entry of `size` bytes while there is no room, given what the destination
/// has in its place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Need {
    /// It needs no more room than it has: sent as ever.
    None,
    /// It waits for another round.
    Space,
    /// It waits, and what is in its place can go.
    SpaceAndReplaces,
}

/// Whether an entry of `size` bytes needs room beyond that of what the destination has.
pub fn need(before: Option<&Kept>, size: u64) -> Need {
    match before {
        Some(Kept::File(KeptFile { size: kept, .. })) if size <= *kept => Need::None,
        None | Some(Kept::File(_)) => Need::Space,
        Some(Kept::Directory | Kept::Link { .. } | Kept::Other { .. } | Kept::Apart) => {
            Need::SpaceAndReplaces
        }
    }
}

#[cfg(test)]
mod tests {
    use livmig_proto::tree::Digest;

    use super::*;

    #[test]
    fn another_round_needs_a_reason_and_comes_nearer() {
        let first = SpaceOutcome {
            round: 0,
            freed: 1,
            unfinished: 5,
        };
        assert!(first.is_worth_another(None));
        assert!(!SpaceOutcome { freed: 0, ..first }.is_worth_another(None));
        let second = SpaceOutcome { round: 1, ..first };
        assert!(!second.is_worth_another(Some(&first)));
        let nearer = SpaceOutcome {
            unfinished: 4,
            ..second
        };
        assert!(nearer.is_worth_another(Some(&first)));
        let last = SpaceOutcome {
            round: ROUNDS_MAX - 1,
            ..nearer
        };
        assert!(!last.is_worth_another(Some(&first)));
    }

    #[test]
    fn a_round_is_summed_up_once() {
        let room = Space::default();
        room.free();
        room.defer(&RelPath::ROOT);
        assert!(!room.is_tight());
        let outcome = room.end_round(0, 2);
        assert_eq!((outcome.freed, outcome.unfinished), (1, 3));
        assert!(room.is_tight());
        assert_eq!(room.take_waiting(), [RelPath::ROOT]);
        assert_eq!(room.end_round(1, 0).unfinished, 0);
    }

    #[test]
    fn what_shrinks_needs_no_room_and_what_is_replaced_can_go() {
        let file = Kept::File(KeptFile {
            digest: Digest([0; 32]),
            size: 10,
            root: Digest([0; 32]),
            tags: None,
            reserved: None,
        });
        assert_eq!(need(None, 0), Need::Space);
        assert_eq!(need(Some(&file), 10), Need::None);
        assert_eq!(need(Some(&file), 11), Need::Space);
        for kept in [Kept::Directory, Kept::Link { group: 3 }] {
            assert_eq!(need(Some(&kept), 1), Need::SpaceAndReplaces);
        }
    }
}
