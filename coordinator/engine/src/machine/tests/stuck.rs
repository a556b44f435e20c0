//! What becomes of a migration whose way on is not there for a while, or is no way at all.

use std::time::Duration;

use super::{
    super::{Next, state::State},
    story::Story,
};
use crate::{record::Event, request::Request, result::StepFailure, spec::Target, step::Step};

/// How long a start that fails is tried on `target`, and how often.
fn tried(target: Option<Target>) -> (Duration, u32) {
    let mut story = Story::up_to("unquiesce");
    if let Some(target) = target {
        story.machine.spec.target = target;
    }
    let mut times = 0;
    let begun = story.now;
    loop {
        match story.next() {
            Next::Perform(step) => {
                story.intend();
                story.fail(step, StepFailure::transient("not now"));
                times += 1;
            }
            Next::Await {
                until: Some(until), ..
            } => story.now = until,
            Next::Record(event) => {
                story.tell(event);
                break;
            }
            next => panic!("{next:?}"),
        }
    }
    assert!(matches!(story.machine.state(), State::Halted { .. }));
    (story.now.since(begun), times)
}

#[test]
fn what_a_stopped_workload_on_a_cluster_waits_for_is_tried_for_minutes() {
    let cluster: Target = serde_json::from_value(serde_json::json!({
        "platform": "kubernetes", "namespace": "shop",
        "workload": {"kind": "StatefulSet", "name": "app", "uid": "s"},
        "claims": [], "mover": {"image": "i"},
    }))
    .unwrap();
    let (waited, _) = tried(Some(cluster));
    let minutes = Duration::from_mins(9)..Duration::from_mins(12);
    assert!(minutes.contains(&waited), "{waited:?}");
    // A command that fails on a host is a person's to mend.
    let (waited, times) = tried(None);
    assert!(waited < Duration::from_secs(10), "{waited:?}");
    assert_eq!(times, 5);
}

#[test]
fn a_way_back_that_might_lose_writes_is_left_by_a_resume() {
    let mut story = Story::up_to("unquiesce");
    let event = story.machine.request(Request::RollBack).unwrap();
    story.tell(event);
    while !matches!(story.next(), Next::Perform(Step::Unswap)) {
        let Next::Record(event) = story.next() else {
            panic!("{:?}", story.next());
        };
        story.tell(event);
    }
    let step = story.intend();
    story.fail(step, StepFailure::undecided("a pod ran on the new volume"));
    let Next::Record(event) = story.next() else {
        panic!("{:?}", story.next());
    };
    story.tell(event);
    assert!(matches!(story.machine.state(), State::Halted { .. }));
    story.tell(Event::Adopted);
    assert_eq!(story.next(), Next::Perform(Step::Swap));
    // Whoever asks again for the way back gets another answer only if something has changed.
    assert!(story.machine.request(Request::RollBack).is_ok());
}
