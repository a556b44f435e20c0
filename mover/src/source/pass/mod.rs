//! One pass, from the flush to the report.

mod attempt;
mod connect;
mod report;
mod resume;
mod rounds;
mod run;

use std::{collections::BTreeSet, sync::Mutex, time::Instant};

use livmig_proto::{
    attributes::Carry,
    control::{Fault, ManifestReport, PassReport, PassRequest, PassSeconds, Transport},
    ids::Epoch,
    name::RelPath,
};
use tokio::runtime::Handle;

pub use self::run::PassIdentity;
use self::run::Run;
use super::{
    persistent::Head,
    shared::{Counts, Shared, lock},
    throttle::limiter::Limiter,
};
use crate::{catalog::store::Store, fs::volume::Volume};

/// A source: a volume that is read, and what is known of its destination.
#[derive(Debug)]
pub struct Source {
    volume: Volume,
    store: Store,
    head: Mutex<Head>,
    /// What the last pass proved, if it was complete.
    proven: Mutex<Option<ManifestReport>>,
    identity: PassIdentity,
    /// What carries the data; measured when it is first needed.
    transport: Mutex<Option<Transport>>,
    limiter: Limiter,
    /// The names that the last pass left as they are.
    apart: Mutex<BTreeSet<RelPath>>,
}

impl Source {
    /// A source that goes on from what `store` knows, over `transport` or what is the faster.
    pub fn new(
        volume: Volume,
        store: Store,
        identity: PassIdentity,
        transport: Option<Transport>,
    ) -> Result<Self, Fault> {
        let head = store.head().and_then(|head| Head::decode(&head));
        let head = if let Some(head) = head {
            head
        } else {
            let head = Head::new();
            store.reset(&head.encode()).map_err(Shared::state_fault)?;
            head
        };
        Ok(Self {
            volume,
            store,
            head: Mutex::new(head),
            proven: Mutex::new(None),
            identity,
            transport: Mutex::new(transport),
            limiter: Limiter::default(),
            apart: Mutex::default(),
        })
    }

    /// The volume.
    pub fn volume(&self) -> &Volume {
        &self.volume
    }

    /// The attributes that the last pass carried.
    pub fn carry(&self) -> Option<Carry> {
        lock(&self.head).carry
    }

    /// The limits of live passes.
    pub fn limiter(&self) -> &Limiter {
        &self.limiter
    }

    /// The entries of the last complete pass.
    pub fn entries_expected(&self) -> Option<u64> {
        lock(&self.head).entries
    }

    /// What the last pass proved of the source; nothing when it was not complete.
    pub fn manifest(&self) -> Option<ManifestReport> {
        lock(&self.proven).clone()
    }

    /// The names that the last pass left as they are.
    pub fn apart(&self) -> BTreeSet<RelPath> {
        lock(&self.apart).clone()
    }

    /// The last report that was not acknowledged.
    pub fn stored_report(&self) -> Option<PassReport> {
        lock(&self.head).report.clone()
    }

    /// Forgets the stored report.
    pub fn acknowledge(&self) -> Result<(), Fault> {
        let mut head = lock(&self.head);
        head.report = None;
        self.store
            .set_head(&head.encode())
            .map_err(Shared::state_fault)
    }

    /// Runs a pass. What goes wrong is in the report.
    pub fn run(
        &self,
        runtime: &Handle,
        epoch: Epoch,
        request: &PassRequest,
        counts: &Counts,
    ) -> PassReport {
        *lock(&self.proven) = None;
        let mut run = Run {
            volume: &self.volume,
            store: &self.store,
            head: &self.head,
            identity: &self.identity,
            transport: &self.transport,
            request,
            counts,
            limiter: &self.limiter,
            begun: Instant::now(),
            seconds: PassSeconds::default(),
            threads: std::thread::available_parallelism()
                .map_or(2, usize::from)
                .clamp(2, 8),
        };
        let mut report = report::empty(request);
        if let Err(fault) = run.pass(runtime, epoch, &mut report) {
            report::add_fault(&mut report, fault);
        }
        report.complete &= report.faults_total == 0;
        report::require_proof(&mut report);
        run.account(&mut report);
        *lock(&self.apart) = counts.apart();
        *lock(&self.proven) =
            (report.complete && !report.digest_source.is_empty()).then(|| ManifestReport {
                level: request.verify,
                digest: report.digest_source.clone(),
                entries: report.entries,
                bytes: report.bytes_total,
            });
        let mut head = lock(&self.head);
        if report.complete {
            head.complete(report.entries);
        }
        head.last_pass = Some(request.pass);
        head.report = Some(report.clone());
        if let Err(errno) = self.store.set_head(&head.encode()) {
            report::add_fault(&mut report, Shared::state_fault(errno));
            report.complete = false;
        }
        report
    }
}
