//! The flags that limit what a migration's live passes take.

use std::{fmt, str::FromStr};

use livmig_proto::control::{Bandwidth, IoPriority, Limits};

use crate::cli::text::amounts::bytes;

/// How much live passes may take. The final pass has no limit: the workload waits for it.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct LimitArgs {
    /// Bytes a second that live passes send at most, as in 50M or 64Mi; changed by `set`. The final
    /// pass is not limited
    #[arg(long, value_name = "SIZE")]
    bandwidth: Option<Bandwidth>,
    /// How the reads of live passes yield to the workload: idle or best-effort, as far as the I/O
    /// scheduler heeds it and with no readahead; or none, as fast as the device can
    #[arg(long, value_name = "CLASS", default_value_t)]
    io_priority: IoPriority,
}

impl LimitArgs {
    /// What they say.
    pub(crate) fn limits(self) -> Limits {
        Limits {
            bandwidth: self.bandwidth,
            io_priority: self.io_priority,
        }
    }
}

/// A bandwidth, or that there is none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit(pub(crate) Option<Bandwidth>);

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self(None)),
            text => text.parse().map(|rate| Self(Some(rate))),
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("unlimited"),
            Some(rate) => write!(f, "{}/s", bytes(rate.get())),
        }
    }
}
