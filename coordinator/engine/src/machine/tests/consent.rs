//! What becomes of a migration that would leave something out.

use std::collections::{BTreeMap, BTreeSet};

use livmig_proto::control::{PassKind, Reason};

use super::{
    super::{Next, Whereabouts},
    explore::{leaving, success},
    story::Story,
};
use crate::{
    outcome::{Outcome, Standing},
    record::{Cause, Decision, Event},
    request::Request,
    step::Step,
};

#[test]
fn what_nobody_consented_to_is_refused_before_anything_is_stopped() {
    let mut story = Story::up_to("live pass");
    let step = story.intend();
    let Step::Pass { number, kind } = step else {
        panic!("{step}");
    };
    let outcome = leaving(number, kind, &[Reason::Mount, Reason::Flags]);
    story.tell(Event::Outcome { step, outcome });
    // Nobody can wish it away.
    let event = story.machine.request(Request::Switch).unwrap();
    story.tell(event);
    let Next::Record(event) = story.next() else {
        panic!("{:?}", story.next());
    };
    let reasons = BTreeMap::from([(Reason::Mount, 1)]);
    let cause = Cause::LeftOut { reasons };
    assert_eq!(
        event,
        Event::Decided {
            decision: Decision::RollBack {
                cause: cause.clone()
            }
        }
    );
    story.tell(event);
    let step = story.intend();
    assert_eq!(step, Step::StopMovers);
    story.done(step);
    let Next::Finished(outcome) = story.next() else {
        panic!("{:?}", story.next());
    };
    assert_eq!(outcome, Outcome::Failed { cause });
    assert_eq!(outcome.exit_code().code(), 3);
    assert_eq!(outcome.standing(), Standing::Refused);
    assert_eq!(story.machine.whereabouts(), Whereabouts::Untouched);
}

#[test]
fn what_a_final_pass_is_first_to_leave_out_rolls_back() {
    let mut story = Story::up_to("final pass");
    let step = story.intend();
    let Step::Pass { number, kind } = step else {
        panic!("{step}");
    };
    let outcome = leaving(number, kind, &[Reason::LostFound]);
    story.tell(Event::Outcome { step, outcome });
    let outcome = loop {
        match story.next() {
            Next::Record(event) => story.tell(event),
            Next::Perform(step) => {
                assert_ne!(step, Step::Verify);
                story.intend();
                story.done(step);
            }
            Next::Finished(outcome) => break outcome,
            next => panic!("{next:?}"),
        }
    };
    assert_eq!(outcome.exit_code().code(), 4);
    let reason = outcome.reason().unwrap();
    assert!(reason.contains("lost-found (1)"), "{reason}");
    assert_eq!(story.machine.whereabouts(), Whereabouts::BackOnSource);
}

#[test]
fn slight_reasons_and_those_with_consent_refuse_nothing() {
    let mut story = Story::up_to("live pass");
    let consent = BTreeSet::from([Reason::Mount]);
    story.machine.spec.options.leave_out = consent;
    let outcome = loop {
        match story.next() {
            Next::Record(event) => story.tell(event),
            Next::Perform(step) => {
                story.intend();
                let outcome = match step {
                    Step::Pass { number, kind } => {
                        leaving(number, kind, &[Reason::Mount, Reason::Flags])
                    }
                    _ => success(step),
                };
                story.tell(Event::Outcome { step, outcome });
            }
            Next::Finished(outcome) => break outcome,
            next => panic!("{next:?}"),
        }
    };
    assert_eq!(outcome, Outcome::Completed);
}

#[test]
fn what_a_pass_beside_the_stop_leaves_out_is_looked_at_again() {
    let mut story = Story::up_to("quiesce");
    let stop = story.intend();
    let number = story.machine.history.next_pass();
    let step = Step::live(number);
    story.tell(Event::Intent { step });
    let outcome = leaving(number, PassKind::Live, &[Reason::Mount]);
    story.tell(Event::Outcome { step, outcome });
    story.done(stop);
    for expected in ["fence", "final pass", "verify"] {
        let step = story.intend();
        assert_eq!(step.word(), expected);
        story.done(step);
    }
    assert!(matches!(story.next(), Next::Record(Event::Commit { .. })));
}

#[test]
fn a_resume_looks_again_before_it_refuses() {
    let mut story = Story::up_to("live pass");
    let step = story.intend();
    let Step::Pass { number, kind } = step else {
        panic!("{step}");
    };
    let outcome = leaving(number, kind, &[Reason::Mount]);
    story.tell(Event::Outcome { step, outcome });
    story.tell(Event::Adopted);
    for expected in ["start movers", "live pass", "quiesce"] {
        while let Next::Record(event) = story.next() {
            story.tell(event);
        }
        let step = story.intend();
        assert_eq!(step.word(), expected);
        story.done(step);
    }
}
