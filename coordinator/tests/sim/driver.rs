//! What a driver does beside the steps: budgets, passes beside a stop, a journal that fails.

use std::{error::Error, time::Duration};

use crate::simulation::{
    Life, Sim,
    faults::{Effect, Fault},
    world::{End, Nature},
};
use livmig_coord::driver::Clock as _;
use livmig_engine::{
    document::document,
    machine::Whereabouts,
    outcome::Outcome,
    phase::Phase,
    record::{Cause, Decision, Event},
    result::StepOutcome,
    spec::{OnOverrun, Options},
    step::Step,
};

use crate::{RESUME, assert_good_end, diverging, ended, on_overrun, resume_to_the_end, start};

#[test]
fn a_journal_that_cannot_be_written_stops_everything_and_says_where_the_workload_is() {
    for appends in 0.. {
        let sim = Sim::new(Nature::default(), Vec::new());
        sim.journal().fail_after(Some(appends));
        let life = sim.live(start(Options::default()), |_| false);
        let error = match life {
            Life::Ended(Ok(outcome)) => {
                assert_eq!(outcome, Outcome::Completed);
                assert!(appends > 20, "a migration has more than {appends} records");
                return;
            }
            Life::Ended(Err(error)) => error,
            life => panic!("{life:?}"),
        };
        let text = error.to_string();
        assert!(text.contains("livmig-coord resume sim"), "{text}");
        assert!(error.source().unwrap().to_string().contains("no space"));
        let workload = sim.world().workload;
        if text.contains(&Whereabouts::Untouched.to_string()) {
            assert_eq!(workload, Some(End::Source), "{text}");
        }
        if text.contains(&Whereabouts::OnDestination.to_string()) {
            assert_eq!(workload, Some(End::Destination), "{text}");
        }
        assert_eq!(sim.records().len(), usize::try_from(appends).unwrap());
        sim.journal().fail_after(None);
        if sim.records().is_empty() {
            continue;
        }
        let outcome = resume_to_the_end(&sim, sim.live(RESUME, |_| false));
        assert_good_end(&sim, &outcome, &format!("append {appends} failed"));
    }
}

#[test]
fn live_passes_go_on_beside_a_slow_stop() {
    let nature = Nature {
        stop_time: Duration::from_secs(10),
        ..Nature::default()
    };
    let sim = Sim::new(nature, Vec::new());
    let outcome = ended(sim.live(start(Options::default()), |_| false));
    assert_eq!(outcome, Outcome::Completed);
    let records = sim.records();
    let at = |wanted: &dyn Fn(&Event) -> bool| {
        records
            .iter()
            .position(|record| wanted(&record.event))
            .unwrap()
    };
    let stop = at(&|event| {
        *event
            == Event::Intent {
                step: Step::Quiesce,
            }
    });
    let stopped =
        at(&|event| matches!(event, Event::Outcome { step, .. } if *step == Step::Quiesce));
    let beside = records[stop..stopped]
        .iter()
        .filter(|record| {
            matches!(
                record.event,
                Event::Intent {
                    step: Step::Pass { .. }
                }
            )
        })
        .count();
    assert!(beside >= 2, "{beside} passes beside a stop of ten seconds");
}

#[test]
fn a_pass_that_is_under_way_when_the_workload_has_stopped_is_cut_short() {
    let nature = Nature {
        // The last pass before the stop takes 21 s, so that one begins when the stop has lasted for
        // 42 s, and takes longer than what is left of it.
        stop_time: Duration::from_mins(1),
        copy_time: Duration::from_millis(200),
        ..Nature::default()
    };
    let sim = Sim::new(nature, Vec::new());
    let options = Options {
        max_downtime: Duration::from_mins(10),
        ..Options::default()
    };
    let outcome = ended(sim.live(start(options), |_| false));
    assert_eq!(outcome, Outcome::Completed);
    let document = document(&sim.records(), sim.clock().now()).unwrap();
    let passes = &document.status.passes;
    assert!(
        passes.iter().any(|pass| !pass.complete),
        "no pass was cut short: {passes:?}"
    );
    assert!(passes.last().unwrap().complete);
    assert_good_end(&sim, &outcome, "cut short");
}

#[test]
fn a_stop_that_hangs_is_rolled_back_within_the_budget() {
    let hang = Fault {
        step: "quiesce",
        occurrence: 0,
        times: 1,
        effect: Effect::Hang,
    };
    let sim = Sim::new(Nature::default(), vec![hang]);
    let outcome = ended(sim.live(start(Options::default()), |_| false));
    assert!(
        matches!(
            outcome,
            Outcome::RolledBack {
                cause: Cause::Late { .. }
            }
        ),
        "{outcome:?}"
    );
    assert_good_end(&sim, &outcome, "hanging stop");
    let document = document(&sim.records(), sim.clock().now()).unwrap();
    let downtime = document.status.downtime_seconds.unwrap();
    assert!(downtime <= 60.0, "{downtime}");
    let terms: f64 = document.status.downtime_terms.values().sum();
    assert!((terms - downtime).abs() < 1e-6, "{terms} {downtime}");
}

