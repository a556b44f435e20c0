//! The rounds of a pass over the tree: one, and where the destination ran out of room, more.

use std::{sync::atomic::Ordering, time::Instant};

use livmig_proto::{
    control::{Fault, FaultCode, Reason, Side},
    name::RelPath,
};

use super::run::Run;
use crate::{
    catalog::{segment::Kept, store::Known},
    fault,
    source::{
        links::{self, LinkSummary},
        queue::{Baseline, Depth, Job},
        shared::{Shared, lock},
        walk::{listing, visit::Visitor},
    },
};

/// How often directories that disappeared are looked for again.
const LOOKS: usize = 8;

/// Further rounds for what did not stay the same while it was looked at.
const FURTHER: usize = 3;

/// Visitors where everything is asked: each waits for the destination's device most of the time.
const ASKING: usize = 8;

impl Run<'_> {
    /// Makes the destination's entries equal to the source's, all but the metadata of directories.
    pub(super) fn rounds(
        &mut self,
        shared: &Shared<'_>,
        baseline: Baseline,
    ) -> Result<LinkSummary, Fault> {
        let mut baseline = baseline;
        if baseline == Baseline::Unknown {
            self.threads = self.threads.max(ASKING);
        }
        let mut before = None;
        let mut further = 0;
        let mut round = 0;
        loop {
            let summary = self.round(shared, baseline)?;
            let acks = shared.link.acks();
            let refused = acks.refused();
            let unsettled = shared.unsettled.take();
            if refused == 0 && (unsettled.1 == 0 || further == FURTHER) {
                shared.faults.append(unsettled);
                return Ok(summary);
            }
            if refused == 0 {
                further += 1;
                tracing::debug!(
                    entries = unsettled.1,
                    "looking again at what did not stay the same"
                );
                self.counts.begin_again();
                shared.unproven.store(false, Ordering::Relaxed);
                baseline = Baseline::Remembered;
                continue;
            }
            let outcome = shared.room.end_round(round, refused);
            round += 1;
            tracing::info!(?outcome, "no room for everything at the destination");
            if !outcome.is_worth_another(before.as_ref()) {
                break;
            }
            before = Some(outcome);
            shared.room.take_waiting();
            acks.forget_shortage();
            self.counts.begin_again();
            shared.unproven.store(false, Ordering::Relaxed);
            baseline = Baseline::Remembered;
        }
        // What was not tried may be what is too large; the rest only came too late.
        for path in shared.room.take_waiting() {
            let directory = path.split().map(|(parent, _)| parent);
            let fault = fault::named(
                Side::Destination,
                FaultCode::NoSpace,
                &path,
                "destination: no space was left to try the entry",
            );
            shared.link.acks().refuse(fault, directory);
        }
        Err(shared
            .link
            .acks()
            .fail_short()
            .unwrap_or_else(|| fault::disconnected(Side::Source, "nothing was refused")))
    }

    fn round(&mut self, shared: &Shared<'_>, baseline: Baseline) -> Result<LinkSummary, Fault> {
        let begun = Instant::now();
        shared.store.begin_round();
        for side in &shared.unseen {
            let place = match side {
                Side::Source => "at the source",
                Side::Destination => {
                    "at the destination, where entries of before may keep such, and security.*"
                }
            };
            let root = &RelPath::ROOT;
            self.counts.leave(root, Reason::AttributesUnseen, place);
        }
        shared.queue.push([Job {
            path: RelPath::ROOT,
            baseline,
            deep: true,
        }]);
        let result = self
            .visit_all(shared)
            .and_then(|()| self.look_again(shared));
        self.seconds.transfer += begun.elapsed().as_secs_f64();
        result?;
        if self.counts.stop.is_asked() {
            return Err(fault::plain(
                Side::Source,
                FaultCode::Stopped,
                "source: the pass was stopped on request; what was not visited stays unproven",
            ));
        }
        if shared.faults.is_empty() && !shared.link.acks().is_short() {
            shared.store.prune().map_err(Shared::state_fault)?;
        }
        let begun = Instant::now();
        let mut visitor = Visitor::new(shared)?;
        let summary = links::finish(&mut visitor, links::take(shared));
        self.seconds.finish += begun.elapsed().as_secs_f64();
        summary
    }

    fn visit_all(&self, shared: &Shared<'_>) -> Result<(), Fault> {
        let pass = tracing::Span::current();
        let results: Vec<Result<(), Fault>> = std::thread::scope(|scope| {
            let work = |worker| {
                let _worker = tracing::info_span!(parent: &pass, "worker", worker).entered();
                Visitor::new(shared)?.on_own_thread().run()
            };
            let workers: Vec<_> = (0..self.threads)
                .map(|worker| scope.spawn(move || work(worker)))
                .collect();
            workers
                .into_iter()
                .map(|worker| {
                    worker.join().unwrap_or_else(|_| {
                        Err(fault::plain(
                            Side::Source,
                            FaultCode::Internal,
                            "source: a worker ended unexpectedly",
                        ))
                    })
                })
                .collect()
        });
        results.into_iter().collect()
    }

    /// Directories that were listed and then gone leave the destination with something that no
    /// directory accounts for: their parents are listed again. Those that are back by then were
    /// visited by nobody.
    fn look_again(&self, shared: &Shared<'_>) -> Result<(), Fault> {
        for _ in 0..LOOKS {
            let mut vanished = std::mem::take(&mut *lock(&shared.vanished));
            if vanished.is_empty() || self.counts.stop.is_asked() {
                return Ok(());
            }
            if shared.is_final() {
                for path in &vanished {
                    shared.faults.push(disappeared(path));
                }
                return Ok(());
            }
            vanished.sort_unstable();
            let mut parents: Vec<RelPath> = Vec::new();
            for path in &vanished {
                let Some((parent, _)) = path.split() else {
                    return Err(fault::plain(
                        Side::Source,
                        FaultCode::Io,
                        "source: the root directory is gone",
                    ));
                };
                if parents.last() != Some(&parent) {
                    parents.push(parent);
                }
            }
            parents.dedup();
            // One after the other, parents first: what one visit removes another must not touch.
            let mut visitor = Visitor::new(shared)?;
            for path in parents {
                if is_reachable(shared, &path)? {
                    visitor.visit_again(path, Depth::NewBelow)?;
                }
            }
            for path in vanished {
                if is_reachable(shared, &path)? {
                    visitor.visit_again(path, Depth::AllBelow)?;
                }
            }
        }
        for path in std::mem::take(&mut *lock(&shared.vanished)) {
            shared.unproven.store(true, Ordering::Relaxed);
            if is_reachable(shared, &path)? && !listing::is_gone(shared.volume, &path) {
                shared.unsettle(fault::named(
                    Side::Source,
                    FaultCode::StillWritten,
                    &path,
                    "source: the directory is listed, and was not there each time it was to be visited",
                ));
            }
        }
        Ok(())
    }
}

/// A directory of the source was gone when it was to be visited in a final pass.
pub(super) fn disappeared(path: &RelPath) -> Fault {
    fault::named(
        Side::Source,
        FaultCode::StillWritten,
        path,
        "source: a directory disappeared during the final pass",
    )
}

/// Whether the destination has the directory at `path`, as every directory above it says.
fn is_reachable(shared: &Shared<'_>, path: &RelPath) -> Result<bool, Fault> {
    let mut below = path.clone();
    while let Some((parent, name)) = below.split() {
        let known = match shared.store.get(&parent).map_err(Shared::state_fault)? {
            Known::Segment(segment) => segment
                .entry(&name)
                .is_some_and(|entry| entry.kept == Kept::Directory),
            Known::InFlight | Known::Nothing => false,
        };
        if !known {
            return Ok(false);
        }
        below = parent;
    }
    Ok(true)
}
