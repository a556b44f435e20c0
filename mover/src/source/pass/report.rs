//! The report of a pass.

use std::{collections::BTreeMap, sync::atomic::AtomicU64, time::Duration};

use livmig_proto::{
    control::{Fault, PassReport, PassRequest, PassSeconds},
    limits::LISTED_MAX,
};

use crate::source::shared::Counts;

/// The report of a pass that has done nothing.
pub(super) fn empty(request: &PassRequest) -> PassReport {
    PassReport {
        pass: request.pass,
        kind: request.kind,
        complete: false,
        entries: 0,
        directories: 0,
        bytes_total: 0,
        bytes_scanned: 0,
        bytes_sent: 0,
        bytes_received: 0,
        changed: 0,
        removed: 0,
        bytes_hot: 0,
        largest_read: None,
        seconds: PassSeconds::default(),
        verify: request.verify,
        verified_on_device: false,
        digest_source: String::new(),
        digest_destination: String::new(),
        faults: Vec::new(),
        faults_total: 0,
        not_carried: BTreeMap::new(),
        not_carried_listed: Vec::new(),
    }
}

/// Adds what was counted on `threads` threads.
pub(super) fn fill(report: &mut PassReport, counts: &Counts, threads: usize) {
    let workers = u32::try_from(threads).unwrap_or(1);
    let averaged = |nanos: &AtomicU64| {
        Duration::from_nanos(Counts::get(nanos)).as_secs_f64() / f64::from(workers)
    };
    report.seconds.read = averaged(&counts.read_nanos);
    report.seconds.send = averaged(&counts.send_nanos);
    // Visits contain the reading and the waiting.
    let visits = averaged(&counts.scan_nanos);
    report.seconds.scan = (visits - report.seconds.read).max(0.0);
    if !report.complete {
        report.entries = Counts::get(&counts.entries);
        report.directories = Counts::get(&counts.directories);
        report.bytes_total = Counts::get(&counts.bytes_total);
    }
    report.bytes_scanned = Counts::get(&counts.bytes_scanned);
    report.bytes_hot = Counts::get(&counts.bytes_hot);
    report.changed = Counts::get(&counts.changed);
    report.removed = Counts::get(&counts.removed);
    report.largest_read = counts.largest();
    let left = counts.not_carried();
    report.not_carried = left.by_reason;
    report.not_carried_listed = left.listed;
}

/// Adds a fault; its text only while there is room.
pub(super) fn add_fault(report: &mut PassReport, fault: Fault) {
    report.faults_total += 1;
    if report.faults.len() < LISTED_MAX {
        report.faults.push(fault);
    }
}

pub(super) fn to_u64(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}
