//! One pass over all volumes as one cost.

use livmig_proto::{
    control::{PassKind, PassSeconds},
    ids::PassNumber,
};
use serde::{Deserialize, Serialize};

use crate::{result::VolumePass, time::Timestamp};

/// What one pass over all volumes of a workload did and cost.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PassCost {
    /// Its number.
    pub number: PassNumber,
    /// Live or final.
    pub kind: PassKind,
    /// Whether every volume's pass was complete.
    pub complete: bool,
    /// Whether some volume's copy is still to be read back, which the next pass waits for.
    #[serde(default)]
    pub read_back_left: bool,
    /// Connections between movers that were lost, after each of which the pass went on.
    #[serde(default)]
    pub connections_lost: u32,
    /// When its intent was recorded.
    pub began: Timestamp,
    /// When its outcome was recorded.
    pub ended: Timestamp,
    /// Entries of all sources.
    pub entries: u64,
    /// Entries created, changed or given other metadata.
    pub changed: u64,
    /// Entries removed.
    pub removed: u64,
    /// Bytes of content of all sources.
    pub bytes_total: u64,
    /// Bytes read at the sources.
    pub bytes_scanned: u64,
    /// Bytes sent, metadata included.
    pub bytes_sent: u64,
    /// Bytes that the next pass must read again.
    pub bytes_hot: u64,
    /// The file that cost most to read, and its bytes.
    pub largest_read: Option<(String, u64)>,
    /// Term by term, the slowest volume of each: volumes are passed in parallel.
    pub seconds: PassSeconds,
}

/// The cost of one pass over all `reports`; none when there is no report.
pub fn combine(reports: &[VolumePass], began: Timestamp, ended: Timestamp) -> Option<PassCost> {
    let first = &reports.first()?.report;
    let mut cost = PassCost {
        number: first.pass,
        kind: first.kind,
        complete: true,
        read_back_left: false,
        connections_lost: 0,
        began,
        ended,
        entries: 0,
        changed: 0,
        removed: 0,
        bytes_total: 0,
        bytes_scanned: 0,
        bytes_sent: 0,
        bytes_hot: 0,
        largest_read: None,
        seconds: PassSeconds::default(),
    };
    for VolumePass { report, .. } in reports {
        cost.complete &= report.complete;
        cost.read_back_left |= report.read_back_left;
        cost.connections_lost = cost
            .connections_lost
            .saturating_add(report.connections_lost);
        cost.entries = cost.entries.saturating_add(report.entries);
        cost.changed = cost.changed.saturating_add(report.changed);
        cost.removed = cost.removed.saturating_add(report.removed);
        cost.bytes_total = cost.bytes_total.saturating_add(report.bytes_total);
        cost.bytes_scanned = cost.bytes_scanned.saturating_add(report.bytes_scanned);
        cost.bytes_sent = cost.bytes_sent.saturating_add(report.bytes_sent);
        cost.bytes_hot = cost.bytes_hot.saturating_add(report.bytes_hot);
        let largest = report.largest_read.as_ref();
        if largest.map(|read| read.1) > cost.largest_read.as_ref().map(|read| read.1) {
            cost.largest_read = largest.cloned();
        }
        cost.seconds = slowest(&cost.seconds, &report.seconds);
    }
    Some(cost)
}

fn slowest(left: &PassSeconds, right: &PassSeconds) -> PassSeconds {
    PassSeconds {
        total: left.total.max(right.total),
        source_flush: left.source_flush.max(right.source_flush),
        transfer: left.transfer.max(right.transfer),
        scan: left.scan.max(right.scan),
        read: left.read.max(right.read),
        send: left.send.max(right.send),
        finish: left.finish.max(right.finish),
        destination_flush: left.destination_flush.max(right.destination_flush),
        verify: left.verify.max(right.verify),
        read_back_before: left.read_back_before.max(right.read_back_before),
    }
}
