//! A pass over one connection, and what became of it.

use std::sync::{Mutex, atomic::AtomicBool};

use livmig_proto::{
    attributes::{Carry, Kinds},
    control::{Fault, PassReport, Side},
    session::Ready,
};

use super::{
    report,
    resume::{self, Advance},
    rounds::disappeared,
    run::Run,
};
use crate::{
    fs::{attributes, mounts::other_end, volume::Volume},
    source::{
        link_table::LinkTable,
        queue::Queue,
        shared::{Faults, Shared, lock},
        space::Space,
        stat_trust::{Flush, StatTrust},
    },
    transport::data_session::DataSession,
};

/// What came of one connection.
pub(super) struct Attempt {
    pub(super) result: Result<(), Fault>,
    /// Whether the destination has applied anything of it.
    pub(super) progress: Advance,
    /// What went wrong, the first of it and how much in all.
    faults: Vec<Fault>,
    total: u64,
}

impl Attempt {
    /// How much went wrong beside the loss of the connection.
    pub(super) fn others(&self) -> u64 {
        let paths = self.faults.iter().filter(|fault| resume::is_path(fault));
        self.total.saturating_sub(report::to_u64(paths.count()))
    }

    /// The pass ends with this one: what went wrong is the report's.
    pub(super) fn conclude(self, report: &mut PassReport) -> Result<(), Fault> {
        let listed = report::to_u64(self.faults.len());
        report.faults_total += self.total.saturating_sub(listed);
        for fault in self.faults {
            report::add_fault(report, fault);
        }
        match self.result {
            // What the destination said is in the report already.
            Err(fault) if report.faults.contains(&fault) => Ok(()),
            result => result,
        }
    }
}

impl Run<'_> {
    /// The pass over `link`, to a destination that is `ready`; `flush` is what the pass began with.
    ///
    /// What it does not complete it leaves as a pass that failed does: what was acknowledged is
    /// known, the rest in flight. So the next may be an attempt of this pass or another pass.
    pub(super) fn attempt(
        &mut self,
        link: &DataSession,
        ready: &Ready,
        sees: Kinds,
        flush: Flush,
        report: &mut PassReport,
    ) -> Result<Attempt, Fault> {
        let carry = Carry {
            sees,
            stores: ready.stores,
        };
        other_end::remember(Side::Destination, ready.root.clone(), &self.volume.mark());
        let (baseline, stepped) = self.baseline(ready, carry)?;
        self.store.compact().map_err(Shared::state_fault)?;
        let shared = Shared {
            volume: self.volume,
            store: self.store,
            link,
            kind: self.request.kind,
            reserved: ready.lost_and_found,
            tells_reserved: ready.tells_reserved,
            allow_empty: self.request.allow_empty,
            carry,
            unseen: unseen(self.volume, ready),
            tag_key: lock(self.head).tag_key,
            proof: StatTrust {
                possible: self.volume.proves_unchanged() && flush.counts(),
                remembered: !stepped,
                flushed: flush.at,
            },
            room: Space::default(),
            queue: Queue::default(),
            links: Mutex::new(LinkTable::default()),
            vanished: Mutex::new(Vec::new()),
            unproven: AtomicBool::new(false),
            unsettled: Faults::default(),
            moved_access_times: AtomicBool::new(false),
            retired: Mutex::new(Vec::new()),
            counts: self.counts,
            limiter: self.limiter,
            faults: Faults::default(),
        };
        let result = self.transfer(&shared, baseline, report);
        if shared.is_final() {
            // Whoever lost the connection did not come to tell of them.
            for path in lock(&shared.vanished).drain(..) {
                shared.faults.push(disappeared(&path));
            }
        }
        link.acks().fail_short();
        let (mut faults, total) = shared.faults.get();
        let (remote, remote_total) = link.acks().faults();
        faults.extend(remote);
        for tags in lock(&shared.retired).drain(..) {
            self.store.tags().release(&tags);
        }
        Ok(Attempt {
            result,
            progress: if link.acks().has_applied() {
                Advance::Some
            } else {
                Advance::None
            },
            faults,
            total: total + remote_total,
        })
    }
}

/// Where nobody could look for `trusted.*` attributes.
fn unseen(volume: &Volume, ready: &Ready) -> Vec<Side> {
    let source = attributes::hides_trusted(volume).then_some(Side::Source);
    let destination = ready.unlisted.then_some(Side::Destination);
    source.into_iter().chain(destination).collect()
}
