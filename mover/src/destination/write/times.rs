//! Whether a volume holds the times that it is given. Some store whole seconds, or few of them, and
//! say nothing.

use std::{
    os::fd::AsFd,
    sync::atomic::{AtomicU64, Ordering},
};

use livmig_proto::{
    control::{Fault, FaultCode, Side},
    entry::Time,
    name::{Name, RelPath},
};
use rustix::io::Errno;

use crate::{advice, fault, fs::stat::Stat};

/// The device, and one, of the volume that was found to hold nanoseconds: a process writes to one, and
/// what is known of it spares a look at every entry. Of any other it is found out again.
static FINE: AtomicU64 = AtomicU64::new(0);

/// Seconds that every file system holds.
const COMMON: std::ops::RangeInclusive<i64> = 0..=0x7fff_ffff;

/// Fails when what `fd` holds, which was given the modification time `asked` and looked like `before`
/// then, has another.
pub(crate) fn check(
    fd: impl AsFd,
    path: &RelPath,
    asked: Time,
    before: &Stat,
) -> Result<(), Fault> {
    check_with(|| Stat::of_fd(fd), path, asked, before)
}

/// As [`check`], of the entry of this name in this directory.
pub(crate) fn check_entry(
    (dir, name): (impl AsFd, &Name),
    path: &RelPath,
    asked: Time,
    before: &Stat,
) -> Result<(), Fault> {
    check_with(|| Stat::of_entry(dir, name), path, asked, before)
}

fn check_with(
    look: impl FnOnce() -> Result<Stat, Errno>,
    path: &RelPath,
    asked: Time,
    before: &Stat,
) -> Result<(), Fault> {
    let device = number(before.identity.device);
    let fine = FINE.load(Ordering::Relaxed) == device;
    if !is_doubtful(asked, fine) {
        return Ok(());
    }
    let stored = match look() {
        Ok(stat) => stat.identity.mtime,
        Err(errno) => {
            let what = "look at the modification time";
            return Err(fault::at(Side::Destination, path, what, errno));
        }
    };
    if stored != asked {
        return Err(unlike(path, asked, stored));
    }
    if shows_nanoseconds(asked) {
        FINE.store(device, Ordering::Relaxed);
    }
    Ok(())
}

/// Whether a volume, which holds nanoseconds if it is `fine`, may store something else.
fn is_doubtful(asked: Time, fine: bool) -> bool {
    !COMMON.contains(&asked.seconds) || asked.nanoseconds != 0 && !fine
}

/// Whether only a volume that holds nanoseconds stores this; others keep tenths of microseconds.
fn shows_nanoseconds(stored: Time) -> bool {
    !stored.nanoseconds.is_multiple_of(100)
}

fn number(device: (u32, u32)) -> u64 {
    ((u64::from(device.0) << 32) | u64::from(device.1)).wrapping_add(1)
}

fn unlike(path: &RelPath, asked: Time, stored: Time) -> Fault {
    let shown = |time: Time| format!("@{}.{:09}", time.seconds, time.nanoseconds);
    let message = format!(
        "destination: the file system cannot hold the modification time {}, it stored {} (seconds \
         since 1970)",
        shown(asked),
        shown(stored)
    );
    fault::named(Side::Destination, FaultCode::Unsupported, path, message).advised(advice::TIME)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(seconds: i64, nanoseconds: u32) -> Time {
        Time {
            seconds,
            nanoseconds,
        }
    }

    #[test]
    fn ordinary_times_are_looked_at_until_one_held() {
        assert!(!is_doubtful(time(5, 0), false));
        assert!(is_doubtful(time(5, 1), false));
        assert!(!is_doubtful(time(5, 1), true));
        assert!(!shows_nanoseconds(time(5, 1200)) && shows_nanoseconds(time(5, 1201)));
        for extreme in [-1, 0x8000_0000, i64::MAX, i64::MIN] {
            assert!(is_doubtful(time(extreme, 0), true));
        }
    }

    #[test]
    fn what_was_asked_for_and_what_was_stored_are_told() {
        let fault = unlike(&RelPath::ROOT, time(-1, 5), time(0, 0));
        let text = fault.to_string();
        assert!(
            text.contains("time @-1.000000005, it stored @0.000000000"),
            "{text}"
        );
        assert!(fault.advice.is_some());
    }
}
