//! Each rule by itself, readable.

use std::time::Duration;

use livmig_proto::{control::PassKind, ids::PassNumber};

use super::{
    super::{Next, RequestRefusal, Whereabouts, state::State},
    explore::{success, verified},
    story::Story,
};
use crate::{
    outcome::Outcome,
    record::{Cause, Decision, Event},
    request::Request,
    result::{Probe, StepFailure, StepOutcome},
    step::Step,
};

/// A complete pass with these digests.
fn passed(step: Step, source: &str, destination: &str) -> StepOutcome {
    let mut outcome = success(step);
    let StepOutcome::Passed { reports } = &mut outcome else {
        panic!("{step} is no pass");
    };
    for volume in reports {
        source.clone_into(&mut volume.report.digest_source);
        destination.clone_into(&mut volume.report.digest_destination);
    }
    outcome
}

#[test]
fn at_least_two_live_passes_precede_the_final_one() {
    let story = Story::up_to("quiesce");
    let passes = story.machine.passes();
    assert_eq!(passes.len(), 2);
    assert!(passes.iter().all(|pass| pass.kind == PassKind::Live));
}

#[test]
fn no_switch_is_decided_on_a_pass_that_is_not_read_back() {
    let mut story = Story::up_to("live pass");
    let request = story.machine.request(Request::Switch).unwrap();
    story.tell(request);
    // However many there are, and whoever wishes for it.
    for _ in 0..4 {
        let step = story.intend();
        assert_eq!(step.word(), "live pass");
        let mut outcome = success(step);
        if let StepOutcome::Passed { reports } = &mut outcome {
            reports[0].report.read_back_left = true;
        }
        story.tell(Event::Outcome { step, outcome });
    }
    let step = story.intend();
    story.done(step);
    assert!(matches!(
        story.next(),
        Next::Record(Event::Decided {
            decision: Decision::Switch { .. }
        })
    ));
}

#[test]
fn a_migration_goes_through_its_steps_in_order() {
    let mut story = Story::new();
    let mut steps = Vec::new();
    let outcome = loop {
        match story.next() {
            Next::Perform(step) => {
                steps.push(step.word());
                story.intend();
                story.done(step);
            }
            Next::Record(event) => story.tell(event),
            Next::Finished(outcome) => break outcome,
            next => panic!("{next:?}"),
        }
    };
    assert_eq!(outcome, Outcome::Completed);
    assert_eq!(
        steps,
        [
            "check",
            "start movers",
            "live pass",
            "live pass",
            "quiesce",
            "fence",
            "final pass",
            "verify",
            "swap",
            "unquiesce",
            "settle"
        ]
    );
}

#[test]
fn a_stop_is_used_for_live_passes_once_it_has_lasted_for_two() {
    for (pass_takes, begins) in [(100, 2000), (1200, 2600)] {
        let mut story = Story::with_passes_of(Duration::from_millis(pass_takes), "quiesce");
        story.intend();
        let begun = (0..100)
            .map(|tenth| Duration::from_millis(100 * tenth))
            .find(|late| {
                let next = story.machine.next(story.now.after(*late));
                matches!(next, Next::Perform(Step::Pass { .. }))
            });
        assert_eq!(begun, Some(Duration::from_millis(begins)));
    }
}

#[test]
fn a_rollback_undoes_what_was_intended_in_the_order_the_workload_needs() {
    let mut story = Story::up_to("swap");
    let step = story.intend();
    story.fail(step, StepFailure::permanent("a webhook refuses the claim"));
    let Next::Record(decision) = story.next() else {
        panic!("{:?}", story.next());
    };
    story.tell(decision);
    let mut undos = Vec::new();
    while let Next::Perform(step) = story.next() {
        undos.push(step);
        story.intend();
        story.done(step);
    }
    assert_eq!(
        undos,
        [Step::Unswap, Step::Unfence, Step::Restart, Step::StopMovers]
    );
    let Next::Finished(outcome @ Outcome::RolledBack { .. }) = story.next() else {
        panic!("{:?}", story.next());
    };
    assert_eq!(outcome.exit_code().code(), 4);
    assert_eq!(story.machine.whereabouts(), Whereabouts::BackOnSource);
}

#[test]
fn a_failure_before_the_quiesce_leaves_the_workload_untouched() {
    let mut story = Story::up_to("live pass");
    let step = story.intend();
    story.fail(step, StepFailure::permanent("cannot read a/b"));
    while !matches!(story.next(), Next::Finished(_)) {
        match story.next() {
            Next::Record(event) => story.tell(event),
            Next::Perform(step) => {
                assert_eq!(step, Step::StopMovers);
                story.intend();
                story.done(step);
            }
            next => panic!("{next:?}"),
        }
    }
    let outcome = story.machine.outcome().unwrap();
    assert_eq!(outcome.exit_code().code(), 1);
    assert_eq!(story.machine.whereabouts(), Whereabouts::Untouched);
    assert_eq!(story.machine.downtime(), None);
}

