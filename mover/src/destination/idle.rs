//! Whether a processor has nothing to do, so that what can wait is done only then.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    time::{Duration, Instant},
};

/// How far a look goes back: the kernel counts in hundredths of a second.
pub const LOOK: Duration = Duration::from_millis(100);

/// The part of one processor that must have been idle.
const SPARE: f64 = 0.25;

/// Ticks of /proc/stat in a second: Linux shows hundredths everywhere.
const TICKS: f64 = 100.0;

/// Looks at what the processors of this machine do.
#[derive(Debug)]
pub struct Idle {
    stat: Option<File>,
    /// When was looked, and the ticks of idleness by then.
    last: Option<(Instant, u64)>,
    spare: bool,
}

impl Idle {
    /// Nothing is known yet.
    pub fn new() -> Self {
        Self {
            stat: File::open("/proc/stat").ok(),
            last: None,
            spare: false,
        }
    }

    /// Whether a processor had time to spare of late. Always, where the kernel does not tell.
    pub fn is_spare(&mut self) -> bool {
        let now = Instant::now();
        let due = self
            .last
            .is_none_or(|(looked, _)| now.duration_since(looked) >= LOOK);
        if due {
            let Some(ticks) = self.stat.as_ref().and_then(read) else {
                return true;
            };
            if let Some((looked, before)) = self.last {
                self.spare = spare(ticks.saturating_sub(before), now.duration_since(looked));
            }
            self.last = Some((now, ticks));
        }
        self.spare
    }
}

impl Default for Idle {
    fn default() -> Self {
        Self::new()
    }
}

fn read(stat: &File) -> Option<u64> {
    let mut line = [0; 256];
    let length = stat.read_at(&mut line, 0).ok()?;
    idle_ticks(std::str::from_utf8(line.get(..length)?).ok()?)
}

/// The ticks that all processors together were idle; waiting for a device is not idle, since the
/// device is busy then.
fn idle_ticks(stat: &str) -> Option<u64> {
    let mut words = stat.lines().next()?.split_ascii_whitespace();
    (words.next()? == "cpu").then_some(())?;
    words.nth(3)?.parse().ok()
}

fn spare(ticks: u64, within: Duration) -> bool {
    let idle = f64::from(u32::try_from(ticks).unwrap_or(u32::MAX)) / TICKS;
    idle >= SPARE * within.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fourth_figure_of_the_first_line_counts() {
        let stat =
            "cpu  10132153 290696 3084719 46828483 16683 0 25195 0 175628 0\ncpu0 1 2 3 4 5\n";
        assert_eq!(idle_ticks(stat), Some(46_828_483));
        for damaged in ["", "cpu", "cpu 1 2 3", "cpu0 1 2 3 4", "cpu 1 2 3 x 5"] {
            assert_eq!(idle_ticks(damaged), None, "{damaged:?}");
        }
    }

    #[test]
    fn a_quarter_of_one_processor_is_spare() {
        let second = Duration::from_secs(1);
        assert!(!spare(24, second));
        assert!(spare(25, second));
        assert!(spare(u64::MAX, second));
        assert!(!spare(0, LOOK));
    }

    #[test]
    fn the_kernel_tells() {
        assert!(Idle::new().stat.as_ref().and_then(read).is_some());
    }
}
