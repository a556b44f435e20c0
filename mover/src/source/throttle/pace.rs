//! When bytes may leave at a limited rate: a token bucket, pure.
//!
//! What is granted at once is at most [`part`] and what was not used lasts for 25 ms only, so
//! no second sees more than 1.045 of the rate: 20 ms worth for the last part in it and 25 ms for
//! the credit at its beginning. Whoever is woken up to that credit too late loses nothing by it.

use std::time::Duration;

/// How much a part may be worth.
const PART: Duration = Duration::from_millis(20);

/// How long what was not used may be made up for.
const CREDIT: Duration = Duration::from_millis(25);

/// Bytes that may be granted at once at `rate` bytes a second.
pub fn part(rate: u64) -> usize {
    let bytes = u128::from(rate) * PART.as_millis() / 1000;
    usize::try_from(bytes).unwrap_or(usize::MAX).max(1)
}

/// What has been granted so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// When the next part may leave.
    free: Duration,
}

impl Pace {
    /// Grants `bytes`, at most [`part`] of `rate`, at `now`, a time since any fixed moment.
    ///
    /// # Errors
    /// When it is too early; how long to wait before asking again. Never longer than a part takes.
    pub fn grant(&mut self, now: Duration, bytes: usize, rate: u64) -> Result<(), Duration> {
        let wait = self.free.saturating_sub(now);
        if !wait.is_zero() {
            return Err(wait);
        }
        let since = self.free.max(now.saturating_sub(CREDIT));
        self.free = since.saturating_add(worth(bytes, rate));
        Ok(())
    }
}

/// How long `bytes` take at `rate`.
fn worth(bytes: usize, rate: u64) -> Duration {
    let nanos = (bytes as u128 * 1_000_000_000).div_ceil(u128::from(rate.max(1)));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A lane that asks again `late` after it was told to, and rests now and then.
    #[derive(Clone, Debug)]
    struct Asking {
        /// Parts of so many thousandths of the largest.
        share: usize,
        late: Duration,
        /// After so many parts it rests so long.
        rest: (usize, Duration),
    }

    fn lanes() -> impl Strategy<Value = Vec<Asking>> {
        let share = prop_oneof![Just(1000), 1..=1000_usize];
        let lane = (share, 0..=20_u64, 1..=60_usize, 0..=300_u64).prop_map(
            |(share, late, parts, rest)| Asking {
                share,
                late: Duration::from_millis(late),
                rest: (parts, Duration::from_millis(rest)),
            },
        );
        prop_oneof![
            prop::collection::vec(lane.clone(), 1),
            prop::collection::vec(lane, 1..=8),
        ]
    }

    /// What leaves, and when, in `length`.
    fn run(rate: u64, lanes: &[Asking], length: Duration) -> Vec<(Duration, usize)> {
        let mut pace = Pace::default();
        let mut next: Vec<Duration> = lanes.iter().map(|lane| lane.rest.1).collect();
        let mut sent = vec![0_usize; lanes.len()];
        let mut left = Vec::new();
        loop {
            let (at, now) = next
                .iter()
                .copied()
                .enumerate()
                .min_by_key(|(_, at)| *at)
                .unwrap();
            if now > length {
                return left;
            }
            let bytes = (part(rate) * lanes[at].share / 1000).max(1);
            // A thread that sends takes some time for it, so that no lane stands still.
            next[at] = now
                + match pace.grant(now, bytes, rate) {
                    Ok(()) => {
                        left.push((now, bytes));
                        sent[at] += 1;
                        let (parts, rest) = lanes[at].rest;
                        let rests = sent[at].is_multiple_of(parts);
                        Duration::from_micros(10) + rest * u32::from(rests)
                    }
                    Err(wait) => {
                        assert!(wait <= PART + Duration::from_micros(50), "{wait:?}");
                        wait + lanes[at].late
                    }
                };
        }
    }

    fn sum(left: &[(Duration, usize)]) -> u64 {
        left.iter().map(|(_, bytes)| *bytes as u64).sum()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn no_second_sees_more_than_105_percent(
            rate in 64_u64 << 10..=4 << 30,
            lanes in lanes(),
        ) {
            let left = run(rate, &lanes, Duration::from_secs(5));
            let mut from = 0;
            for to in 0..left.len() {
                while left[to].0.saturating_sub(left[from].0) > SECOND {
                    from += 1;
                }
                let seen = sum(&left[from..=to]);
                prop_assert!(seen * 100 <= rate * 105, "{seen} of {rate}");
            }
        }

        #[test]
        fn ten_seconds_of_waiting_data_see_95_percent(
            rate in 64_u64 << 10..=4 << 30,
            late in prop::collection::vec(0..=20_u64, 1..=8),
        ) {
            let lanes: Vec<_> = late
                .into_iter()
                .map(|late| Asking {
                    share: 1000,
                    late: Duration::from_millis(late),
                    rest: (1, Duration::ZERO),
                })
                .collect();
            let left = run(rate, &lanes, 10 * SECOND);
            prop_assert!(sum(&left) * 100 >= rate * 10 * 95, "{} of {rate}", sum(&left));
        }
    }

    #[test]
    fn a_long_rest_is_no_credit() {
        let rate = 1 << 20;
        let mut pace = Pace::default();
        let mut granted = 0;
        while pace.grant(3600 * SECOND, part(rate), rate).is_ok() {
            granted += part(rate);
        }
        assert!(granted <= part(rate) * 3, "{granted}");
    }
}
