//! Who a mover is and what it stands on.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::side::Side;
use crate::ids::{MigrationUid, PassNumber};

/// Who a mover is and what it stands on.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Welcome {
    /// Minor version of the control protocol.
    pub version: u32,
    /// The program's version.
    pub program: String,
    /// The migration it serves.
    pub migration: MigrationUid,
    /// Which end it is.
    pub side: Side,
    /// Its process id.
    pub pid: u32,
    /// The kernel's boot id.
    pub boot_id: String,
    /// Where it listens for data, at a destination.
    pub data: Option<SocketAddr>,
    /// The volume.
    pub root: RootFacts,
    /// The kernel's confinement of this process.
    pub confinement: String,
    /// The pass under way.
    pub running: Option<PassNumber>,
    /// The last pass with a stored report.
    pub reported: Option<PassNumber>,
}

/// What is known about a volume from its root directory.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RootFacts {
    /// The file system's name, or its magic number in hexadecimal.
    pub filesystem: String,
    /// Whether unchanged timestamps prove unchanged content here; elsewhere every pass reads
    /// every file.
    pub proves_unchanged: bool,
    /// Size of the file system in bytes.
    pub bytes_total: u64,
    /// Bytes available to this process.
    pub bytes_available: u64,
    /// Inodes in all; 0 where the file system has no such limit.
    pub inodes_total: u64,
    /// Inodes available.
    pub inodes_available: u64,
    /// Whether the root directory holds nothing (an ext file system's own `lost+found` aside).
    pub empty: bool,
}
