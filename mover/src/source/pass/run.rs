//! The steps of a pass.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use livmig_proto::{
    control::{Fault, FaultCode, PassReport, PassRequest, PassSeconds, Side, Stage, Transport},
    frame::Op,
    identity::{PrivateKey, PublicKey},
    ids::{Epoch, MigrationUid},
    manifest::manifest_digest,
    name::RelPath,
    session::{Begin, Ready, Settled, VERSION},
};
use tokio::runtime::Handle;

use super::report;
use crate::{
    catalog::store::Store,
    fault,
    fs::volume::{self, Volume},
    source::{
        head::Head,
        links::{LinkSummary, LinkTable},
        load::Limiter,
        proof::Proof,
        queue::{Baseline, Queue},
        recheck,
        room::Room,
        shared::{Counts, Faults, Shared, lock},
        visit::Visitor,
    },
    transport::{dial::Peer, link::Link},
};

/// Whose source it is.
#[derive(Debug)]
pub struct Identity {
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
    pub(super) identity: &'a Identity,
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
        self.counts.enter(Stage::Flushing);
        let flushed = volume::now();
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

        let tag_key = lock(self.head).tag_key;
        let begin = Begin {
            version: VERSION,
            migration: self.identity.migration,
            epoch,
            pass: self.request.pass,
            kind: self.request.kind,
            verify: self.request.verify,
            adopt: self.request.adopt,
            // Once: what comes later is no first copy, whatever the destination says of itself.
            may_leave_read_back: self.request.may_leave_read_back
                && lock(self.head).entries.is_none(),
            tag_key,
        };
        let peer = Peer {
            address: self.request.destination,
            own: &self.identity.own,
            key: &self.identity.peer,
        };
        let (link, ready) = self.connect(runtime, peer, begin)?;
        report.transport = Some(link.transport());
        self.counts.on_abandon(link.breaker());
        let (baseline, stepped) = self.baseline(ready.instance, ready.empty)?;
        self.store.compact().map_err(Shared::state_fault)?;
        let possible = self.volume.proves_unchanged();
        let shared = Shared {
            volume: self.volume,
            store: self.store,
            link: &link,
            kind: self.request.kind,
            reserved: ready.lost_and_found,
            allow_empty: self.request.allow_empty,
            tag_key,
            proof: Proof {
                possible,
                remembered: !stepped,
                flushed,
            },
            room: Room::default(),
            queue: Queue::default(),
            links: Mutex::new(LinkTable::default()),
            vanished: Mutex::new(Vec::new()),
            unproven: AtomicBool::new(false),
            retired: Mutex::new(Vec::new()),
            counts: self.counts,
            limiter: self.limiter,
            faults: Faults::default(),
        };
        let result = self.transfer(&shared, baseline, report);
        link.acks().fail_short();
        let (faults, total) = shared.faults.get();
        let (remote, remote_total) = link.acks().faults();
        let listed = faults.len() + remote.len();
        faults
            .into_iter()
            .chain(remote)
            .for_each(|fault| report::add_fault(report, fault));
        report.faults_total += (total + remote_total).saturating_sub(report::to_u64(listed));
        (report.bytes_sent, report.bytes_received) = link.traffic();
        for tags in lock(&shared.retired).drain(..) {
            self.store.tags().release(&tags);
        }
        drop(shared);
        link.close();
        match result {
            // What the destination said is in the report already.
            Err(fault) if report.faults.contains(&fault) => Ok(()),
            result => result,
        }
    }

    /// Connects as the passes before did; where that gets through no longer, by what does.
    fn connect(
        &self,
        runtime: &Handle,
        peer: Peer<'_>,
        begin: Begin,
    ) -> Result<(Link, Ready), Fault> {
        let known = *lock(self.transport);
        let (link, ready) = match Link::open(runtime, peer, known, begin.clone()) {
            Err(fault) if known.is_some() && is_path(&fault) => {
                Link::open(runtime, peer, None, begin)?
            }
            opened => opened?,
        };
        *lock(self.transport) = Some(link.transport());
        Ok((link, ready))
    }

    /// Adds what the pass did and cost.
    pub(super) fn account(&mut self, report: &mut PassReport) {
        self.seconds.total = self.begun.elapsed().as_secs_f64();
        report.seconds = std::mem::take(&mut self.seconds);
        report::fill(report, self.counts, self.threads);
    }

    /// Whether what is remembered still holds, and what to begin with where it does not.
    fn baseline(&self, instance: [u8; 16], empty: bool) -> Result<(Baseline, bool), Fault> {
        let store = self.store;
        let mut head = lock(self.head);
        let stepped = head.clock_was_stepped();
        let forgotten = head.instance != instance;
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

    fn transfer(
        &mut self,
        shared: &Shared<'_>,
        baseline: Baseline,
        report: &mut PassReport,
    ) -> Result<(), Fault> {
        let summary = self.rounds(shared, baseline)?;
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
            && let Err(fault) = recheck::recheck(shared, &summary.identities, self.threads)
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

/// Whether a fault is the network's and not the peer's word.
fn is_path(fault: &Fault) -> bool {
    matches!(fault.code, FaultCode::Disconnected | FaultCode::Unreachable)
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
