//! What would survive a coordinator, and the invariants that must hold of it at every instant.

use std::{collections::BTreeSet, time::Duration};

use livmig_engine::{
    machine::{Machine, state::State},
    record::{Event, Record},
    step::Step,
    time::Timestamp,
};
use livmig_proto::{
    control::{Reason, unconsented},
    ids::{Epoch, PassNumber},
};

use super::{clock::SimClock, pass::Pass};
use livmig_coord::driver::Clock;

/// One of the two volumes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    /// The volume the workload runs on at first.
    Source,
    /// The other one.
    Destination,
}

/// What a world is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nature {
    /// How long the workload takes to stop.
    pub(crate) stop_time: Duration,
    /// How long it takes to start.
    pub(crate) start_time: Duration,
    /// Time between two writes of the workload.
    pub(crate) write_every: Duration,
    /// Time the movers take for one write.
    pub(crate) copy_time: Duration,
    /// Whether probes know what was done; else they always answer "not done".
    pub(crate) probes_know: bool,
}

/// Everything outside the coordinator.
#[derive(Debug)]
pub(crate) struct World {
    /// What is on the source: the writes that were not deleted.
    pub(crate) source: BTreeSet<u64>,
    /// What is on the destination.
    pub(crate) destination: BTreeSet<u64>,
    /// What the workload was told is stored.
    pub(crate) acknowledged: BTreeSet<u64>,
    /// Which volume a workload that starts will find.
    pub(crate) binding: End,
    /// Which volume the workload runs on.
    pub(crate) workload: Option<End>,
    /// Whether a workload may start on the source.
    pub(crate) fenced: bool,
    /// Whether movers run, and whom they obey.
    pub(crate) movers: Option<Epoch>,
    /// How fast everything is.
    pub(crate) nature: Nature,
    /// What passes leave out, each from a certain pass on.
    pub(crate) left_out: Vec<(Reason, PassNumber)>,
    /// What went wrong, in words; must stay empty.
    pub(crate) violations: Vec<String>,
    pub(super) pass: Option<Pass>,
    pub(super) proof: Option<Standing>,
    /// The proof that stood when the last complete final pass began.
    pub(super) scanned: Option<u64>,
    proofs: u64,
    written_until: Option<Timestamp>,
    next_write: u64,
    ran_on_destination: bool,
    committed: bool,
    machine: Option<Machine>,
}

/// A proof of no writers, while it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub(super) epoch: Epoch,
    pub(super) serial: u64,
}

impl Default for Nature {
    fn default() -> Self {
        Self {
            stop_time: Duration::from_secs(2),
            start_time: Duration::from_secs(1),
            write_every: Duration::from_millis(100),
            copy_time: Duration::from_millis(5),
            probes_know: true,
        }
    }
}

impl World {
    /// A world in which the workload runs on the source, which holds some writes.
    pub(crate) fn new(nature: Nature) -> Self {
        let content: BTreeSet<u64> = (0..50).collect();
        Self {
            source: content.clone(),
            destination: BTreeSet::new(),
            acknowledged: content,
            binding: End::Source,
            workload: Some(End::Source),
            fenced: false,
            movers: None,
            nature,
            left_out: Vec::new(),
            violations: Vec::new(),
            pass: None,
            proof: None,
            scanned: None,
            proofs: 0,
            written_until: None,
            next_write: 50,
            ran_on_destination: false,
            committed: false,
            machine: None,
        }
    }
}

impl World {
    /// The workload starts on whatever it finds, as a person's command or a step would start it.
    pub(crate) fn start_workload(&mut self) {
        if self.workload.is_some() {
            return;
        }
        let end = self.binding;
        if self.volume(end) != &self.acknowledged {
            self.violate("I2: the workload starts on a volume that differs from what it was told");
        }
        match end {
            End::Destination => {
                if !self.committed {
                    self.violate("I2: the workload starts on the destination before COMMIT");
                }
                self.ran_on_destination = true;
            }
            End::Source if self.ran_on_destination => {
                self.violate("I2: the workload starts on the source after the destination");
            }
            End::Source => {}
        }
        // Whatever was proven, somebody may write now.
        self.proof = None;
        self.workload = Some(end);
        self.check();
    }

