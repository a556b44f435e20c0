//! Hot and cold: when an unchanged look of an entry proves that nothing in it changed.

use livmig_proto::entry::Time;

use crate::{catalog::segment::Seen, fs::stat::Identity};

/// Seconds by which a change must be older than the flush before the scan for its timestamp to
/// be believed: a write is stamped when the call starts, and calls that took seconds to store
/// their bytes have been measured.
const MARGIN: i64 = 30;

/// On what ground an equal identity is a proof.
#[derive(Clone, Copy, Debug)]
pub struct Proof {
    /// Whether this file system can prove anything.
    pub possible: bool,
    /// Whether what was proven before still is: not after the wall clock was stepped.
    pub remembered: bool,
    /// When the flush before this scan began.
    pub flushed: Time,
}

impl Proof {
    /// Whether `identity`, unchanged since before the first read until after the last, will
    /// prove later that nothing changed.
    pub fn is_cold(&self, identity: &Identity) -> bool {
        let limit = Time {
            seconds: self.flushed.seconds - MARGIN,
            ..self.flushed
        };
        self.possible && identity.ctime < limit
    }

    /// How something was seen that looked like `before` and then like `after`.
    pub fn seen(&self, before: &Identity, after: &Identity) -> Seen {
        Seen {
            identity: *after,
            cold: before == after && self.is_cold(after),
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

    #[test]
    fn only_what_is_older_than_the_flush_by_the_margin_is_cold() {
        let flushed = Time {
            seconds: 1000,
            nanoseconds: 0,
        };
        let proof = Proof {
            possible: true,
            remembered: true,
            flushed,
        };
        assert!(proof.is_cold(&identity(1000 - MARGIN - 1)));
        assert!(!proof.is_cold(&identity(1000 - MARGIN)));
        assert!(!proof.is_cold(&identity(2000)));
        assert!(
            !Proof {
                possible: false,
                ..proof
            }
            .is_cold(&identity(0))
        );
    }

    #[test]
    fn what_moved_while_it_was_read_is_hot() {
        let flushed = Time {
            seconds: 1000,
            nanoseconds: 0,
        };
        let proof = Proof {
            possible: true,
            remembered: true,
            flushed,
        };
        assert!(proof.seen(&identity(1), &identity(1)).cold);
        assert!(!proof.seen(&identity(1), &identity(2)).cold);
    }

    #[test]
    fn a_clock_step_voids_what_was_proven() {
        let flushed = Time {
            seconds: 1000,
            nanoseconds: 0,
        };
        let seen = Seen {
            identity: identity(1),
            cold: true,
        };
        let proof = Proof {
            possible: true,
            remembered: true,
            flushed,
        };
        assert!(proof.holds(Some(&seen), &identity(1)));
        assert!(!proof.holds(Some(&seen), &identity(2)));
        assert!(!proof.holds(None, &identity(1)));
        assert!(
            !Proof {
                remembered: false,
                ..proof
            }
            .holds(Some(&seen), &identity(1))
        );
    }
}
