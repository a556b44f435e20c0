//! What holds of every history.

use std::{collections::BTreeSet, time::Duration};

use livmig_proto::{
    control::{PassKind, unconsented},
    ids::{Epoch, PassNumber},
};
use proptest::{collection::vec, prelude::*, sample::Index};

use super::{
    super::{Machine, Next, state::State},
    explore::{REQUESTS, after, all_options, explore, planned, possible, proof, success, verified},
};
use crate::{
    outcome::Outcome,
    record::{Cause, Decision, Event, Record},
    request::Request,
    result::{Probe, StepFailure, StepOutcome},
    spec::Options,
    step::Step,
    time::Timestamp,
};

/// A history that the machine itself led to: at each point one of all possible events.
pub(crate) fn led() -> impl Strategy<Value = Vec<Record>> {
    (0..all_options().len(), vec(choice(), 0..80)).prop_map(|(options, choices)| {
        let mut records = vec![planned(all_options()[options].clone())];
        let mut machine = Machine::replay(&records).unwrap();
        for choice in choices {
            let mut events = possible(&machine);
            if events.is_empty() {
                break;
            }
            let (at, event) = events.swap_remove(chosen(choice, events.len()));
            let record = machine.record(event, at);
            machine.apply(&record).unwrap();
            records.push(record);
        }
        records
    })
}

/// Which of the possible events: mostly the first, with which things go well, so that histories
/// come far.
fn choice() -> impl Strategy<Value = Option<Index>> {
    prop_oneof![8 => Just(None), 1 => any::<Index>().prop_map(Some)]
}

fn chosen(choice: Option<Index>, among: usize) -> usize {
    choice.map_or(0, |index| index.index(among))
}

/// Events of every kind, most of them illegal anywhere.
fn any_event() -> impl Strategy<Value = Event> {
    let pass = (1u32..6, any::<bool>()).prop_map(|(number, live)| Step::Pass {
        number: PassNumber(number),
        kind: if live {
            PassKind::Live
        } else {
            PassKind::Final
        },
    });
    let step = prop_oneof![
        Just(Step::Check),
        Just(Step::StartMovers),
        pass,
        Just(Step::Quiesce),
        Just(Step::Fence),
        Just(Step::Verify),
        Just(Step::Swap),
        Just(Step::Unquiesce),
        Just(Step::Settle),
        Just(Step::Unswap),
        Just(Step::Unfence),
        Just(Step::Restart),
        Just(Step::StopMovers),
    ];
    let volumes = match verified("aa") {
        StepOutcome::Verified { volumes, .. } => volumes,
        _ => Vec::new(),
    };
    let failure = StepFailure::transient("it went wrong");
    prop_oneof![
        8 => step.clone().prop_map(|step| Event::Intent { step }),
        8 => step.clone().prop_map(|step| Event::Outcome { step, outcome: success(step) }),
        1 => step.clone().prop_map(|step| Event::Outcome { step, outcome: StepOutcome::Done }),
        2 => step.clone().prop_map({
            let failure = failure.clone();
            move |step| Event::Failure { step, failure: failure.clone() }
        }),
        2 => step.clone().prop_map(|step| Event::Probed {
            step,
            found: Probe::Done { outcome: success(step) },
        }),
        1 => step.clone().prop_map(|step| Event::Abandoned { step }),
        1 => Just(Event::Adopted),
        1 => (0..REQUESTS.len()).prop_map(|index| Event::Requested { request: REQUESTS[index] }),
        2 => Just(Event::Decided { decision: Decision::Switch { prediction: Box::default() } }),
        1 => Just(Event::Decided { decision: Decision::RollBack { cause: Cause::Requested } }),
        1 => step.prop_map(move |step| Event::Decided {
            decision: Decision::Halt { step, failure: failure.clone() },
        }),
        1 => Just(Event::Decided { decision: Decision::Interrupt }),
        1 => Just(Event::Decided { decision: Decision::AnotherRound }),
        2 => Just(Event::Commit { volumes, proof: proof() }),
    ]
}

