//! What a migration would leave out: refused while the workload runs, rolled back once it is stopped,
//! carried on with consent.

use std::collections::BTreeSet;

use crate::simulation::{Sim, world::Nature};
use livmig_engine::{
    outcome::Outcome,
    record::{Cause, Event},
    spec::Options,
    step::Step,
};
use livmig_proto::{
    control::{PassKind, Reason},
    ids::PassNumber,
};

use crate::{assert_good_end, ended, start};

/// A migration whose passes leave out what `reason` says from pass `from` on.
fn run(options: Options, reason: Reason, from: u32) -> (Sim, Outcome) {
    let sim = Sim::new(Nature::default(), Vec::new());
    sim.world().left_out = vec![(reason, PassNumber(from))];
    let outcome = ended(sim.live(start(options), |_| false));
    assert_good_end(&sim, &outcome, &format!("{reason} from pass {from}"));
    (sim, outcome)
}

fn was_asked_to_stop(sim: &Sim) -> bool {
    sim.records().iter().any(|record| {
        matches!(
            record.event,
            Event::Intent {
                step: Step::Quiesce
            }
        )
    })
}

/// The kinds of passes of a migration in which nothing happens.
fn kinds() -> Vec<PassKind> {
    let (sim, outcome) = run(Options::default(), Reason::Flags, 1);
    assert_eq!(outcome, Outcome::Completed);
    sim.records()
        .iter()
        .filter_map(|record| match record.event {
            Event::Intent {
                step: Step::Pass { kind, .. },
            } => Some(kind),
            _ => None,
        })
        .collect()
}

#[test]
fn from_whichever_pass_on_it_is_met_no_migration_ends_on_a_copy_that_lacks_something() {
    let kinds = kinds();
    assert!(kinds.len() >= 3, "{kinds:?}");
    let stop = kinds.iter().filter(|kind| **kind == PassKind::Live).count();
    for from in 1..=u32::try_from(kinds.len()).unwrap() {
        let (sim, outcome) = run(Options::default(), Reason::Mount, from);
        let (Outcome::Failed { cause } | Outcome::RolledBack { cause }) = &outcome else {
            panic!("from pass {from}: {outcome:?}");
        };
        assert!(matches!(cause, Cause::LeftOut { .. }), "{cause:?}");
        // Passes beside the stop may be live ones too: the final one looks again.
        let code = if was_asked_to_stop(&sim) { 4 } else { 3 };
        assert_eq!(outcome.exit_code().code(), code, "from pass {from}");
        assert!(from > 1 || !was_asked_to_stop(&sim));
        assert!(usize::try_from(from).unwrap() <= stop || was_asked_to_stop(&sim));
    }
}

#[test]
fn with_consent_it_completes_and_the_document_says_so() {
    let consenting = Options {
        leave_out: BTreeSet::from([Reason::Mount]),
        ..Options::default()
    };
    let (sim, outcome) = run(consenting, Reason::Mount, 1);
    assert_eq!(outcome, Outcome::Completed);
    let now = livmig_coord::driver::Clock::now(sim.clock());
    let document = livmig_engine::document::document(&sim.records(), now).unwrap();
    let document = serde_json::to_value(document).unwrap();
    assert_eq!(
        document["spec"]["options"]["leaveOut"],
        serde_json::json!(["mount"])
    );
    let volume = &document["status"]["volumes"][0];
    assert_eq!(volume["notCarried"], serde_json::json!({"mount": 1}));
    assert_eq!(volume["leftOut"][0]["consented"], true);
    assert_eq!(volume["leftOut"][0]["paths"], serde_json::json!(["a"]));
}

#[test]
fn consent_to_one_reason_is_none_to_another() {
    let consenting = Options {
        leave_out: BTreeSet::from([Reason::Mount]),
        ..Options::default()
    };
    let (sim, outcome) = run(consenting, Reason::LostFound, 1);
    assert_eq!(outcome.exit_code().code(), 3);
    assert!(!was_asked_to_stop(&sim));
}
