//! What people can ask of a driver, and when.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use crate::simulation::{
    Life, Sim,
    faults::{Effect, Fault},
    world::{End, Nature},
};
use livmig_coord::driver::{Handle, RequestError, Start};
use livmig_engine::{
    machine::RequestRefusal,
    outcome::Outcome,
    record::{Cause, Event},
    request::Request,
    result::FailureKind,
    spec::{OnOverrun, Options, SwitchMode},
    step::Step,
};
use livmig_proto::ids::PassNumber;

use crate::{RESUME, assert_good_end, diverging, ended, on_overrun, resume_to_the_end, start};

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
        assert_eq!(
            answer,
            Some(Err(RequestRefusal::Committed.into())),
            "{phase}"
        );
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
        assert_eq!(
            answer,
            Some(Err(RequestRefusal::PastReturn.into())),
            "{phase}"
        );
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
fn a_rollback_does_not_wait_for_a_probe() {
    // The pass that is probed runs on for a long time.
    let nature = Nature {
        copy_time: Duration::from_mins(10),
        ..Nature::default()
    };
    let sim = Sim::new(nature, Vec::new());
    let mut polls = 0;
    // Died while the pass runs.
    let life = sim.live(start(Options::default()), |handle| {
        let status = handle.status();
        polls += u32::from(
            status
                .borrow()
                .migration
                .as_ref()
                .is_some_and(|now| now.steps.contains(&Step::live(PassNumber::FIRST))),
        );
        polls == 3
    });
    assert!(matches!(life, Life::Crashed));
    let mut asking = None;
    let life = sim.live(RESUME, |handle| {
        // Taken over; the probe is what comes next.
        let taken_over = sim
            .records()
            .last()
            .is_some_and(|record| record.event == Event::Adopted);
        if taken_over && asking.is_none() {
            asking = Some(ask(handle, Request::RollBack));
        }
        false
    });
    assert!(asking.is_some());
    let outcome = ended(life);
    assert_eq!(
        outcome,
        Outcome::Failed {
            cause: Cause::Requested
        }
    );
    assert_good_end(&sim, &outcome, "rolled back beside a probe");
    let probed = sim
        .records()
        .iter()
        .any(|record| matches!(record.event, Event::Probed { .. }));
    assert!(!probed, "the probe was waited for");
}
