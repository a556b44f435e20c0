//! A pass goes on over a new connection when its own was lost: when that is tried, and for how long.
//!
//! What was acknowledged is in the catalog, so going on is another look at the tree that sends what
//! is missing. Whether the run that asks is still the one in charge is for the destination to say.

use std::time::Duration;

use livmig_proto::control::{Fault, FaultCode};

/// How long a new connection is tried for: as long as silence on the old one took to count as its
/// loss. Whoever waits for the pass may end it before.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Connections that one pass may lose: what a path that never holds for long can make it repeat. A new
/// pass is its coordinator's to decide.
const LOSSES_MAX: u32 = 16;

/// Connections in a row that may be lost before the destination has applied anything.
const FRUITLESS_MAX: u32 = 2;

/// The wait before the second try to connect; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// And this long at most.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// The connections that a pass has lost.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Losses {
    /// All of them.
    pub(super) total: u32,
    /// Those since something was applied.
    fruitless: u32,
}

/// Whether the destination had applied anything that came over a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Advance {
    /// It had.
    Some,
    /// It had not.
    None,
}

impl Losses {
    /// Whether the pass goes on over a new connection after it has ended with `fault`. Not when
    /// `others` went wrong too, for it will be incomplete anyway, and in a final pass that may have
    /// been a writer, of which the next look shows nothing.
    pub(super) fn add(&mut self, fault: &Fault, others: u64, progress: Advance) -> bool {
        if !is_path(fault) || others > 0 {
            return false;
        }
        self.total += 1;
        self.fruitless = match progress {
            Advance::Some => 0,
            Advance::None => self.fruitless + 1,
        };
        self.total <= LOSSES_MAX && self.fruitless <= FRUITLESS_MAX
    }
}

/// How long to wait before another try to connect, after `tries` that failed since the loss
/// `elapsed` ago; nothing when that is given up.
pub(super) fn wait(tries: u32, elapsed: Duration) -> Option<Duration> {
    let factor = 1_u32
        .checked_shl(tries.saturating_sub(1))
        .unwrap_or(u32::MAX);
    let wait = FIRST_WAIT.saturating_mul(factor).min(WAIT_MAX);
    (elapsed + wait < PATIENCE).then_some(wait)
}

/// Whether a fault is the network's and not the peer's word.
pub(super) fn is_path(fault: &Fault) -> bool {
    matches!(fault.code, FaultCode::Disconnected | FaultCode::Unreachable)
}

#[cfg(test)]
mod tests {
    use livmig_proto::control::Side;

    use super::*;
    use crate::fault;

    #[test]
    fn only_a_lost_path_is_replaced_and_not_without_end() {
        let lost = fault::disconnected(Side::Source, "reset");
        let refused = fault::plain(Side::Destination, FaultCode::Stopped, "another run");
        assert!(!Losses::default().add(&refused, 0, Advance::Some));
        assert!(!Losses::default().add(&lost, 1, Advance::Some));
        let until_given_up = |progress| {
            let mut losses = Losses::default();
            while losses.add(&lost, 0, progress) {}
            losses.total
        };
        assert_eq!(until_given_up(Advance::Some), LOSSES_MAX + 1);
        assert_eq!(until_given_up(Advance::None), FRUITLESS_MAX + 1);
    }

    #[test]
    fn tries_come_at_once_then_rarely_and_end() {
        assert_eq!(wait(1, Duration::ZERO), Some(FIRST_WAIT));
        assert_eq!(wait(3, Duration::ZERO), Some(FIRST_WAIT * 4));
        assert_eq!(wait(40, Duration::ZERO), Some(WAIT_MAX));
        assert_eq!(wait(2, PATIENCE), None);
    }
}
