//! Values of flags: durations and choices. They are parsed here and used elsewhere.

use std::time::Duration;

use clap::ValueEnum;
use livmig_engine::spec::OnOverrun;
use livmig_proto::control::VerifyLevel;

/// What a command prints at its end.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    #[default]
    Text,
    /// One document for programs.
    Json,
}

/// What a listing prints.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(crate) enum ListFormat {
    /// A table.
    #[default]
    Text,
    /// A wider table.
    Wide,
    /// One document for programs.
    Json,
}

/// What to do when the budget cannot be met.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Overrun {
    /// Give up; the workload is untouched.
    Abort,
    /// Keep passing until it can be met.
    Wait,
    /// Accept the predicted downtime.
    Proceed,
}

impl From<Overrun> for OnOverrun {
    fn from(overrun: Overrun) -> Self {
        match overrun {
            Overrun::Abort => Self::Abort,
            Overrun::Wait => Self::Wait,
            Overrun::Proceed => Self::Proceed,
        }
    }
}

/// How the destination is proven.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(crate) enum Verify {
    /// Read back what was written.
    #[default]
    Readback,
    /// Read both ends again after the stop.
    Full,
    /// Trust that what was sent was written; no proof.
    Wire,
}

impl From<Verify> for VerifyLevel {
    fn from(verify: Verify) -> Self {
        match verify {
            Verify::Readback => Self::Readback,
            Verify::Full => Self::Full,
            Verify::Wire => Self::Wire,
        }
    }
}

/// A duration: `90`, `90s`, `1.5m`, `2h`, `250ms`; a bare number is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let split = text
        .find(|character: char| character.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("unknown unit {unit:?}; use ms, s, m or h")),
    };
    let number: f64 = number
        .parse()
        .map_err(|_| "expected a number and a unit, as in 60s or 1.5m".to_owned())?;
    Duration::try_from_secs_f64(number * factor)
        .ok()
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "expected a positive duration".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_parsed() {
        for (text, millis) in [
            ("60s", 60_000),
            ("90", 90_000),
            ("1.5m", 90_000),
            ("250ms", 250),
            ("2h", 7_200_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "0", "-1s", "s", "1d", "1e400", "nan"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
