//! What a pass is asked to do.

use std::{fmt, net::SocketAddr};

use serde::{Deserialize, Serialize};

use crate::ids::PassNumber;

/// A pass to run.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PassRequest {
    /// Its number.
    pub pass: PassNumber,
    /// Whether the workload runs.
    pub kind: PassKind,
    /// Where the destination mover listens for data.
    pub destination: SocketAddr,
    /// How the destination proves what it wrote.
    pub verify: VerifyLevel,
    /// Whether a destination that holds foreign entries is taken over.
    #[serde(default)]
    pub adopt: bool,
    /// Whether an empty source may empty a destination that holds files.
    #[serde(default)]
    pub allow_empty: bool,
    /// Whether a first copy may be read back later, beside the passes that follow: the coordinator
    /// does not rely on a pass that did so. Only a live one may.
    #[serde(default)]
    pub may_leave_read_back: bool,
}

/// Whether the workload runs during a pass.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum PassKind {
    /// The workload writes.
    Live,
    /// The workload has stopped; a writer that is found fails the pass.
    Final,
}

impl fmt::Display for PassKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Live => "live",
            Self::Final => "final",
        })
    }
}

/// How the destination proves what it holds.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum VerifyLevel {
    /// What was sent was written. Never called a proof.
    Wire,
    /// The destination's bytes are read back from the device.
    #[default]
    Readback,
    /// Both ends read everything again after the final pass.
    Full,
}

impl fmt::Display for VerifyLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wire => "wire",
            Self::Readback => "readback",
            Self::Full => "full",
        })
    }
}

/// What carries the data between the movers.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Transport {
    /// QUIC, over UDP.
    Quic,
    /// TLS 1.3 over TCP.
    Tcp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quic => "quic",
            Self::Tcp => "tcp",
        })
    }
}
