//! Control: what a coordinator and a mover say to each other.
//!
//! ```text
//! coordinator                                   mover (source or destination)
//!     | -- Request{id, epoch, Hello} ------------> |
//!     | <-------------------- Response{id, Welcome} |
//!     | -- Request{id, epoch, Pass(..)} ----------> |   source only
//!     | <------------------- Response{id, Progress} |   zero or more, about four a second
//!     | <--------------------- Response{id, Report} |   the last word on `id`
//!     | -- Request{id, epoch, Acknowledge{pass}} -> |
//! ```
//!
//! A message is a 4-byte big-endian length, at most [`limits::CONTROL_MESSAGE_MAX`], then that
//! many bytes of JSON. Several requests may be under way on one connection; `id` pairs the
//! answers. The mover's side of TLS is the server's on both ends, on TCP, with ALPN [`ALPN`].
//!
//! Requests are idempotent by (epoch, pass): a `Pass` that is under way is joined, one that has
//! ended answers with its stored report. A request with an epoch lower than the highest seen is
//! refused with [`FaultCode::StaleEpoch`].
//!
//! The major version is in the ALPN; [`VERSION`] is the minor one. Unknown fields are ignored
//! and new fields have defaults, so minors differ freely.

use std::{collections::BTreeMap, fmt, net::SocketAddr};

use serde::{Deserialize, Serialize};

use crate::{
    ids::{Epoch, MigrationUid, PassNumber},
    limits,
};

/// The ALPN of the control protocol; its number is the major version.
pub const ALPN: &[u8] = b"livmig-control/1";

/// The minor version of the control protocol.
pub const VERSION: u32 = 0;

/// One request to a mover.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// Chosen by the coordinator, unique on the connection.
    pub id: u64,
    /// The epoch of the coordinator that asks.
    pub epoch: Epoch,
    /// What is asked.
    pub body: RequestBody,
}

/// What a request asks for.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum RequestBody {
    /// Who are you? Answered by `Welcome`.
    Hello,
    /// Source: run a pass. Answered by `Progress`…, then `Report` or `Refused`.
    Pass(PassRequest),
    /// Source: end the pass under way at the next entry boundary; what was not visited stays
    /// unproven and `PassReport::complete` is false. Answered by `Accepted`, also when no pass
    /// is under way.
    StopPass {
        /// The pass to end.
        pass: PassNumber,
    },
    /// Both: the digest of everything this end holds, as of its last complete pass. Level `full`
    /// reads all content again. Answered by `Progress`…, then `Manifest`.
    Manifest {
        /// How hard to look.
        level: VerifyLevel,
    },
    /// Source: the report of this pass is stored by the coordinator and may be forgotten here.
    /// Answered by `Accepted`.
    Acknowledge {
        /// The pass whose report was stored.
        pass: PassNumber,
    },
    /// Close every file and end with exit code 0. Answered by `Accepted` once all is closed.
    Shutdown,
}

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

/// One answer of a mover.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Response {
    /// The request that is answered.
    pub id: u64,
    /// The answer.
    pub body: ResponseBody,
}

/// What a mover answers.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum ResponseBody {
    /// To `Hello`.
    Welcome(Box<Welcome>),
    /// Not the last answer: how far it is.
    Progress(Progress),
    /// To `Pass`: it ran. A pass with faults is a report too, with `complete: false`.
    Report(Box<PassReport>),
    /// To `Manifest`.
    Manifest(ManifestReport),
    /// Done.
    Accepted,
    /// Not done, and why.
    Refused(Fault),
}

/// Which end a mover is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Side {
    /// The end that is read.
    Source,
    /// The end that is written.
    Destination,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Destination => "destination",
        })
    }
}

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