/// The rules about order that no history may break.
fn assert_order(records: &[Record]) {
    let mut committed = false;
    let mut returning = true;
    for record in records {
        match &record.event {
            Event::Commit { .. } => committed = true,
            Event::Intent { step } => {
                if matches!(step, Step::Swap | Step::Unquiesce) {
                    assert!(committed, "{step} without COMMIT: {records:#?}");
                }
                if matches!(step, Step::Restart | Step::Unswap | Step::Unfence) {
                    assert!(
                        returning,
                        "{step} after the point of no return: {records:#?}"
                    );
                }
                if *step == Step::Unquiesce {
                    returning = false;
                }
            }
            Event::Decided {
                decision: Decision::RollBack { .. },
            } => assert!(
                returning,
                "rolled back after the point of no return: {records:#?}"
            ),
            _ => {}
        }
    }
}

/// The workload is asked to stop, and a commit recorded, only after a complete pass that left out
/// nothing but what was consented to or is slight.
fn assert_consent(records: &[Record]) {
    let Event::Planned { spec } = &records[0].event else {
        panic!("{records:#?}");
    };
    let mut missing = BTreeSet::new();
    for record in records {
        match &record.event {
            Event::Outcome {
                outcome: StepOutcome::Passed { reports },
                ..
            }
            | Event::Probed {
                found:
                    Probe::Done {
                        outcome: StepOutcome::Passed { reports },
                    },
                ..
            } if reports.iter().all(|volume| volume.report.complete) => {
                let left = reports.iter().flat_map(|volume| &volume.report.left_out);
                missing = unconsented(left, &spec.options.leave_out);
            }
            Event::Intent {
                step: Step::Quiesce,
            } if !records
                .iter()
                .any(|earlier| earlier.seq < record.seq && earlier.event == record.event) =>
            {
                assert!(missing.is_empty(), "{missing:?}: {records:#?}");
            }
            Event::Commit { .. } => assert!(missing.is_empty(), "{missing:?}: {records:#?}"),
            _ => {}
        }
    }
}

/// Goes on with nothing but successes until the machine is at rest for good.
fn finish(mut machine: Machine) -> Outcome {
    for _ in 0..300 {
        let soon = machine.last_at().after(Duration::from_millis(10));
        let (at, event) = match machine.next(soon) {
            Next::Finished(outcome) if outcome.is_final() => return outcome,
            Next::Finished(_) => (soon, Event::Adopted),
            Next::Perform(step) => (soon, Event::Intent { step }),
            Next::Record(event) => (soon, event),
            Next::Abandon(step) => (soon, Event::Abandoned { step }),
            Next::Probe(step) => (
                soon,
                Event::Probed {
                    step,
                    found: Probe::NotDone,
                },
            ),
            Next::Ask(_) => (soon, machine.request(Request::Proceed).unwrap()),
            Next::Await { until, .. } => {
                if let Some(step) = machine.under_way().first() {
                    let outcome = success(*step);
                    (
                        soon,
                        Event::Outcome {
                            step: *step,
                            outcome,
                        },
                    )
                } else {
                    // A pause: only time or a person ends it.
                    let until = until.expect("waiting for nothing");
                    match machine.next(until) {
                        Next::Perform(step) => (until, Event::Intent { step }),
                        Next::Record(event) => (until, event),
                        Next::Probe(step) => (
                            until,
                            Event::Probed {
                                step,
                                found: Probe::NotDone,
                            },
                        ),
                        next => panic!("a pause that leads to {next:?}"),
                    }
                }
            }
        };
        machine = after(&machine, at, event);
        // Keeps passing until somebody decides: decide.
        if machine.passes().len() > 40
            && let Ok(roll_back) = machine.request(Request::RollBack)
        {
            machine = after(&machine, at, roll_back);
        }
    }
    panic!("no end: {machine:#?}");
}

