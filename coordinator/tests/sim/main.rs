//! The driver in the simulation: every step with every fault, every instant of death, random
//! histories. The world checks the invariants at every instant; these tests check the ends.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking; clippy sees that of test functions, not of what they call"
)]

mod consent;
mod deaths;
mod document;
mod driver;
mod matrix;
mod random;
mod requests;
mod simulation;

use std::time::Duration;

use self::simulation::{
    Life, Sim,
    world::{End, Nature},
};
use livmig_coord::driver::Start;
use livmig_engine::{
    outcome::Outcome,
    spec::{OnOverrun, Options},
};

/// Starts a migration with `options`.
fn start(options: Options) -> Start {
    Start::New(Box::new(Sim::spec(options).unwrap()))
}

const RESUME: Start = Start::Resume { request: None };

/// Resumes until the migration has ended for good; faults that are left strike, but a halt
/// disarms them, as the person would who repairs what is broken.
fn resume_to_the_end(sim: &Sim, mut life: Life) -> Outcome {
    for _ in 0..50 {
        match life {
            Life::Ended(Ok(outcome)) if outcome.is_final() => return outcome,
            // A person repairs what is broken; of a fault that hangs outside the downtime too.
            Life::Ended(Ok(Outcome::Halted { .. })) | Life::Stalled => sim.disarm(),
            Life::Ended(Ok(_)) | Life::Crashed => {}
            // Died before the plan was on record: there is nothing to resume.
            Life::Ended(Err(_)) if sim.records().is_empty() => {
                life = sim.live(start(Options::default()), |_| false);
                continue;
            }
            Life::Ended(Err(error)) => panic!("{error}: {:?}", std::error::Error::source(&error)),
        }
        life = sim.live(RESUME, |_| false);
    }
    panic!("no end after 50 lives: {:#?}", sim.records().last());
}

/// What must hold at every end.
fn assert_good_end(sim: &Sim, outcome: &Outcome, case: &str) {
    let world = sim.world();
    assert_eq!(world.violations, Vec::<String>::new(), "{case}");
    let expected = match outcome {
        Outcome::Completed => End::Destination,
        Outcome::Failed { .. } | Outcome::Refused { .. } | Outcome::RolledBack { .. } => {
            End::Source
        }
        Outcome::Halted { .. } | Outcome::Interrupted => panic!("{case}: not an end: {outcome:?}"),
    };
    assert_eq!(world.workload, Some(expected), "{case}: {outcome:?}");
    assert_eq!(world.binding, expected, "{case}");
    assert_eq!(world.movers, None, "{case}: movers are left behind");
    assert!(
        expected == End::Destination || !world.fenced,
        "{case}: the fence is left behind"
    );
}

fn ended(life: Life) -> Outcome {
    match life {
        Life::Ended(Ok(outcome)) => outcome,
        life => panic!("{life:?}"),
    }
}

/// A world whose passes never get short: each write costs as much to copy as to make.
fn diverging() -> Nature {
    Nature {
        write_every: Duration::from_millis(10),
        copy_time: Duration::from_millis(60),
        stop_time: Duration::from_millis(100),
        ..Nature::default()
    }
}

fn on_overrun(on_overrun: OnOverrun) -> Options {
    Options {
        max_downtime: Duration::from_secs(3),
        max_passes: 5,
        on_overrun,
        ..Options::default()
    }
}