#[test]
fn a_budget_that_cannot_be_met_aborts_and_leaves_the_workload_alone() {
    let sim = Sim::new(diverging(), Vec::new());
    let outcome = ended(sim.live(start(on_overrun(OnOverrun::Abort)), |_| false));
    assert!(
        matches!(
            outcome,
            Outcome::Failed {
                cause: Cause::Overrun { .. }
            }
        ),
        "{outcome:?}"
    );
    assert_eq!(outcome.exit_code().code(), 1);
    assert!(outcome.reason().unwrap().contains("budget"), "{outcome:?}");
    assert_good_end(&sim, &outcome, "abort");
    let records = sim.records();
    assert!(!records.iter().any(|record| record.event
        == Event::Intent {
            step: Step::Quiesce
        }));
}

#[test]
fn a_budget_that_cannot_be_met_is_exceeded_when_accepted() {
    let sim = Sim::new(diverging(), Vec::new());
    let outcome = ended(sim.live(start(on_overrun(OnOverrun::Proceed)), |_| false));
    assert_eq!(outcome, Outcome::Completed);
    assert_good_end(&sim, &outcome, "proceed");
}

#[test]
fn somebody_who_restarts_the_workload_between_two_coordinators_is_noticed() {
    let crash = Fault {
        step: "final pass",
        occurrence: 0,
        times: 1,
        effect: Effect::CrashAfter,
    };
    let sim = Sim::new(Nature::default(), vec![crash]);
    let life = sim.live(start(Options::default()), |_| false);
    assert!(matches!(life, Life::Crashed));
    sim.world().start_workload();
    sim.clock().skip(Duration::from_secs(5));
    let outcome = resume_to_the_end(&sim, life);
    assert!(matches!(outcome, Outcome::RolledBack { .. }), "{outcome:?}");
    assert_good_end(&sim, &outcome, "restarted behind the back");
}

#[test]
fn writes_between_two_coordinators_are_not_lost() {
    let crash = Fault {
        step: "verify",
        occurrence: 0,
        times: 1,
        effect: Effect::CrashAfter,
    };
    let sim = Sim::new(Nature::default(), vec![crash]);
    let life = sim.live(start(Options::default()), |_| false);
    sim.world().start_workload();
    sim.clock().skip(Duration::from_secs(5));
    sim.world().stop_workload();
    let outcome = resume_to_the_end(&sim, life);
    assert_eq!(outcome, Outcome::Completed);
    assert_good_end(&sim, &outcome, "wrote behind the back");
}

#[test]
fn the_status_follows_the_machine() {
    let sim = Sim::new(Nature::default(), Vec::new());
    let mut phases: Vec<&'static str> = Vec::new();
    let life = sim.live(start(Options::default()), |handle| {
        let status = handle.status();
        let seen: Option<Phase> = status.borrow().migration.as_ref().map(|now| now.phase);
        if let Some(seen) = seen
            && phases.last() != Some(&seen.name())
        {
            phases.push(seen.name());
        }
        false
    });
    assert_eq!(ended(life), Outcome::Completed);
    assert_eq!(
        phases,
        [
            "Planned",
            "Preparing",
            "Precopy",
            "Quiescing",
            "Fencing",
            "FinalPass",
            "Verifying",
            "Swapping",
            "Unquiescing",
            "Settling"
        ]
    );
    let decided = sim
        .records()
        .into_iter()
        .find_map(|record| match record.event {
            Event::Decided {
                decision: Decision::Switch { prediction },
            } => Some(prediction),
            _ => None,
        });
    assert!(decided.unwrap().total().expected > 0.0);
}

#[test]
fn live_passes_during_which_something_vanished_are_good_passes() {
    let sim = Sim::new(
        Nature {
            write_every: Duration::from_millis(5),
            copy_time: Duration::from_millis(2),
            ..Nature::default()
        },
        Vec::new(),
    );
    let outcome = ended(sim.live(start(Options::default()), |_| false));
    assert_eq!(outcome, Outcome::Completed);
    assert_good_end(&sim, &outcome, "vanished");
    let records = sim.records();
    let reports = records.iter().filter_map(|record| match &record.event {
        Event::Outcome {
            outcome: StepOutcome::Passed { reports },
            ..
        } => Some(&reports[0].report),
        _ => None,
    });
    let without_digests = reports.filter(|report| {
        report.complete && !report.read_back_left && report.digest_source.is_empty()
    });
    assert!(without_digests.count() > 0);
    // After a pass that failed, the movers would have been ensured again.
    let ensured = records.iter().filter(|record| {
        matches!(
            record.event,
            Event::Intent {
                step: Step::StartMovers
            }
        )
    });
    assert_eq!(ensured.count(), 1);
}
