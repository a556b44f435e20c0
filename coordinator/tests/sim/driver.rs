//! What people can ask of a driver, and what it says when its journal fails.

use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use livmig_coord::{
    driver::{Handle, RequestError, Start},
    platform::sim::{
        Life, Sim,
        faults::{Effect, Fault},
        world::{End, Nature},
    },
};
use livmig_engine::{
    document::document,
    machine::{Refusal, Whereabouts},
    outcome::Outcome,
    phase::Phase,
    record::{Cause, Decision, Event},
    request::Request,
    result::FailureKind,
    spec::{OnOverrun, Options, SwitchMode},
    step::Step,
};

use crate::{RESUME, assert_good_end, resume_to_the_end, start};

/// A request on its way.
type Asking = Pin<Box<dyn Future<Output = Result<(), RequestError>>>>;

/// Sends a request without waiting for the answer.
fn ask(handle: &Handle, request: Request) -> Asking {
    let handle = handle.clone();
    let mut asking: Asking = Box::pin(async move { handle.request(request).await });
    let mut context = Context::from_waker(Waker::noop());
    assert!(asking.as_mut().poll(&mut context).is_pending());
    asking
}

/// Runs a migration and makes `request` once the phase is `phase`; gives the answer too.
fn ask_in_phase(
    sim: &Sim,
    options: Options,
    phase: &str,
    request: Request,
) -> (Life, Option<Result<(), RequestError>>) {
    let mut asking = None;
    let mut answer = None;
    let poll = |asking: &mut Option<Asking>, answer: &mut Option<_>| {
        if let Some(asking) = asking.as_mut().filter(|_| answer.is_none()) {
            let mut context = Context::from_waker(Waker::noop());
            if let Poll::Ready(said) = asking.as_mut().poll(&mut context) {
                *answer = Some(said);
            }
        }
    };
    let life = sim.live(start(options), |handle| {
        let status = handle.status();
        let seen = status.borrow().migration.as_ref().map(|now| now.phase);
        if asking.is_none() && seen.is_some_and(|seen| seen.name() == phase) {
            asking = Some(ask(handle, request));
        }
        poll(&mut asking, &mut answer);
        false
    });
    // The answer may have come with the end.
    poll(&mut asking, &mut answer);
    (life, answer)
}

fn ended(life: Life) -> Outcome {
    match life {
        Life::Ended(Ok(outcome)) => outcome,
        life => panic!("{life:?}"),
    }
}

#[test]
fn an_interrupt_before_the_downtime_is_resumable() {
    for phase in ["Preparing", "Precopy"] {
        let sim = Sim::new(Nature::default(), Vec::new());
        let (life, answer) = ask_in_phase(&sim, Options::default(), phase, Request::Interrupt);
        assert_eq!(answer, Some(Ok(())), "{phase}");
        let outcome = ended(life);
        assert_eq!(outcome, Outcome::Interrupted, "{phase}");
        assert_eq!(outcome.exit_code().code(), 130);
        assert_eq!(sim.world().workload, Some(End::Source));
        let resumed = resume_to_the_end(&sim, sim.live(RESUME, |_| false));
        assert_eq!(resumed, Outcome::Completed, "{phase}");
        assert_good_end(&sim, &resumed, phase);
    }
}

#[test]
fn an_interrupt_in_the_downtime_rolls_back() {
    for phase in ["Quiescing", "Fencing", "FinalPass", "Verifying"] {
        let sim = Sim::new(Nature::default(), Vec::new());
        let (life, answer) = ask_in_phase(&sim, Options::default(), phase, Request::Interrupt);
        assert_eq!(answer, Some(Ok(())), "{phase}");
        let outcome = ended(life);
        assert_eq!(
            outcome,
            Outcome::RolledBack {
                cause: Cause::Interrupted
            },
            "{phase}"
        );
        assert_eq!(outcome.exit_code().code(), 130);
        assert_good_end(&sim, &outcome, phase);
    }
}

#[test]
fn an_interrupt_after_commit_goes_forward() {
    for phase in ["Swapping", "Unquiescing", "Settling"] {
        let sim = Sim::new(Nature::default(), Vec::new());
        let (life, answer) = ask_in_phase(&sim, Options::default(), phase, Request::Interrupt);
        assert_eq!(answer, Some(Err(Refusal::Committed.into())), "{phase}");
        let outcome = ended(life);
        assert_eq!(outcome, Outcome::Completed, "{phase}");
        assert_good_end(&sim, &outcome, phase);
    }
}

