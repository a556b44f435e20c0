//! Every step × {crash before, crash after, error, run twice, undo twice}, then resume.

use crate::simulation::{
    Sim,
    faults::{Effect, Fault},
    world::Nature,
};
use livmig_engine::{
    outcome::Outcome,
    result::FailureKind::{Permanent, Transient, Undecided},
    spec::Options,
};

use crate::{assert_good_end, resume_to_the_end, start};

const FORWARD: [&str; 10] = [
    "check",
    "start movers",
    "live pass",
    "quiesce",
    "fence",
    "final pass",
    "verify",
    "swap",
    "unquiesce",
    "settle",
];
const UNDOS: [&str; 4] = ["unswap", "unfence", "restart", "stop movers"];

const EFFECTS: [Effect; 9] = [
    Effect::CrashBefore,
    Effect::CrashAfter,
    Effect::FailBefore(Transient),
    Effect::FailBefore(Permanent),
    Effect::FailBefore(Undecided),
    Effect::FailAfter(Transient),
    Effect::FailAfter(Permanent),
    Effect::FailAfter(Undecided),
    Effect::Twice,
];

/// Runs one scripted migration to its end and checks it.
fn run(faults: Vec<Fault>, probes_know: bool) -> Outcome {
    let case = format!("{faults:?}, probes know: {probes_know}");
    let nature = Nature {
        probes_know,
        ..Nature::default()
    };
    let sim = Sim::new(nature, faults);
    let life = sim.live(start(Options::default()), |_| false);
    let outcome = resume_to_the_end(&sim, life);
    assert_good_end(&sim, &outcome, &case);
    outcome
}

fn once(step: &'static str, effect: Effect) -> Fault {
    Fault {
        step,
        occurrence: 0,
        times: 1,
        effect,
    }
}

#[test]
fn without_faults_a_migration_completes() {
    assert_eq!(run(Vec::new(), true), Outcome::Completed);
}

#[test]
fn every_step_survives_every_fault() {
    for step in FORWARD {
        for effect in EFFECTS {
            for probes_know in [true, false] {
                let outcome = run(vec![once(step, effect)], probes_know);
                let case = format!("{step} {effect:?} {probes_know}");
                match effect {
                    // One death, repetition or passing failure never costs more than time.
                    Effect::CrashBefore
                    | Effect::CrashAfter
                    | Effect::Twice
                    | Effect::FailBefore(Transient)
                    | Effect::FailAfter(Transient) => {
                        assert_eq!(outcome, Outcome::Completed, "{case}");
                    }
                    _ => assert_eq!(outcome.exit_code().code(), code_of(step, effect), "{case}"),
                }
            }
        }
    }
}

/// The exit code of a migration whose `step` failed for good once, the halt having been repaired
/// and resumed.
fn code_of(step: &str, effect: Effect) -> u8 {
    let undecided = matches!(
        effect,
        Effect::FailBefore(Undecided) | Effect::FailAfter(Undecided)
    );
    match step {
        "check" => 3,
        "start movers" | "live pass" => 1,
        // Halted, resumed, completed.
        "unquiesce" | "settle" => 0,
        "quiesce" | "fence" | "final pass" | "verify" | "swap" if undecided => 0,
        _ => 4,
    }
}

#[test]
fn every_undo_survives_every_fault() {
    // A swap that is blocked for good has everything before it to undo.
    let blocked = once("swap", Effect::FailAfter(Permanent));
    for step in UNDOS {
        for effect in EFFECTS {
            for probes_know in [true, false] {
                let outcome = run(vec![blocked, once(step, effect)], probes_know);
                let undecided = [Effect::FailBefore(Undecided), Effect::FailAfter(Undecided)];
                let ended_well = if step == "unswap" && undecided.contains(&effect) {
                    // Halted, and resumed: the way back was closed.
                    matches!(outcome, Outcome::Completed)
                } else {
                    matches!(outcome, Outcome::RolledBack { .. })
                };
                assert!(ended_well, "{step} {effect:?}: {outcome:?}");
            }
        }
    }
}

#[test]
fn every_undo_may_be_done_twice_after_every_failure() {
    for step in FORWARD {
        let mut faults = vec![once(step, Effect::FailAfter(Permanent))];
        faults.extend(UNDOS.map(|undo| once(undo, Effect::Twice)));
        run(faults, true);
    }
}

#[test]
fn two_faults_at_any_two_steps_still_end_well() {
    let effects = [
        Effect::CrashBefore,
        Effect::CrashAfter,
        Effect::FailAfter(Transient),
        Effect::FailAfter(Permanent),
    ];
    for first in FORWARD {
        for second in FORWARD.into_iter().chain(UNDOS) {
            for one in effects {
                for other in effects {
                    let second = Fault {
                        // The same step's second time, else the other step's first.
                        occurrence: u32::from(first == second),
                        ..once(second, other)
                    };
                    run(vec![once(first, one), second], true);
                }
            }
        }
    }
}

#[test]
fn a_step_that_never_succeeds_ends_in_its_own_way() {
    let always = |step, kind| Fault {
        times: 1000,
        ..once(step, Effect::FailBefore(kind))
    };
    let first_end = |step, kind| {
        let sim = Sim::new(Nature::default(), vec![always(step, kind)]);
        match sim.live(start(Options::default()), |_| false) {
            crate::simulation::Life::Ended(Ok(outcome)) => {
                let left = sim.world().violations.clone();
                assert_eq!(left, Vec::<String>::new(), "{step}");
                outcome.exit_code().code()
            }
            life => panic!("{step}: {life:?}"),
        }
    };
    for (step, code) in [
        ("check", 3),
        ("start movers", 1),
        ("live pass", 1),
        ("quiesce", 4),
        ("fence", 4),
        ("final pass", 4),
        ("verify", 4),
        ("swap", 4),
        ("unquiesce", 5),
        ("settle", 5),
    ] {
        assert_eq!(first_end(step, Transient), code, "{step} transient");
        assert_eq!(first_end(step, Permanent), code, "{step} permanent");
    }
}

#[test]
fn a_stop_command_that_lies_is_found_out() {
    let outcome = run(vec![once("quiesce", Effect::Lie)], true);
    assert!(
        matches!(&outcome, Outcome::RolledBack { .. }),
        "{outcome:?}"
    );
    assert!(
        outcome.reason().unwrap().contains("still runs"),
        "{outcome:?}"
    );
}
