//! How much load a live pass may put on the source and on the network.

use std::{fmt, num::NonZeroU64, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::size;

/// Limits of live passes. A final pass has none: there, the workload waits for it.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Limits {
    /// Bytes that leave the source; unlimited without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Bandwidth>,
    /// The priority of the reads.
    pub io_priority: IoPriority,
}

/// Bytes a second, at least [`Bandwidth::MIN`].
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Bandwidth(NonZeroU64);

/// A number that is no bandwidth.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a bandwidth of {0} bytes a second is too low; the lowest is 64Ki")]
pub struct TooLow(u64);

impl Bandwidth {
    /// The lowest. With less, a pass would hardly come to an end and its waits would be long.
    pub const MIN: u64 = 64 << 10;

    /// Bytes a second.
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

impl TryFrom<u64> for Bandwidth {
    type Error = TooLow;

    fn try_from(rate: u64) -> Result<Self, TooLow> {
        NonZeroU64::new(rate)
            .filter(|rate| rate.get() >= Self::MIN)
            .map(Self)
            .ok_or(TooLow(rate))
    }
}

impl From<Bandwidth> for u64 {
    fn from(rate: Bandwidth) -> Self {
        rate.get()
    }
}

impl FromStr for Bandwidth {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rate = size::parse(text)?;
        Self::try_from(rate).map_err(|error| error.to_string())
    }
}

/// The priority of a thread's reads (`ioprio_set(2)`). Some I/O schedulers heed it: bfq, and
/// mq-deadline as far as classes go. Others do not.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum IoPriority {
    /// As any other process.
    None,
    /// The lowest of the class that everything is in: a smaller share while others read.
    #[default]
    BestEffort,
    /// Only when nobody else wants the device; under a busy workload a pass may never end.
    Idle,
}

impl fmt::Display for IoPriority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::BestEffort => "best-effort",
            Self::Idle => "idle",
        })
    }
}

impl FromStr for IoPriority {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::None, Self::BestEffort, Self::Idle]
            .into_iter()
            .find(|priority| priority.to_string() == text)
            .ok_or_else(|| "expected idle, best-effort or none".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_said_means_no_limit() {
        let load: Limits = serde_json::from_str("{}").unwrap();
        assert_eq!(load, Limits::default());
        assert_eq!(
            serde_json::to_string(&load).unwrap(),
            r#"{"ioPriority":"best-effort"}"#
        );
    }

    #[test]
    fn a_bandwidth_that_would_stall_a_pass_is_refused() {
        for json in ["0", "65535", "-1", "1.5", "\"1M\""] {
            let json = format!(r#"{{"bandwidth":{json}}}"#);
            assert!(serde_json::from_str::<Limits>(&json).is_err(), "{json}");
        }
        for rate in [Bandwidth::MIN, u64::MAX] {
            let json = format!(r#"{{"bandwidth":{rate}}}"#);
            let load: Limits = serde_json::from_str(&json).unwrap();
            assert_eq!(load.bandwidth.map(Bandwidth::get), Some(rate));
        }
    }

    #[test]
    fn people_write_units() {
        assert_eq!("50M".parse::<Bandwidth>().unwrap().get(), 50_000_000);
        assert_eq!("1Mi".parse::<Bandwidth>().unwrap().get(), 1 << 20);
        assert!("10".parse::<Bandwidth>().unwrap_err().contains("64Ki"));
        assert!("fast".parse::<Bandwidth>().is_err());
        assert_eq!("idle".parse(), Ok(IoPriority::Idle));
        assert!("realtime".parse::<IoPriority>().is_err());
    }
}