proptest! {
    #[test]
    fn every_prefix_replays_to_the_same_machine(records in led()) {
        let mut machine = Machine::replay(&records[..1]).unwrap();
        for length in 1..=records.len() {
            if length > 1 {
                machine.apply(&records[length - 1]).unwrap();
            }
            let replayed = Machine::replay(&records[..length]).unwrap();
            prop_assert_eq!(&replayed, &machine);
            for now in [0, 1_000_000, u64::MAX] {
                prop_assert_eq!(replayed.next(Timestamp(now)), machine.next(Timestamp(now)));
            }
        }
        assert_order(&records);
        assert_consent(&records);
    }

    #[test]
    fn records_survive_their_encoding(records in led()) {
        for record in &records {
            let line = record.encode().unwrap();
            prop_assert!(!line.contains('\n'));
            prop_assert_eq!(&Record::decode(&line).unwrap(), record);
        }
    }

    #[test]
    fn from_everywhere_successes_lead_to_an_end(records in led()) {
        let outcome = finish(Machine::replay(&records).unwrap());
        prop_assert!(outcome.is_final());
    }

    #[test]
    fn no_events_in_any_order_break_the_rules(
        options in 0..all_options().len(),
        led in vec(choice(), 0..40),
        events in vec(any_event(), 0..200),
    ) {
        // From some reachable point on, anything that is offered and accepted.
        let mut records = vec![planned(all_options()[options].clone())];
        let mut machine = Machine::replay(&records).unwrap();
        for choice in led {
            let mut all = possible(&machine);
            if all.is_empty() {
                break;
            }
            let (at, event) = all.swap_remove(chosen(choice, all.len()));
            let record = machine.record(event, at);
            machine.apply(&record).unwrap();
            records.push(record);
        }
        for event in events {
            let record = machine.record(event, machine.last_at());
            let before = machine.clone();
            if machine.apply(&record).is_ok() {
                records.push(record);
            } else {
                prop_assert_eq!(&machine, &before);
            }
        }
        assert_order(&records);
        let _ = machine.next(machine.last_at());
    }

    #[test]
    fn a_record_out_of_place_is_refused(records in led(), index in any::<Index>()) {
        let machine = Machine::replay(&records).unwrap();
        let good = machine.record(Event::Adopted, machine.last_at());
        let refused = |record: Record| {
            let mut trial = machine.clone();
            trial.apply(&record).is_err() && trial == machine
        };
        let seq = good.seq;
        prop_assert!(refused(Record { seq: seq + 1, ..good.clone() }), "a gap");
        prop_assert!(refused(Record { seq: seq - 1, ..good.clone() }), "a repetition");
        prop_assert!(refused(Record { schema: 2, ..good.clone() }), "a newer schema");
        prop_assert!(refused(Record { epoch: Epoch(good.epoch.0 + 1), ..good.clone() }), "an epoch skipped");
        prop_assert!(refused(Record { epoch: Epoch(good.epoch.0 - 1), ..good }), "an old epoch");
        // Any record of the history again.
        let again = index.get(&records).clone();
        prop_assert!(refused(again));
    }
}

#[test]
fn from_every_reachable_situation_successes_lead_to_an_end() {
    // The other options differ in one decision only, and random histories go through them.
    for index in [0, 3] {
        let situations = explore(all_options().swap_remove(index), |_, _, _| ());
        assert!(situations.len() > 1000, "{}", situations.len());
        for machine in situations {
            finish(machine);
        }
    }
}

#[test]
fn no_situation_leads_past_something_that_nobody_said_may_be_left_out() {
    let mut refused = 0;
    for options in all_options().into_iter().rev().take(2) {
        explore(options, |from, event, to| {
            if from.history.unaccepted.is_empty() {
                return;
            }
            let stops = from.state().is_before_quiesce() && !to.state().is_before_quiesce();
            let ends = matches!(
                to.state(),
                State::RollingBack { .. }
                    | State::RolledBack { .. }
                    | State::Interrupted { .. }
                    | State::Halted { .. }
            );
            assert!(!stops || ends, "{event:?}");
            assert!(!matches!(event, Event::Commit { .. }), "{event:?}");
            refused += u32::from(ends);
        });
    }
    assert!(refused > 100, "{refused}");
}

#[test]
fn every_reachable_situation_that_is_past_return_only_goes_forward() {
    let situations = explore(Options::default(), |from, event, to| {
        if from.is_past_return() {
            assert!(
                !matches!(
                    to.state(),
                    State::RollingBack { .. } | State::RolledBack { .. }
                ),
                "{event:?}"
            );
        }
    });
    let past: Vec<_> = situations
        .into_iter()
        .filter(Machine::is_past_return)
        .collect();
    assert!(!past.is_empty());
    for machine in past {
        assert_eq!(finish(machine), Outcome::Completed);
    }
}
