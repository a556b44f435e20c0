//! Hot and cold: when an unchanged look of an entry proves that nothing in it changed.

use livmig_proto::{control::Reasons, entry::Time};

use super::persistent;
use crate::{
    catalog::segment::Seen,
    fs::{stat::Identity, volume},
};

/// Seconds by which a change must be older than the flush before the scan for its timestamp to
/// be believed: a write is stamped when the call starts, and calls that took seconds to store
/// their bytes have been measured.
const MARGIN: i64 = 30;

/// A flush that has begun, by the clock that stamps changes.
#[derive(Clone, Copy, Debug)]
pub struct Flush {
    /// When, by that clock.
    pub at: Time,
    /// How far that clock was from one that nobody steps.
    clock_offset: i64,
}

impl Flush {
    /// One that begins now.
    pub fn begin() -> Self {
        // First: a step in between shows.
        let clock_offset = persistent::clock_offset();
        Self {
            at: volume::now(),
            clock_offset,
        }
    }

    /// Whether times before and after its beginning can still be told apart. Once the clock was
    /// stepped back, what is stamped now looks older than the flush.
    pub fn counts(&self) -> bool {
        !persistent::is_step(self.clock_offset, persistent::clock_offset())
    }
}

/// On what ground an equal identity is a proof.
#[derive(Clone, Copy, Debug)]
pub struct StatTrust {
    /// Whether anything can be proven.
    pub possible: bool,
    /// Whether what was proven before still is: not after the wall clock was stepped.
    pub remembered: bool,
    /// When the flush before this scan began.
    pub flushed: Time,
}

impl StatTrust {
    /// Whether `identity`, unchanged since before the first read until after the last, will
    /// prove later that nothing changed.
    pub fn is_cold(&self, identity: &Identity) -> bool {
        let limit = Time {
            seconds: self.flushed.seconds - MARGIN,
            ..self.flushed
        };
        self.possible && identity.ctime < limit
    }

    /// How something was seen that looked like `before` and then like `after`, and of which `left`
    /// was left out.
    pub fn seen(&self, before: &Identity, after: &Identity, left: Reasons) -> Seen {
        Seen {
            identity: *after,
            cold: before == after && self.is_cold(after),
            left,
        }
    }

    /// Whether what was seen earlier and looks like `now` needs no second look.
    pub fn holds(&self, seen: Option<&Seen>, now: &Identity) -> bool {
        self.possible && self.remembered && seen.is_some_and(|seen| seen.proves(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(seconds: i64) -> Identity {
        let time = Time {
            seconds,
            nanoseconds: 0,
        };
        Identity {
            ino: 1,
            device: (8, 1),
            btime: time,
            size: 0,
            mtime: time,
            ctime: time,
            mode: 0,
            uid: 0,
            gid: 0,
            nlink: 1,
        }
    }

    fn flushed_at(seconds: i64) -> StatTrust {
        StatTrust {
            possible: true,
            remembered: true,
            flushed: Time {
                seconds,
                nanoseconds: 0,
            },
        }
    }

    #[test]
    fn only_what_is_older_than_the_flush_by_the_margin_is_cold() {
        let proof = flushed_at(1000);
        assert!(proof.is_cold(&identity(1000 - MARGIN - 1)));
        assert!(!proof.is_cold(&identity(1000 - MARGIN)));
        assert!(!proof.is_cold(&identity(2000)));
        assert!(
            !StatTrust {
                possible: false,
                ..proof
            }
            .is_cold(&identity(0))
        );
    }

    #[test]
    fn what_moved_while_it_was_read_is_hot() {
        let proof = flushed_at(1000);
        assert!(proof.seen(&identity(1), &identity(1), Reasons::NONE).cold);
        assert!(!proof.seen(&identity(1), &identity(2), Reasons::NONE).cold);
    }

    #[test]
    fn a_clock_step_voids_what_was_proven() {
        let flushed = Time {
            seconds: 1000,
            nanoseconds: 0,
        };
        let seen = Seen::proven(identity(1));
        let proof = StatTrust {
            possible: true,
            remembered: true,
            flushed,
        };
        assert!(proof.holds(Some(&seen), &identity(1)));
        assert!(!proof.holds(Some(&seen), &identity(2)));
        assert!(!proof.holds(None, &identity(1)));
        assert!(
            !StatTrust {
                remembered: false,
                ..proof
            }
            .holds(Some(&seen), &identity(1))
        );
    }

    #[test]
    fn a_flush_before_a_step_of_the_clock_proves_nothing() {
        let flush = Flush::begin();
        let old = identity(flush.at.seconds - MARGIN - 1);
        let proof = |flush: Flush| StatTrust {
            possible: flush.counts(),
            remembered: true,
            flushed: flush.at,
        };
        assert!(proof(flush).seen(&old, &old, Reasons::NONE).cold);
        // What would have been stamped right after the flush, by a clock that went back an hour.
        let stepped = Flush {
            clock_offset: flush.clock_offset + 3_600_000_000_000,
            ..flush
        };
        let new = identity(flush.at.seconds - 3599);
        assert!(!proof(stepped).seen(&new, &new, Reasons::NONE).cold);
    }
}
