//! What went wrong, as it crosses a connection.

use serde::{Deserialize, Serialize};

use super::side::Side;

/// Something that went wrong, as it crosses a connection: a number, a text, and where.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, thiserror::Error)]
#[error("{message}{}", .path.as_ref().map(|path| format!(": {path}")).unwrap_or_default())]
#[serde(rename_all = "camelCase")]
pub struct Fault {
    /// What kind.
    pub code: FaultCode,
    /// At which end.
    pub side: Side,
    /// What happened, without the path.
    pub message: String,
    /// The entry, relative to the root and escaped for people.
    #[serde(default)]
    pub path: Option<String>,
    /// What helps against it, where more is known than its kind tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Fault {
    /// The same, with what helps against it.
    #[must_use]
    pub fn advised(self, advice: impl Into<String>) -> Self {
        Self {
            advice: Some(advice.into()),
            ..self
        }
    }
}

/// The kinds of fault, closed so that decisions can be taken on them.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum FaultCode {
    /// The epoch is lower than one already seen: another coordinator has taken over.
    StaleEpoch,
    /// The other end speaks another version, or something else.
    Protocol,
    /// The connection to the other mover was lost; a new pass goes on from what was applied.
    Disconnected,
    /// Nothing has come back from the other mover's data address: it is gone, or something on the
    /// way drops UDP or TCP.
    Unreachable,
    /// The mover may not read or write an entry.
    Permission,
    /// The device or file system failed a read or a write.
    Io,
    /// The destination is full: bytes, inodes or quota.
    NoSpace,
    /// The destination cannot hold something: an attribute, a size, a name, an owner, a time.
    Unsupported,
    /// The destination holds entries and taking it over was not asked for.
    NotEmpty,
    /// The source is empty although it held files, or the destination does.
    SourceEmpty,
    /// In a final pass something still writes, or has the file open for writing.
    StillWritten,
    /// The destination's bytes differ from what was sent.
    Mismatch,
    /// The pass was stopped on request.
    Stopped,
    /// This mover is already busy with another request of this kind.
    Busy,
    /// The request does not fit this end.
    BadRequest,
    /// A defect of livmig itself.
    Internal,
}

impl FaultCode {
    /// Whether the same pass, tried again, may succeed without anybody doing anything.
    pub fn is_transient(self) -> bool {
        matches!(
            self,
            Self::Disconnected | Self::Unreachable | Self::Mismatch | Self::Stopped
        )
    }
}