    /// The workload stops.
    pub(crate) fn stop_workload(&mut self) {
        if self.workload.is_some() && self.machine.is_none() {
            self.violate("I9: the workload is stopped before anything is on record");
        }
        self.workload = None;
        self.check();
    }

    /// Lets the world catch up with the clock: writes, and a pass that ends.
    pub(super) fn pass_time(&mut self, clock: &SimClock) {
        let now = clock.now();
        let ends = self
            .pass
            .as_ref()
            .filter(|pass| pass.report.is_none())
            .map(|pass| pass.ends);
        match ends {
            Some(ends) if ends <= now => {
                self.write_until(ends);
                self.end_pass();
                self.write_until(now);
            }
            _ => self.write_until(now),
        }
        self.check();
    }

    fn write_until(&mut self, now: Timestamp) {
        let mut at = self.written_until.unwrap_or(now);
        while at.after(self.nature.write_every) <= now {
            at = at.after(self.nature.write_every);
            self.write();
        }
        // A stopped workload has no backlog.
        self.written_until = Some(if self.workload.is_some() { at } else { now });
    }

    fn write(&mut self) {
        let Some(end) = self.workload else { return };
        let id = self.next_write;
        self.next_write += 1;
        // Every third write deletes what was written a while ago.
        let deleted = id.is_multiple_of(3).then(|| id.saturating_sub(20));
        let volume = match end {
            End::Source => &mut self.source,
            End::Destination => &mut self.destination,
        };
        for content in [volume, &mut self.acknowledged] {
            content.insert(id);
            if let Some(deleted) = deleted {
                content.remove(&deleted);
            }
        }
    }

    pub(super) fn volume(&self, end: End) -> &BTreeSet<u64> {
        match end {
            End::Source => &self.source,
            End::Destination => &self.destination,
        }
    }

    /// Somebody begins to perform `step`.
    pub(super) fn performs(&mut self, step: Step) {
        let intended = self
            .machine
            .as_ref()
            .is_some_and(|machine| machine.under_way().contains(&step));
        if !intended {
            self.violate(&format!("{step} is performed without a stored intent"));
        }
    }

    /// A new proof of no writers.
    pub(super) fn prove(&mut self, epoch: Epoch) {
        self.proofs += 1;
        self.proof = Some(Standing {
            epoch,
            serial: self.proofs,
        });
    }

    /// What a stored record means for the invariants.
    pub(super) fn recorded(&mut self, record: &Record) {
        let before = self.machine.as_ref().map(progress);
        let ran = self
            .machine
            .as_ref()
            .is_some_and(|machine| machine.state().is_before_quiesce());
        let was_back = matches!(self.machine.as_ref().map(Machine::state), Some(State::Halted { at, .. })
            if matches!(**at, State::RollingBack { .. }));
        match &mut self.machine {
            None => self.machine = Machine::replay(std::slice::from_ref(record)).ok(),
            Some(machine) => {
                if let Err(error) = machine.apply(record) {
                    self.violate(&format!("the journal is refused: {error}"));
                }
            }
        }
        let after = self.machine.as_ref().map(progress);
        // A person may leave a way back that is closed: forward, to the swap.
        let left = record.event == Event::Adopted
            && was_back
            && self.machine.as_ref().map(Machine::state) == Some(&State::Swapping);
        if after < before && !left {
            self.violate(&format!(
                "I15: progress goes back from {before:?} to {after:?}"
            ));
        }
        match &record.event {
            // Whoever takes over has not watched.
            Event::Adopted => self.proof = None,
            Event::Commit { .. } => {
                self.commit(record.epoch);
                self.check_consent("COMMIT");
            }
            Event::Intent {
                step: Step::Quiesce,
            } if ran => self.check_consent("the stop"),
            Event::Intent {
                step: Step::Unquiesce,
            } if !self.committed => {
                self.violate("I2: the intent to start on the destination precedes COMMIT");
            }
            Event::Intent {
                step: Step::Restart,
            } if self.machine.as_ref().is_some_and(Machine::is_past_return) => {
                self.violate("I2: the intent to restart follows the point of no return");
            }
            _ => {}
        }
        self.check();
    }

