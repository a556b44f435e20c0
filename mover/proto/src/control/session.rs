//! What a mover is told at its start, and what it answers.

use std::{fmt, net::SocketAddr};

use serde::{Deserialize, Serialize};

use super::side::Side;
use crate::ids::MigrationUid;

/// What a mover is told at its start, in a file that only it can read: who it is and whom it
/// obeys. Keys are in hexadecimal.
#[derive(Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// The migration it serves.
    pub migration: MigrationUid,
    /// Which end it is.
    pub side: Side,
    /// Its own private key, PKCS#8.
    #[serde(with = "crate::hex::vec")]
    pub private_key: Vec<u8>,
    /// The coordinator's public key, `SubjectPublicKeyInfo`.
    #[serde(with = "crate::hex::vec")]
    pub coordinator: Vec<u8>,
    /// The other mover's public key, `SubjectPublicKeyInfo`.
    #[serde(with = "crate::hex::vec")]
    pub peer: Vec<u8>,
    /// Whether the root directory of each volume belongs to somebody else, who gives the movers no
    /// more than access to it. Its time cannot be set then, and is left out on both ends alike.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub foreign_root: bool,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the private key.
        f.debug_struct("Session")
            .field("migration", &self.migration)
            .field("side", &self.side)
            .finish_non_exhaustive()
    }
}

/// The one line of JSON that `livmig-mover source|destination` prints on stdout once it listens.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listening {
    /// Where it listens for control.
    pub control: SocketAddr,
    /// Where it listens for data, at a destination.
    pub data: Option<SocketAddr>,
    /// Its process id.
    pub pid: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_holds_no_key() {
        let session = Session {
            migration: MigrationUid([1; 16]),
            side: Side::Source,
            private_key: vec![0xaa; 8],
            coordinator: vec![0xbb; 8],
            peer: vec![0xcc; 8],
            foreign_root: false,
        };
        assert!(!format!("{session:?}").contains("aa"));
    }
}
