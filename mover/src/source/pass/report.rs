//! The report of a pass.

use std::{sync::atomic::AtomicU64, time::Duration};

use livmig_proto::{
    control::{Fault, FaultCode, PassKind, PassReport, PassRequest, PassSeconds, Side},
    limits::{LISTED_BYTES_MAX, LISTED_MAX},
};

use crate::{fault, source::shared::Counts};

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
        transport: None,
        connections_lost: 0,
        changed: 0,
        removed: 0,
        bytes_hot: 0,
        largest_read: None,
        seconds: PassSeconds::default(),
        verify: request.verify,
        verified_on_device: false,
        read_back_left: false,
        digest_source: String::new(),
        digest_destination: String::new(),
        faults: Vec::new(),
        faults_total: 0,
        left_out: Vec::new(),
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
    report.left_out = counts.left_out();
}

/// Adds a fault; its text only while there is room.
pub(super) fn add_fault(report: &mut PassReport, fault: Fault) {
    report.faults_total += 1;
    let bytes = |fault: &Fault| fault.message.len() + fault.path.as_ref().map_or(0, String::len);
    let held: usize = report.faults.iter().map(bytes).sum();
    if report.faults.len() < LISTED_MAX && held + bytes(&fault) <= 4 * LISTED_BYTES_MAX {
        report.faults.push(fault);
    }
}

/// A final pass that could not sum up what it left is not complete, whatever the reason; a live
/// one may be, since the next looks again.
pub(super) fn require_proof(report: &mut PassReport) {
    let proven =
        !report.digest_source.is_empty() && report.digest_source == report.digest_destination;
    if report.complete && report.kind == PassKind::Final && !proven {
        report.complete = false;
        add_fault(
            report,
            fault::plain(
                Side::Source,
                FaultCode::StillWritten,
                "source: the final pass ended without a proof that both ends are equal; something \
                 was gone before it could be read",
            ),
        );
    }
}

pub(super) fn to_u64(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use livmig_proto::{control::VerifyLevel, ids::PassNumber};

    use super::*;

    #[test]
    fn a_final_pass_is_complete_only_with_equal_digests() {
        let complete = |kind, source: &str, destination: &str| {
            let mut report = empty(&PassRequest {
                pass: PassNumber(3),
                kind,
                destination: ([127, 0, 0, 1], 1).into(),
                verify: VerifyLevel::Readback,
                adopt: false,
                allow_empty: false,
                may_leave_read_back: false,
            });
            report.complete = true;
            source.clone_into(&mut report.digest_source);
            destination.clone_into(&mut report.digest_destination);
            require_proof(&mut report);
            assert_eq!(report.complete, report.faults_total == 0);
            report.complete
        };
        assert!(complete(PassKind::Final, "aa", "aa"));
        assert!(complete(PassKind::Live, "", ""));
        for (source, destination) in [("", ""), ("aa", ""), ("", "aa"), ("aa", "bb")] {
            assert!(!complete(PassKind::Final, source, destination));
        }
    }
}