    /// What the last pass left out has consent, or needs none.
    fn check_consent(&mut self, before: &str) {
        let options = self.machine.as_ref().map(|machine| &machine.spec().options);
        let consent = options.map(|options| options.leave_out.clone());
        let report = self.pass.as_ref().and_then(|pass| pass.report.as_ref());
        let left = report.iter().flat_map(|report| &report.left_out);
        let missing = unconsented(left, &consent.unwrap_or_default());
        if !missing.is_empty() {
            self.violate(&format!(
                "{missing:?} is left out without consent at {before}"
            ));
        }
    }

    fn commit(&mut self, epoch: Epoch) {
        let (proof, scanned) = (self.proof, self.scanned);
        let held = proof.is_some_and(|proof| proof.epoch == epoch && scanned == Some(proof.serial));
        if !held {
            self.violate("I4: COMMIT without one proof that held from before the final scan");
        }
        if self.workload.is_some() {
            self.violate("I4: COMMIT while the workload runs");
        }
        if self.source != self.destination {
            self.violate("I4: COMMIT of volumes that differ");
        }
        self.committed = true;
    }

    /// The invariants that are about one instant.
    fn check(&mut self) {
        let holds = |content: &BTreeSet<u64>| self.acknowledged.is_subset(content);
        if !holds(&self.source) && !holds(&self.destination) {
            self.violate("I1: no volume holds every acknowledged write");
        }
        if self.binding == End::Destination && !self.committed {
            self.violate("I4: the destination is bound before COMMIT");
        }
        if self.workload.is_none()
            && self
                .machine
                .as_ref()
                .is_none_or(|machine| machine.state().is_before_quiesce())
        {
            self.violate("I9: the workload is down although nobody asked it to stop");
        }
        if self.workload.is_some_and(|end| end != self.binding) {
            self.violate("I11: the workload's volume was swapped under it");
        }
    }

    fn violate(&mut self, what: &str) {
        // Each once: an instant that lasts is one violation.
        if !self.violations.iter().any(|known| known == what) {
            self.violations.push(what.to_owned());
        }
    }
}

/// How far a machine is; never goes back but into a rollback, which is further.
fn progress(machine: &Machine) -> (u32, u32, u32) {
    let rank = |state: &State| match state {
        State::Preparing { checked } => (1, u32::from(*checked)),
        State::Precopy { .. } => (2, 0),
        State::Quiescing { stopped, .. } => (3, u32::from(*stopped)),
        // A later round begins with the fence again.
        State::Fencing(round) => (4, 10 * round.number),
        State::FinalPass(round) => (4, 10 * round.number + 1),
        State::Verifying { round, proven } => {
            (4, 10 * round.number + 2 + u32::from(proven.is_some()))
        }
        State::Swapping => (5, 0),
        State::Unquiescing => (6, u32::from(machine.is_past_return())),
        State::Settling => (7, 0),
        State::Completed => (8, 0),
        State::RollingBack { remaining, .. } => (
            9,
            4u32.saturating_sub(u32::try_from(remaining.len()).unwrap_or(4)),
        ),
        State::RolledBack { .. } | State::Refused { .. } => (10, 0),
        // A machine at rest is as far as where it came to rest, below; nothing nests twice.
        State::Planned | State::Halted { .. } | State::Interrupted { .. } => (0, 0),
    };
    let (phase, within) = match machine.state() {
        State::Halted { at, .. } | State::Interrupted { at } => rank(at),
        state => rank(state),
    };
    (
        phase,
        within,
        machine.passes().last().map_or(0, |pass| pass.number.0),
    )
}