#[test]
fn a_check_that_fails_refuses() {
    let mut story = Story::new();
    let step = story.intend();
    story.fail(step, StepFailure::permanent("the destination is full"));
    let Next::Record(event) = story.next() else {
        panic!("{:?}", story.next());
    };
    story.tell(event);
    let outcome = story.machine.outcome().unwrap();
    assert_eq!(outcome.exit_code().code(), 3);
    assert_eq!(outcome.reason().unwrap(), "the destination is full");
}

#[test]
fn a_takeover_makes_the_proof_anew() {
    for step in ["final pass", "verify"] {
        let mut story = Story::up_to(step);
        story.tell(Event::Adopted);
        assert!(matches!(story.machine.state(), State::Fencing(_)), "{step}");
        assert_eq!(story.next(), Next::Perform(Step::Fence));
    }
    // Even when everything was proven and only COMMIT was missing.
    let mut story = Story::up_to("verify");
    let step = story.intend();
    story.done(step);
    assert!(matches!(story.next(), Next::Record(Event::Commit { .. })));
    story.tell(Event::Adopted);
    assert_eq!(story.next(), Next::Perform(Step::Fence));
}

#[test]
fn a_takeover_ensures_the_movers_and_passes_before_it_switches() {
    // Even when the switch was decided.
    let mut story = Story::up_to("quiesce");
    story.tell(Event::Adopted);
    assert_eq!(
        story.machine.prediction(),
        story.machine.assessment().map(|now| now.prediction)
    );
    for expected in ["start movers", "live pass"] {
        let step = story.intend();
        assert_eq!(step.word(), expected);
        story.done(step);
    }
}

#[test]
fn a_takeover_after_the_budget_rolls_back_at_once() {
    let mut story = Story::up_to("final pass");
    story.now = story.now.after(Duration::from_mins(2));
    story.tell(Event::Adopted);
    assert!(
        matches!(
            story.next(),
            Next::Record(Event::Decided {
                decision: Decision::RollBack {
                    cause: Cause::Late { .. }
                }
            })
        ),
        "{:?}",
        story.next()
    );
}

#[test]
fn a_takeover_after_commit_goes_forward_however_late() {
    let mut story = Story::up_to("swap");
    story.now = story.now.after(Duration::from_hours(20));
    story.tell(Event::Adopted);
    assert_eq!(story.next(), Next::Perform(Step::Swap));
}

#[test]
fn what_was_in_doubt_is_probed_before_it_is_redone() {
    for step in ["live pass", "quiesce", "swap", "unquiesce", "settle"] {
        let mut story = Story::up_to(step);
        let step = story.intend();
        story.tell(Event::Adopted);
        assert_eq!(story.next(), Next::Probe(step));
        let mut done = Story {
            machine: story.machine.clone(),
            now: story.now,
        };
        story.tell(Event::Probed {
            step,
            found: Probe::NotDone,
        });
        done.tell(Event::Probed {
            step,
            found: Probe::Done {
                outcome: success(step),
            },
        });
        assert_ne!(done.next(), Next::Perform(step));
        assert_ne!(done.machine, story.machine);
    }
}

#[test]
fn volumes_that_differ_get_one_more_round_and_then_roll_back() {
    let mut story = Story::up_to("verify");
    for round in 0..2 {
        let step = story.intend();
        assert_eq!(step, Step::Verify, "round {round}");
        story.tell(Event::Outcome {
            step,
            outcome: verified("bb"),
        });
        let Next::Record(event) = story.next() else {
            panic!("{:?}", story.next());
        };
        story.tell(event);
        if round == 0 {
            // Movers are ensured, then the final pass again.
            for expected in ["start movers", "final pass"] {
                let step = story.intend();
                assert_eq!(step.word(), expected);
                story.done(step);
            }
        }
    }
    assert!(matches!(story.machine.state(), State::RollingBack { .. }));
}

#[test]
fn digests_that_are_empty_or_unequal_prove_nothing() {
    let commits = |source: &str, destination| {
        let mut story = Story::up_to("verify");
        let step = story.intend();
        let mut outcome = verified(destination);
        if let StepOutcome::Verified { volumes, .. } = &mut outcome {
            source.clone_into(&mut volumes[0].digest_source);
        }
        story.tell(Event::Outcome { step, outcome });
        matches!(story.next(), Next::Record(Event::Commit { .. }))
    };
    for (source, destination) in [("", ""), ("aa", ""), ("", "aa"), ("aa", "bb")] {
        assert!(!commits(source, destination), "{source:?} {destination:?}");
    }
    assert!(commits("aa", "aa"));
}

