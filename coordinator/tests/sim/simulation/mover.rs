//! The movers of the simulation: a pass runs on whether or not anybody waits for it.

use std::time::Duration;

use livmig_engine::time::Timestamp;
use livmig_proto::{
    control::{
        Fault, FaultCode, LeftOut, PassKind, PassReport, PassSeconds, Side, VerifyLevel, Welcome,
    },
    ids::{Epoch, MigrationUid, PassNumber},
};

use super::{
    pass::Pass,
    world::{End, World},
};

impl World {
    /// Begins a pass, or joins it when it runs already; ends whatever else runs.
    pub(super) fn begin_pass(&mut self, number: PassNumber, kind: PassKind, now: Timestamp) {
        if let Some(pass) = &self.pass {
            if pass.number == number {
                return;
            }
            let running = pass.number;
            self.stop_pass(running, now);
        }
        let listing: Vec<u64> = self.source.iter().copied().collect();
        let new = listing
            .iter()
            .filter(|id| !self.destination.contains(id))
            .count();
        let cost = self.nature.copy_time * u32::try_from(new).unwrap_or(u32::MAX)
            + Duration::from_millis(20);
        self.pass = Some(Pass {
            number,
            kind,
            listing,
            proof: self.proof.map(|proof| proof.serial),
            began: now,
            ends: now.after(cost),
            stopped: false,
            report: None,
        });
    }

    /// Ends that pass at the entry it is at.
    pub(super) fn stop_pass(&mut self, number: PassNumber, now: Timestamp) {
        if let Some(pass) = &mut self.pass
            && pass.number == number
            && pass.report.is_none()
        {
            pass.stopped = true;
            pass.ends = now;
            self.end_pass();
        }
    }

    /// Applies what the pass copied and stores its report.
    pub(super) fn end_pass(&mut self) {
        let Some(mut pass) = self.pass.take() else {
            return;
        };
        if pass.report.is_none() {
            let before = self.destination.clone();
            // A stopped pass has visited a part of what it listed, and removes nothing.
            let visited = if pass.stopped {
                pass.listing.len() / 2
            } else {
                pass.listing.len()
            };
            let copied = pass.listing.iter().take(visited);
            // Deleted since it was listed: nothing to read.
            let source = &self.source;
            self.destination
                .extend(copied.filter(|id| source.contains(id)));
            if !pass.stopped {
                let listed = &pass.listing;
                self.destination
                    .retain(|id| listed.binary_search(id).is_ok());
            }
            let sent = self.destination.difference(&before).count();
            // A first copy is read back beside the next pass.
            let left = pass.kind == PassKind::Live && before.is_empty() && sent > 0;
            if pass.kind == PassKind::Final && !pass.stopped {
                self.scanned = pass.proof;
            }
            pass.report = Some(self.report(&pass, sent, left));
        }
        self.pass = Some(pass);
    }

    fn report(&self, pass: &Pass, sent: usize, left: bool) -> PassReport {
        let seconds = pass.ends.since(pass.began).as_secs_f64();
        let still_written = pass.kind == PassKind::Final && self.workload.is_some();
        let fault = |code, message: &str| Fault {
            code,
            side: Side::Source,
            message: message.to_owned(),
            path: None,
            advice: None,
        };
        // Something vanished while a live pass ran: it is complete, and nothing is shown of the
        // whole.
        let vanished =
            pass.kind == PassKind::Live && pass.listing.iter().any(|id| !self.source.contains(id));
        let digest = |end| {
            if vanished || pass.stopped || left {
                String::new()
            } else {
                self.digest(end)
            }
        };
        let mut faults = Vec::new();
        if pass.stopped {
            faults.push(fault(FaultCode::Stopped, "the pass was stopped"));
        }
        if still_written {
            faults.push(fault(FaultCode::StillWritten, "a file is being written"));
        }
        let bytes = |count: usize| 1000 * u64::try_from(count).unwrap_or(u64::MAX / 1000);
        PassReport {
            pass: pass.number,
            kind: pass.kind,
            complete: faults.is_empty(),
            entries: u64::try_from(pass.listing.len()).unwrap_or(u64::MAX),
            directories: 1,
            bytes_total: bytes(pass.listing.len()),
            bytes_scanned: bytes(sent),
            bytes_sent: bytes(sent),
            bytes_received: 100,
            transport: None,
            connections_lost: 0,
            changed: u64::try_from(sent).unwrap_or(u64::MAX),
            removed: 0,
            bytes_hot: 0,
            largest_read: None,
            seconds: PassSeconds {
                total: seconds,
                transfer: seconds,
                scan: 0.02,
                read: (seconds - 0.02).max(0.0) / 2.0,
                send: (seconds - 0.02).max(0.0) / 2.0,
                ..PassSeconds::default()
            },
            verify: VerifyLevel::Readback,
            verified_on_device: true,
            read_back_left: left,
            digest_source: digest(End::Source),
            digest_destination: digest(End::Destination),
            faults_total: u64::try_from(faults.len()).unwrap_or(u64::MAX),
            faults,
            left_out: self
                .left_out
                .iter()
                .filter(|(_, from)| pass.number >= *from)
                .map(|(reason, _)| {
                    let mut left = LeftOut::new(*reason);
                    left.add("a".to_owned(), String::new());
                    left
                })
                .collect(),
        }
    }

    /// A text that differs when the content does.
    pub(super) fn digest(&self, end: End) -> String {
        let text = format!("{:?}", self.volume(end));
        blake3::hash(text.as_bytes()).to_hex().to_string()
    }

    /// What a mover of this world says of itself.
    pub(crate) fn welcome(&self, side: Side, epoch: Epoch) -> Welcome {
        Welcome {
            version: 0,
            program: "sim".to_owned(),
            migration: MigrationUid([7; 16]),
            side,
            pid: u32::try_from(epoch.0).unwrap_or(u32::MAX),
            boot_id: "sim".to_owned(),
            data: None,
            root: livmig_proto::control::RootFacts {
                filesystem: "sim".to_owned(),
                proves_unchanged: true,
                bytes_total: 1 << 30,
                bytes_available: 1 << 29,
                inodes_total: 0,
                inodes_available: 0,
                empty: false,
            },
            confinement: "none".to_owned(),
            running: self
                .pass
                .as_ref()
                .filter(|pass| pass.report.is_none())
                .map(|pass| pass.number),
            reported: None,
        }
    }
}
