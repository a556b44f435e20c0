//! A platform in memory, in virtual time, with scripted faults: for tests of the driver.
//!
//! The [`World`] is what would survive a coordinator: volumes as sets of writes, a
//! workload that writes whenever it runs, a binding, movers. It checks the invariants after every
//! change. [`SimPlatform`] is one coordinator's access to it, [`SimJournal`]
//! its journal, [`SimClock`] its time. A crash is a dropped driver; the next one
//! gets the same world.

pub(crate) mod clock;
pub(crate) mod faults;
pub(crate) mod journal;
mod memory;
mod mover;
mod pass;
mod steps;
pub(crate) mod world;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use livmig_engine::{
    outcome::Outcome,
    record::Record,
    result::{Probe, StepFailure, StepOutcome},
    spec::{HostTarget, MigrationName, MigrationSpec, Options, Target},
    step::Step,
};
use livmig_proto::ids::{MigrationUid, PassNumber};

use self::{
    clock::{Ended, SimClock, run},
    faults::{Fault, Script},
    journal::SimJournal,
    world::{Nature, World},
};
use livmig_coord::{
    driver::{Clock as _, Driver, DriverError, Handle, Start},
    platform::{Context, Platform},
};

/// A world with its clock, journal and faults: everything that outlives a coordinator.
#[derive(Clone, Debug)]
pub(crate) struct Sim {
    world: Arc<Mutex<World>>,
    clock: SimClock,
    journal: SimJournal,
    script: Arc<Mutex<Script>>,
}

/// How one coordinator's life ended.
#[derive(Debug)]
pub(crate) enum Life {
    /// It came to an end by itself.
    Ended(Result<Outcome, DriverError>),
    /// It was cut off.
    Crashed,
    /// It waits for something that never comes.
    Stalled,
}

impl Sim {
    /// A fresh world with a running workload.
    pub(crate) fn new(nature: Nature, script: Vec<Fault>) -> Self {
        let clock = SimClock::new();
        let world = Arc::new(Mutex::new(World::new(nature)));
        Self {
            journal: SimJournal::new(Arc::clone(&world)),
            script: Arc::new(Mutex::new(Script::new(script))),
            clock,
            world,
        }
    }

    /// A spec for it.
    pub(crate) fn spec(options: Options) -> Result<MigrationSpec, livmig_engine::spec::BadName> {
        Ok(MigrationSpec {
            name: MigrationName::try_from("sim".to_owned())?,
            uid: MigrationUid([7; 16]),
            target: Target::Host(HostTarget {
                path: "/srv/data".into(),
                source: "/old/data".into(),
                destination: "/new/data".into(),
                stop_command: "stop".to_owned(),
                start_command: "start".to_owned(),
            }),
            options,
        })
    }

    /// The world as it is now.
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.pass_time(&self.clock);
        world
    }

    /// The journal.
    pub(crate) fn journal(&self) -> &SimJournal {
        &self.journal
    }

    /// The clock.
    pub(crate) fn clock(&self) -> &SimClock {
        &self.clock
    }

    /// The stored records.
    pub(crate) fn records(&self) -> Vec<Record> {
        self.journal.records()
    }

    /// Forgets every fault that has not struck yet.
    pub(crate) fn disarm(&self) {
        *self.script.lock().unwrap_or_else(PoisonError::into_inner) = Script::new(Vec::new());
    }

    /// One coordinator's life: from `start` until it ends, crashes by script, or `stop` says so.
    /// `stop` is asked after every poll, with the driver's handle.
    pub(crate) fn live(&self, start: Start, mut stop: impl FnMut(&Handle) -> bool) -> Life {
        let platform = SimPlatform { sim: self.clone() };
        let (driver, handle) = Driver::new(platform, self.journal.clone(), self.clock.clone());
        let crashed = || {
            let script = self.script.lock().unwrap_or_else(PoisonError::into_inner);
            script.is_crashed()
        };
        let life = match run(&self.clock, driver.run(start), || {
            crashed() || stop(&handle)
        }) {
            Ended::Ready(result) => Life::Ended(result),
            Ended::Stopped => Life::Crashed,
            Ended::Stalled => Life::Stalled,
        };
        self.script
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .revive();
        life
    }
}

/// One coordinator's access to the world.
#[derive(Debug)]
pub(crate) struct SimPlatform {
    sim: Sim,
}

impl Platform for SimPlatform {
    async fn perform(&self, step: Step, context: &Context) -> Result<StepOutcome, StepFailure> {
        self.sim.world().performs(step);
        let fault = self
            .sim
            .script
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .strike(step);
        match fault {
            None => steps::perform(&self.sim, step, context).await,
            Some(faults::Effect::CrashBefore) => self.crash().await,
            Some(faults::Effect::CrashAfter) => {
                let _ = steps::perform(&self.sim, step, context).await;
                self.crash().await
            }
            Some(faults::Effect::Twice) => {
                let _ = steps::perform(&self.sim, step, context).await;
                steps::perform(&self.sim, step, context).await
            }
            Some(faults::Effect::FailBefore(kind)) => Err(faults::failure(step, kind)),
            Some(faults::Effect::FailAfter(kind)) => {
                let _ = steps::perform(&self.sim, step, context).await;
                Err(faults::failure(step, kind))
            }
            Some(faults::Effect::Hang) => std::future::pending().await,
            Some(faults::Effect::Lie) => Ok(StepOutcome::Done),
        }
    }

    async fn probe(&self, step: Step, _context: &Context) -> Result<Probe, StepFailure> {
        steps::probe(&self.sim, step).await
    }

    async fn stop_pass(&self, pass: PassNumber, _context: &Context) -> Result<(), StepFailure> {
        let now = self.sim.clock.now();
        self.sim.world().stop_pass(pass, now);
        // Wakes whoever awaits the end of that pass.
        self.sim.clock.nudge();
        Ok(())
    }
}

impl SimPlatform {
    async fn crash<T>(&self) -> T {
        self.sim
            .script
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .crash();
        std::future::pending().await
    }
}
