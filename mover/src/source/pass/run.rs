//! The steps of a pass.

use std::{
    sync::{Mutex, atomic::Ordering},
    time::Instant,
};

use livmig_proto::{
    attributes::Carry,
    control::{Fault, FaultCode, PassReport, PassRequest, PassSeconds, Side, Stage, Transport},
    frame::Op,
    identity::{PrivateKey, PublicKey},
    ids::{Epoch, MigrationUid},
    manifest::manifest_digest,
    name::RelPath,
    session::{Begin, Ready, Settled, VERSION},
};
use tokio::runtime::Handle;

use super::resume::Losses;
use crate::{
    catalog::store::Store,
    fault,
    fs::{attributes, volume::Volume},
    random::random,
    source::{
        links::LinkSummary,
        persistent::Head,
        queue::Baseline,
        recheck,
        shared::{Counts, Shared, lock},
        stat_trust::Flush,
        throttle::limiter::Limiter,
        walk::visit::Visitor,
    },
};

/// Whose source it is.
#[derive(Debug)]
pub struct PassIdentity {
    /// The migration.
    pub migration: MigrationUid,
    /// Our key.
    pub own: PrivateKey,
    /// The destination's key.
    pub peer: PublicKey,
}

/// A pass under way.
pub(super) struct Run<'a> {
    pub(super) volume: &'a Volume,
    pub(super) store: &'a Store,
    pub(super) head: &'a Mutex<Head>,
    pub(super) identity: &'a PassIdentity,
    pub(super) transport: &'a Mutex<Option<Transport>>,
    pub(super) request: &'a PassRequest,
    pub(super) counts: &'a Counts,
    pub(super) limiter: &'a Limiter,
    pub(super) begun: Instant,
    pub(super) seconds: PassSeconds,
    pub(super) threads: usize,
}

