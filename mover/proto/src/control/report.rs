//! How far a pass is, what it did and what it cost.

use serde::{Deserialize, Serialize};

use super::{
    fault::Fault,
    left::LeftOut,
    pass::{PassKind, Transport, VerifyLevel},
};
use crate::ids::PassNumber;

/// What a pass did and what it cost.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PassReport {
    /// Its number.
    pub pass: PassNumber,
    /// Live or final.
    pub kind: PassKind,
    /// Every entry was visited, every difference applied, durable and verified (but for what
    /// `read_back_left` says); nothing in `faults`.
    pub complete: bool,
    /// Entries of the source, directories included.
    pub entries: u64,
    /// Directories among them.
    pub directories: u64,
    /// Bytes of content of the source's files.
    pub bytes_total: u64,
    /// Bytes of content read at the source.
    pub bytes_scanned: u64,
    /// Transport payload sent to the destination, metadata included.
    pub bytes_sent: u64,
    /// Transport payload received from the destination.
    pub bytes_received: u64,
    /// What carried it; none when there was no connection.
    #[serde(default)]
    pub transport: Option<Transport>,
    /// Connections that were lost, after each of which the pass went on over another.
    #[serde(default)]
    pub connections_lost: u32,
    /// Entries created, changed or given other metadata at the destination.
    pub changed: u64,
    /// Entries removed at the destination.
    pub removed: u64,
    /// Bytes of content in files that the next pass must read again whatever their timestamps
    /// say.
    pub bytes_hot: u64,
    /// The file that cost most to read in this pass, as shown to people, and its bytes.
    pub largest_read: Option<(String, u64)>,
    /// Seconds, term by term.
    pub seconds: PassSeconds,
    /// How the destination proved what it wrote.
    pub verify: VerifyLevel,
    /// Whether read-back came from the device; false when the kernel could only serve its cache.
    pub verified_on_device: bool,
    /// Whether what was written is durable but not read back yet: the next pass waits for that.
    #[serde(default)]
    pub read_back_left: bool,
    /// Digest of what the source holds, hexadecimal; empty in a pass that proves nothing.
    pub digest_source: String,
    /// Digest of what the destination holds, hexadecimal; empty in a pass that proves nothing.
    pub digest_destination: String,
    /// What went wrong, at most [`LISTED_MAX`](crate::limits::LISTED_MAX) of it.
    pub faults: Vec<Fault>,
    /// How much went wrong in all.
    pub faults_total: u64,
    /// What exists at the source and is not carried as it is, by reason, each reason once.
    #[serde(default)]
    pub left_out: Vec<LeftOut>,
}

/// Where the seconds of a pass went. Terms may overlap; `total` is wall time.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PassSeconds {
    /// The whole pass.
    pub total: f64,
    /// `syncfs` of the source before the scan.
    pub source_flush: f64,
    /// Listing, reading, sending, applying.
    pub transfer: f64,
    /// Of `transfer`: busy with directories and attributes, averaged over the workers.
    pub scan: f64,
    /// Of `transfer`: busy reading and hashing content, averaged over the workers.
    pub read: f64,
    /// Of `transfer`: waiting for the destination or the network, averaged over the workers.
    pub send: f64,
    /// Hard links and directory metadata at the end.
    pub finish: f64,
    /// `syncfs` of the destination.
    pub destination_flush: f64,
    /// Read-back and digests.
    pub verify: f64,
    /// Read-back of what an earlier pass had left, as far as it was not done by then.
    #[serde(default)]
    pub read_back_before: f64,
}

/// The digest of everything one end holds.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ManifestReport {
    /// How hard it looked.
    pub level: VerifyLevel,
    /// Hexadecimal.
    pub digest: String,
    /// Entries, directories included.
    pub entries: u64,
    /// Bytes of content.
    pub bytes: u64,
}

/// How far a request is.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// What is going on now.
    pub stage: Stage,
    /// Entries visited so far.
    pub entries: u64,
    /// Entries expected, from the previous pass; absent in the first.
    pub entries_expected: Option<u64>,
    /// Bytes of content read so far.
    pub bytes_scanned: u64,
    /// Bytes of content that the visited entries hold, read or not.
    pub bytes_total: u64,
    /// Bytes sent so far.
    pub bytes_sent: u64,
    /// Seconds since the pass began.
    pub seconds: f64,
}

/// The part of a pass that is going on.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// The source's dirty pages are written back.
    #[default]
    Flushing,
    /// Directories are listed, files read, differences sent.
    Transferring,
    /// The destination makes everything durable.
    Settling,
    /// The destination reads back what it wrote.
    Verifying,
}
