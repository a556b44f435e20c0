//! Death at every instant: the driver is dropped after every single poll in turn.

use std::time::Duration;

use crate::simulation::{
    Life, Sim,
    faults::{Effect, Fault},
    world::Nature,
};
use livmig_engine::{machine::Machine, outcome::Outcome, result::FailureKind, spec::Options};

use crate::{RESUME, assert_good_end, resume_to_the_end, start};

/// Lets the first coordinator die after `polls` polls; false when it had ended by then.
fn die_after(sim: &Sim, polls: u32) -> (Life, bool) {
    let mut left = polls;
    let life = sim.live(start(Options::default()), |_| {
        left = left.saturating_sub(1);
        left == 0
    });
    let died = matches!(life, Life::Crashed);
    (life, died)
}

fn die_at_every_poll(faults: &[Fault], probes_know: bool) {
    for polls in 1.. {
        assert!(polls < 10_000, "the migration never ends");
        let nature = Nature {
            probes_know,
            ..Nature::default()
        };
        let sim = Sim::new(nature, faults.to_vec());
        let (life, died) = die_after(&sim, polls);
        if !died {
            assert!(polls > 50, "too few instants: {polls}");
            return;
        }
        if sim.records().is_empty() {
            continue;
        }
        let outcome = resume_to_the_end(&sim, life);
        assert_good_end(
            &sim,
            &outcome,
            &format!("death at poll {polls} with {faults:?}"),
        );
    }
}

#[test]
fn a_coordinator_may_die_at_any_instant_of_a_migration() {
    die_at_every_poll(&[], true);
    die_at_every_poll(&[], false);
}

#[test]
fn a_coordinator_may_die_at_any_instant_of_a_rollback() {
    let fault = |step| Fault {
        step,
        occurrence: 0,
        times: 1,
        effect: Effect::FailAfter(FailureKind::Permanent),
    };
    for step in ["quiesce", "verify", "swap"] {
        die_at_every_poll(&[fault(step)], true);
        die_at_every_poll(&[fault(step)], false);
    }
}

#[test]
fn a_coordinator_and_its_successor_may_die_at_any_instant() {
    // Every pair of instants on a grid: the first death at every seventh poll, the second at
    // every poll after it.
    for first in (1..2000).step_by(7) {
        let sim = Sim::new(Nature::default(), Vec::new());
        let (_, died) = die_after(&sim, first);
        if !died {
            return;
        }
        if sim.records().is_empty() {
            continue;
        }
        drop(sim);
        for second in 1..2000 {
            let sim = Sim::new(Nature::default(), Vec::new());
            die_after(&sim, first);
            let mut left = second;
            let life = sim.live(RESUME, |_| {
                left -= 1;
                left == 0
            });
            let died = matches!(life, Life::Crashed);
            let outcome = resume_to_the_end(&sim, life);
            assert_good_end(&sim, &outcome, &format!("deaths at {first} and {second}"));
            if !died {
                break;
            }
        }
    }
    panic!("the first death never came too late");
}

#[test]
fn ten_minutes_between_two_coordinators_exhaust_the_budget_but_lose_nothing() {
    for polls in 1.. {
        let sim = Sim::new(Nature::default(), Vec::new());
        let (life, died) = die_after(&sim, polls);
        if !died {
            return;
        }
        if sim.records().is_empty() {
            continue;
        }
        let machine = Machine::replay(&sim.records()).unwrap();
        let in_downtime = machine.state().is_uncommitted_downtime();
        sim.clock().skip(Duration::from_mins(10));
        let outcome = resume_to_the_end(&sim, life);
        assert_good_end(&sim, &outcome, &format!("ten minutes after poll {polls}"));
        if in_downtime {
            assert_eq!(outcome.exit_code().code(), 4, "poll {polls}: {outcome:?}");
        } else {
            assert_eq!(outcome, Outcome::Completed, "poll {polls}");
        }
    }
}