impl Run<'_> {
    pub(super) fn pass(
        &mut self,
        runtime: &Handle,
        epoch: Epoch,
        report: &mut PassReport,
    ) -> Result<(), Fault> {
        let (number, kind) = (self.request.pass, self.request.kind);
        let _pass = tracing::info_span!("pass", %number, %kind).entered();
        self.counts.enter(Stage::Flushing);
        let flush = Flush::begin();
        self.volume.sync().map_err(|errno| {
            fault::at(
                Side::Source,
                &RelPath::ROOT,
                "write dirty pages back",
                errno,
            )
        })?;
        self.seconds.source_flush = self.begun.elapsed().as_secs_f64();
        self.counts.enter(Stage::Transferring);

        let mut begin = self.begin(epoch);
        let (mut link, mut ready) = self.connect(runtime, &begin)?;
        let mut losses = Losses::default();
        loop {
            report.transport = Some(link.transport());
            let attempt = self.attempt(&link, &ready, begin.sees, flush, report);
            let (sent, received) = link.traffic();
            report.bytes_sent += sent;
            report.bytes_received += received;
            link.close();
            let attempt = attempt?;
            let lost = attempt.result.as_ref().err().cloned();
            let lost = lost
                .filter(|_| !self.counts.stop.is_asked())
                .filter(|fault| losses.add(fault, attempt.others(), attempt.progress));
            let Some(lost) = lost else {
                return attempt.conclude(report);
            };
            tracing::warn!("{lost}; connecting again");
            begin.resumes = true;
            (link, ready) = self.reconnect(runtime, &begin, &lost)?;
            report.connections_lost = losses.total;
            self.counts.begin_again();
            self.counts.enter(Stage::Transferring);
        }
    }

    fn begin(&self, epoch: Epoch) -> Begin {
        let head = lock(self.head);
        Begin {
            version: VERSION,
            migration: self.identity.migration,
            epoch,
            pass: self.request.pass,
            run: random(),
            resumes: false,
            kind: self.request.kind,
            verify: self.request.verify,
            adopt: self.request.adopt,
            // Once: what comes later is no first copy, whatever the destination says of itself.
            may_leave_read_back: self.request.may_leave_read_back && head.entries.is_none(),
            sees: attributes::seen(self.volume),
            tag_key: head.tag_key,
            root: Some(self.volume.mark()),
        }
    }

    /// Adds what the pass did and cost.
    pub(super) fn account(&mut self, report: &mut PassReport) {
        self.seconds.total = self.begun.elapsed().as_secs_f64();
        report.seconds = std::mem::take(&mut self.seconds);
        super::report::fill(report, self.counts, self.threads);
    }

    /// Whether what is remembered still holds, and what to begin with where it does not.
    pub(super) fn baseline(&self, ready: &Ready, carry: Carry) -> Result<(Baseline, bool), Fault> {
        let Ready {
            instance, empty, ..
        } = *ready;
        let store = self.store;
        let mut head = lock(self.head);
        let stepped = head.clock_was_stepped();
        let forgotten = head.instance != instance || head.carry != Some(carry);
        head.carry = Some(carry);
        // A destination that was emptied behind our back is as good as a new one.
        let emptied = empty && store.totals().entries > 1;
        if forgotten || emptied {
            head.instance = instance;
            store.reset(&head.encode()).map_err(Shared::state_fault)?;
        } else {
            store
                .set_head(&head.encode())
                .map_err(Shared::state_fault)?;
        }
        let baseline = match (forgotten || emptied, empty) {
            (false, _) => Baseline::Remembered,
            (true, true) => Baseline::Absent,
            (true, false) => Baseline::Unknown,
        };
        Ok((baseline, stepped))
    }

    pub(super) fn transfer(
        &mut self,
        shared: &Shared<'_>,
        baseline: Baseline,
        report: &mut PassReport,
    ) -> Result<(), Fault> {
        let summary = self.rounds(shared, baseline)?;
        shared.tell_access_times();
        let begun = Instant::now();
        finish_directories(shared, &mut Visitor::new(shared)?)?;
        self.seconds.finish += begun.elapsed().as_secs_f64();
        // What has no room now is not there to be settled.
        if let Some(fault) = shared.link.acks().fail_short() {
            return Err(fault);
        }

        self.counts.enter(Stage::Settling);
        shared.link.settle();
        if shared.is_final()
            && shared.faults.is_empty()
            && let Err(fault) = recheck::recheck(shared, &summary.states, self.threads)
        {
            shared.faults.push(fault);
        }
        let settled = shared.link.acks().wait_settled()?;
        self.conclude(shared, &summary, &settled, report);
        Ok(())
    }

    fn conclude(
        &mut self,
        shared: &Shared<'_>,
        summary: &LinkSummary,
        settled: &Settled,
        report: &mut PassReport,
    ) {
        self.seconds.destination_flush = settled.flush_seconds;
        self.seconds.verify = settled.verify_seconds;
        self.seconds.read_back_before = settled.earlier_seconds;
        report.verified_on_device = settled.on_device;
        report.read_back_left = settled.digest.is_none();
        for path in settled
            .mismatched
            .iter()
            .filter_map(|hex| RelPath::new(&livmig_proto::hex::decode(hex)?).ok())
        {
            // What is there is unknown now; the next pass asks.
            let _ = shared.store.begin(&path);
            shared.faults.push(fault::named(
                Side::Destination,
                FaultCode::Mismatch,
                &path,
                "destination: the directory does not hold what was sent",
            ));
        }
        let totals = shared.store.totals();
        report.bytes_total = totals.bytes + summary.bytes;
        report.entries = totals.entries;
        report.directories = totals.directories;
        let members = shared.store.members();
        let proven = !shared.unproven.load(Ordering::Relaxed) && shared.faults.is_empty();
        if let (true, Some(mut members), Some(destination)) = (proven, members, settled.digest) {
            members.extend_from_slice(&summary.members);
            report.digest_source = manifest_digest(members).to_string();
            report.digest_destination = destination.to_string();
            if report.digest_source != report.digest_destination {
                shared.faults.push(fault::plain(
                    Side::Destination,
                    FaultCode::Mismatch,
                    "destination: its manifest differs from the source's; nothing of it is \
                     believed any more",
                ));
                let mut head = lock(self.head);
                head.instance = [0; 16];
            }
        }
        report.complete = true;
    }
}

/// The metadata of directories comes after everything in them, deepest first, because a
/// directory that its owner may not enter ends the way to those below.
fn finish_directories(shared: &Shared<'_>, visitor: &mut Visitor<'_>) -> Result<(), Fault> {
    for key in shared.store.unfinished_keys() {
        let Some(directory) = shared.store.unfinished(key).map_err(Shared::state_fault)? else {
            continue;
        };
        visitor.lane.enter(&directory.path)?;
        let op = Op::DirectoryMeta {
            meta: directory.meta,
            member: directory.member,
        };
        visitor.lane.push(&op, 256)?;
    }
    visitor.lane.drain()?;
    if shared.link.acks().faults().1 == 0 && !shared.link.acks().is_short() {
        shared.store.finish_all().map_err(Shared::state_fault)?;
    }
    Ok(())
}