/// What a pass did and what it cost.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PassReport {
    /// Its number.
    pub pass: PassNumber,
    /// Live or final.
    pub kind: PassKind,
    /// Every entry was visited, every difference applied, durable and verified; nothing in
    /// `faults`.
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
    /// Digest of what the source holds, hexadecimal; empty in an incomplete pass.
    pub digest_source: String,
    /// Digest of what the destination holds, hexadecimal; empty in an incomplete pass.
    pub digest_destination: String,
    /// What went wrong, at most [`limits::LISTED_MAX`] of it.
    pub faults: Vec<Fault>,
    /// How much went wrong in all.
    pub faults_total: u64,
    /// What exists at the source and is not carried, by reason; counts.
    pub not_carried: BTreeMap<String, u64>,
    /// Some of it by name, as shown to people.
    pub not_carried_listed: Vec<String>,
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
        matches!(self, Self::Disconnected | Self::Mismatch | Self::Stopped)
    }
}

/// Why bytes are not a control message.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Longer than allowed.
    #[error("control message of {0} bytes exceeds {max}", max = limits::CONTROL_MESSAGE_MAX)]
    TooLong(usize),
    /// Not the JSON that was expected.
    #[error("control message is not valid")]
    Json(#[from] serde_json::Error),
}

/// The frame of `message`: its length, then its JSON.
///
/// # Errors
/// When the message exceeds [`limits::CONTROL_MESSAGE_MAX`].
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, DecodeError> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message)?;
    let length = frame.len() - 4;
    let prefix = length_prefix(length)?;
    frame.splice(..4, prefix);
    Ok(frame)
}

/// The 4-byte prefix of a message of `length` bytes.
fn length_prefix(length: usize) -> Result<[u8; 4], DecodeError> {
    match u32::try_from(length) {
        Ok(short) if length <= limits::CONTROL_MESSAGE_MAX => Ok(short.to_be_bytes()),
        _ => Err(DecodeError::TooLong(length)),
    }
}

/// How many bytes of JSON follow this prefix.
///
/// # Errors
/// When they exceed [`limits::CONTROL_MESSAGE_MAX`].
pub fn decode_length(prefix: [u8; 4]) -> Result<usize, DecodeError> {
    let length = usize::try_from(u32::from_be_bytes(prefix)).unwrap_or(usize::MAX);
    length_prefix(length).map(|_| length)
}

/// The message in `json`, the bytes after the prefix.
///
/// # Errors
/// When they are not this message's JSON.
pub fn decode<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, DecodeError> {
    Ok(serde_json::from_slice(json)?)
}

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
    fn a_message_survives_its_frame() {
        let request = Request {
            id: 7,
            epoch: Epoch(3),
            body: RequestBody::Pass(PassRequest {
                pass: PassNumber::FIRST,
                kind: PassKind::Live,
                destination: SocketAddr::from(([127, 0, 0, 1], 4711)),
                verify: VerifyLevel::Readback,
                adopt: false,
                allow_empty: false,
            }),
        };
        let frame = encode(&request).unwrap();
        let (prefix, json) = frame.split_at(4);
        assert_eq!(
            decode_length(prefix.try_into().unwrap()).unwrap(),
            json.len()
        );
        assert_eq!(decode::<Request>(json).unwrap(), request);
    }

    #[test]
    fn the_json_of_a_request_is_fixed() {
        let request = Request {
            id: 1,
            epoch: Epoch(2),
            body: RequestBody::StopPass {
                pass: PassNumber(4),
            },
        };
        assert_eq!(
            serde_json::to_string(&request).unwrap(),
            r#"{"id":1,"epoch":2,"body":{"type":"stopPass","pass":4}}"#
        );
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused() {
        assert!(decode_length(u32::MAX.to_be_bytes()).is_err());
        assert!(decode_length([0; 4]).is_ok());
    }

    #[test]
    fn debug_output_holds_no_key() {
        let session = Session {
            migration: MigrationUid([1; 16]),
            side: Side::Source,
            private_key: vec![0xaa; 8],
            coordinator: vec![0xbb; 8],
            peer: vec![0xcc; 8],
        };
        assert!(!format!("{session:?}").contains("aa"));
    }
}