#[test]
fn a_rollback_is_possible_until_the_point_of_no_return() {
    for (phase, code) in [
        ("Preparing", 1),
        ("Precopy", 1),
        ("Quiescing", 4),
        ("Fencing", 4),
        ("FinalPass", 4),
        ("Verifying", 4),
        ("Swapping", 4),
    ] {
        let sim = Sim::new(Nature::default(), Vec::new());
        let (life, answer) = ask_in_phase(&sim, Options::default(), phase, Request::RollBack);
        assert_eq!(answer, Some(Ok(())), "{phase}");
        let outcome = ended(life);
        assert_eq!(outcome.exit_code().code(), code, "{phase}: {outcome:?}");
        assert_good_end(&sim, &outcome, phase);
    }
    for phase in ["Unquiescing", "Settling"] {
        let sim = Sim::new(Nature::default(), Vec::new());
        let (life, answer) = ask_in_phase(&sim, Options::default(), phase, Request::RollBack);
        assert_eq!(answer, Some(Err(Refusal::PastReturn.into())), "{phase}");
        assert_eq!(ended(life), Outcome::Completed);
    }
}

#[test]
fn a_rollback_of_what_was_interrupted_or_halted_begins_with_the_resume() {
    let halting = Fault {
        step: "swap",
        occurrence: 0,
        times: 1,
        effect: Effect::FailAfter(FailureKind::Undecided),
    };
    let sim = Sim::new(Nature::default(), vec![halting]);
    let outcome = ended(sim.live(start(Options::default()), |_| false));
    assert_eq!(outcome.exit_code().code(), 5, "{outcome:?}");
    let rollback = Start::Resume {
        request: Some(Request::RollBack),
    };
    let outcome = ended(sim.live(rollback, |_| false));
    assert_eq!(
        outcome,
        Outcome::RolledBack {
            cause: Cause::Requested
        }
    );
    assert_good_end(&sim, &outcome, "halted");

    let again = Start::Resume {
        request: Some(Request::RollBack),
    };
    let life = sim.live(again, |_| false);
    assert!(
        matches!(&life, Life::Ended(Err(error)) if error.to_string().contains("already ended")),
        "{life:?}"
    );
}

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
        // A pass beside the stop takes longer than the stop itself.
        stop_time: Duration::from_secs(1),
        copy_time: Duration::from_millis(400),
        ..Nature::default()
    };
    let sim = Sim::new(nature, Vec::new());
    let options = Options {
        max_downtime: Duration::from_mins(10),
        ..Options::default()
    };
    let outcome = ended(sim.live(start(options), |_| false));
    assert_eq!(outcome, Outcome::Completed);
    let document = document(
        &sim.records(),
        livmig_coord::driver::Clock::now(sim.clock()),
    )
    .unwrap();
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
    let document = document(
        &sim.records(),
        livmig_coord::driver::Clock::now(sim.clock()),
    )
    .unwrap();
    let downtime = document.status.downtime_seconds.unwrap();
    assert!(downtime <= 60.0, "{downtime}");
    let terms: f64 = document.status.downtime_terms.values().sum();
    assert!((terms - downtime).abs() < 1e-6, "{terms} {downtime}");
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
fn a_question_waits_for_its_answer() {
    for (request, code) in [
        (Request::Proceed, 0),
        (Request::RollBack, 1),
        (Request::Interrupt, 130),
    ] {
        let sim = Sim::new(diverging(), Vec::new());
        let mut asking = None;
        let life = sim.live(start(on_overrun(OnOverrun::Ask)), |handle| {
            let status = handle.status();
            let asked = status
                .borrow()
                .migration
                .as_ref()
                .is_some_and(|now| now.question.is_some());
            if asked && asking.is_none() {
                asking = Some(ask(handle, request));
            }
            false
        });
        let outcome = ended(life);
        assert_eq!(outcome.exit_code().code(), code, "{request:?}: {outcome:?}");
    }
}

#[test]
fn a_switch_on_request_waits_for_it() {
    let options = Options {
        switch: SwitchMode::OnRequest,
        ..Options::default()
    };
    let sim = Sim::new(Nature::default(), Vec::new());
    let mut asking = None;
    let life = sim.live(start(options), |handle| {
        let status = handle.status();
        let passes = status
            .borrow()
            .migration
            .as_ref()
            .map_or(0, |now| now.passes.len());
        if passes == 6 && asking.is_none() {
            asking = Some(ask(handle, Request::Switch));
        }
        false
    });
    let outcome = ended(life);
    assert_eq!(outcome, Outcome::Completed);
    assert!(asking.is_some());
    assert_good_end(&sim, &outcome, "on request");
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