#[test]
fn a_live_pass_may_end_without_digests() {
    let mut story = Story::up_to("live pass");
    for _ in 0..2 {
        let step = story.intend();
        assert_eq!(step.word(), "live pass");
        let outcome = passed(step, "", "");
        story.tell(Event::Outcome { step, outcome });
        assert_eq!(story.machine.trouble(), None);
    }
    assert!(story.machine.passes().iter().all(|pass| pass.complete));
    assert!(
        matches!(
            story.next(),
            Next::Record(Event::Decided {
                decision: Decision::Switch { .. }
            })
        ),
        "{:?}",
        story.next()
    );
}

#[test]
fn a_final_pass_without_equal_digests_gets_one_more_round_and_then_rolls_back() {
    for (source, destination) in [("", ""), ("aa", ""), ("", "aa"), ("aa", "bb")] {
        let case = format!("{source:?} {destination:?}");
        let mut story = Story::up_to("final pass");
        for round in 0..2 {
            let step = story.intend();
            assert_eq!(step.word(), "final pass", "{case} round {round}");
            let outcome = passed(step, source, destination);
            story.tell(Event::Outcome { step, outcome });
            let trouble = story.machine.trouble().unwrap();
            assert!(trouble.contains("not proven equal"), "{case}: {trouble}");
            let Next::Record(event) = story.next() else {
                panic!("{case}: {:?}", story.next());
            };
            story.tell(event);
            if round == 0 {
                let step = story.intend();
                assert_eq!(step, Step::StartMovers, "{case}");
                story.done(step);
            }
        }
        assert!(
            matches!(story.machine.state(), State::RollingBack { .. }),
            "{case}"
        );
    }
}

#[test]
fn transient_failures_are_retried_with_pauses_and_a_bound() {
    let mut story = Story::up_to("live pass");
    let mut pauses = Vec::new();
    for _ in 0..20 {
        match story.next() {
            Next::Perform(step) if step == Step::StartMovers => {
                story.intend();
                story.done(step);
            }
            Next::Perform(step) => {
                story.intend();
                story.fail(step, StepFailure::transient("the connection was lost"));
            }
            Next::Await {
                until: Some(until), ..
            } => {
                pauses.push(until.since(story.now));
                story.now = until;
            }
            Next::Record(event) => {
                story.tell(event);
                break;
            }
            next => panic!("{next:?}"),
        }
    }
    assert!(matches!(story.machine.state(), State::RollingBack { .. }));
    assert_eq!(pauses.len(), 4);
    assert!(pauses.is_sorted(), "{pauses:?}");
    // No number was used twice.
    assert_eq!(story.machine.history.last_pass, Some(PassNumber(5)));
}

#[test]
fn requests_are_refused_with_the_reason() {
    let refused = |story: &Story, request| story.machine.request(request).unwrap_err();
    let swapping = Story::up_to("swap");
    assert_eq!(
        refused(&swapping, Request::Interrupt),
        RequestRefusal::Committed
    );
    assert_eq!(
        refused(&swapping, Request::Switch),
        RequestRefusal::Switching
    );
    assert!(swapping.machine.request(Request::RollBack).is_ok());

    let mut starting = Story::up_to("unquiesce");
    assert!(starting.machine.request(Request::RollBack).is_ok());
    starting.intend();
    assert_eq!(
        refused(&starting, Request::RollBack),
        RequestRefusal::PastReturn
    );
    assert_eq!(starting.machine.whereabouts(), Whereabouts::Starting);
}

#[test]
fn past_the_point_of_no_return_nothing_that_leads_back_is_accepted() {
    let mut story = Story::up_to("unquiesce");
    let step = story.intend();
    for _ in 0..2 {
        let events = [
            Event::Decided {
                decision: Decision::RollBack {
                    cause: Cause::Requested,
                },
            },
            Event::Intent { step: Step::Unswap },
            Event::Intent {
                step: Step::Restart,
            },
        ];
        for event in events {
            let record = story.machine.record(event, story.now);
            let mut trial = story.machine.clone();
            assert!(trial.apply(&record).is_err(), "{record:?}");
            assert_eq!(trial, story.machine);
        }
        // And not when the workload runs there, either.
        if story.machine.under_way().contains(&step) {
            story.done(step);
        }
    }
}

#[test]
fn an_unquiesce_that_fails_halts_and_never_goes_back() {
    let mut story = Story::up_to("unquiesce");
    let step = story.intend();
    story.fail(step, StepFailure::permanent("the start command fails"));
    let Next::Record(event) = story.next() else {
        panic!("{:?}", story.next());
    };
    story.tell(event);
    let outcome = story.machine.outcome().unwrap();
    assert_eq!(outcome.exit_code().code(), 5);
    assert_eq!(
        story.machine.request(Request::RollBack).unwrap_err(),
        RequestRefusal::AtRest
    );
    story.tell(Event::Adopted);
    assert_eq!(story.next(), Next::Perform(Step::Unquiesce));
    assert_eq!(
        story.machine.request(Request::RollBack).unwrap_err(),
        RequestRefusal::PastReturn
    );
}
