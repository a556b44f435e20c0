//! Tests of prediction and assessment.

use std::time::Duration;

use livmig_proto::{
    control::{PassKind, PassSeconds, VerifyLevel},
    ids::PassNumber,
};
use proptest::{collection::vec, prelude::*};

use super::{Assumptions, Estimate, PassCost, Prediction, Term, Verdict, assess, predict};
use crate::{spec::Options, time::Timestamp};

/// A pass that began at `began` seconds and read, sent and took so much.
fn pass(number: u32, began: f64, read: u64, sent: u64, seconds: PassSeconds) -> PassCost {
    let at = |seconds: f64| Timestamp(0).after(Duration::from_secs_f64(seconds));
    PassCost {
        number: PassNumber(number),
        kind: PassKind::Live,
        complete: true,
        read_back_left: false,
        connections_lost: 0,
        began: at(began),
        ended: at(began + seconds.total),
        entries: 1000,
        changed: 10,
        removed: 0,
        bytes_total: 1 << 30,
        bytes_scanned: read,
        bytes_sent: sent,
        bytes_hot: 0,
        largest_read: Some(("pgdata/base/16384/2619".to_owned(), read)),
        seconds,
    }
}

fn seconds(scan: f64, read: f64, send: f64) -> PassSeconds {
    PassSeconds {
        total: scan + read + send + 0.2,
        source_flush: 0.05,
        transfer: scan + read + send,
        scan,
        read,
        send,
        finish: 0.01,
        destination_flush: 0.05,
        verify: 0.09,
        read_back_before: 0.0,
    }
}

/// Passes over a workload that touches `touched` bytes a second, at fixed rates.
fn passes(count: u32, touched: f64) -> Vec<PassCost> {
    const RATE: f64 = 200e6;
    let mut began = 0.0;
    let mut bytes = 2e9;
    (1..=count)
        .map(|number| {
            let cost = seconds(0.1, bytes / RATE, bytes / RATE);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "positive"
            )]
            let pass = pass(number, began, bytes as u64, bytes as u64, cost.clone());
            began += cost.total;
            bytes = touched * cost.total;
            pass
        })
        .collect()
}

fn expected(prediction: &Prediction, term: Term) -> f64 {
    prediction
        .terms
        .get(&term)
        .map_or(0.0, |term| term.expected)
}

#[test]
fn nothing_is_predicted_without_a_complete_pass() {
    let assumptions = Assumptions::default();
    assert_eq!(predict(&[], VerifyLevel::Readback, &assumptions), None);
    let mut cut_short = passes(1, 0.0);
    cut_short[0].complete = false;
    assert_eq!(
        predict(&cut_short, VerifyLevel::Readback, &assumptions),
        None
    );
}

#[test]
fn the_prediction_of_a_steady_workload_holds_what_then_happens() {
    // What a fifth pass costs is what a prediction after four must hold.
    for touched in [1e6, 10e6, 30e6] {
        let all = passes(5, touched);
        let prediction = predict(
            &all[..4],
            VerifyLevel::Readback,
            &Assumptions {
                stop: Estimate::exactly(0.0),
                ..Assumptions::default()
            },
        )
        .unwrap();
        for (term, really) in [
            (Term::FinalScan, 0.1),
            (Term::Reread, all[4].seconds.read),
            (Term::Send, all[4].seconds.send),
        ] {
            let estimate = prediction.terms[&term];
            assert!(
                estimate.low <= really + 1e-6 && really <= estimate.high + 1e-6,
                "{term} of {touched}: {really} is not in {estimate:?}"
            );
        }
    }
}

#[test]
fn the_dominating_term_is_the_large_file_that_is_read_again() {
    let mut all = passes(3, 1e6);
    // A file of 20 GB of which hardly anything changes.
    for pass in &mut all[1..] {
        pass.bytes_hot = 20_000_000_000;
        pass.bytes_scanned = 20_000_000_000;
        pass.seconds.read = 100.0;
        pass.seconds.transfer = 100.2;
    }
    let prediction = predict(&all, VerifyLevel::Readback, &Assumptions::default()).unwrap();
    assert_eq!(prediction.dominating(), Some(Term::Reread));
    assert_eq!(prediction.largest_read.unwrap().0, "pgdata/base/16384/2619");
}

#[test]
fn full_verification_reads_everything_once_more() {
    let all = passes(3, 1e6);
    let of = |level| {
        let prediction = predict(&all, level, &Assumptions::default()).unwrap();
        expected(&prediction, Term::Verify)
    };
    assert!(of(VerifyLevel::Full) > of(VerifyLevel::Readback) + 1.0);
}

#[test]
fn two_passes_always_run() {
    let options = Options {
        max_passes: 1,
        ..Options::default()
    };
    let one = assess(&passes(1, 0.0), &options, &Assumptions::default()).unwrap();
    assert_eq!(one.verdict, Verdict::AnotherPass);
    let two = assess(&passes(2, 0.0), &options, &Assumptions::default()).unwrap();
    assert_eq!(two.verdict, Verdict::Ready);
}

#[test]
fn a_quiet_workload_is_ready_after_two_passes() {
    let ready = assess(
        &passes(2, 1000.0),
        &Options::default(),
        &Assumptions::default(),
    )
    .unwrap();
    assert_eq!(ready.verdict, Verdict::Ready);
}

#[test]
fn passes_go_on_while_they_help_and_no_longer() {
    let options = Options::default();
    let verdicts: Vec<Verdict> = (2..=10)
        .map(|count| {
            assess(&passes(count, 60e6), &options, &Assumptions::default())
                .unwrap()
                .verdict
        })
        .collect();
    assert_eq!(verdicts[0], Verdict::AnotherPass);
    assert_eq!(verdicts[8], Verdict::Ready, "{verdicts:?}");
    let turn = verdicts
        .iter()
        .position(|verdict| *verdict == Verdict::Ready)
        .unwrap();
    assert!(
        verdicts[turn..]
            .iter()
            .all(|verdict| *verdict == Verdict::Ready),
        "{verdicts:?}"
    );
}

#[test]
fn a_workload_that_writes_faster_than_passes_copy_cannot_meet_the_budget() {
    let assessment = assess(
        &passes(6, 150e6),
        &Options {
            max_downtime: Duration::from_secs(5),
            ..Options::default()
        },
        &Assumptions::default(),
    )
    .unwrap();
    assert_eq!(assessment.verdict, Verdict::CannotMeetBudget);
}

#[test]
fn a_scan_bound_pass_is_the_last() {
    let all: Vec<PassCost> = passes(3, 0.0)
        .into_iter()
        .map(|mut pass| {
            // Ten million files, nothing changed.
            pass.seconds = PassSeconds {
                total: 10.0,
                transfer: 9.9,
                scan: 9.8,
                ..PassSeconds::default()
            };
            pass
        })
        .collect();
    let assessment = assess(&all[..2], &Options::default(), &Assumptions::default()).unwrap();
    assert_eq!(assessment.verdict, Verdict::Ready);
    assert_eq!(assessment.prediction.dominating(), Some(Term::FinalScan));
}

#[test]
fn nothing_is_decided_on_a_pass_that_is_not_read_back() {
    let mut all = passes(4, 0.0);
    let last = all.last_mut().unwrap();
    last.read_back_left = true;
    let options = Options {
        max_passes: 1,
        max_downtime: Duration::from_hours(1),
        ..Options::default()
    };
    let verdict = |all: &[PassCost]| {
        assess(all, &options, &Assumptions::default())
            .unwrap()
            .verdict
    };
    assert_eq!(verdict(&all), Verdict::AnotherPass);
    all.extend(passes(1, 0.0));
    assert_eq!(verdict(&all), Verdict::Ready);
}

/// Costs that no mover should report, but might.
fn wild() -> impl Strategy<Value = PassCost> {
    let number = prop_oneof![
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(-1.0),
        Just(0.0),
        0.0..1e9f64
    ];
    (
        vec(number, 10),
        any::<(u64, u64, u64, u64)>(),
        any::<(u64, u64, bool)>(),
    )
        .prop_map(|(numbers, bytes, (began, ended, complete))| PassCost {
            bytes_total: bytes.0,
            bytes_hot: bytes.3,
            began: Timestamp(began),
            ended: Timestamp(ended),
            complete,
            seconds: PassSeconds {
                total: numbers[0],
                source_flush: numbers[1],
                transfer: numbers[2],
                scan: numbers[3],
                read: numbers[4],
                send: numbers[5],
                finish: numbers[6],
                destination_flush: numbers[7],
                verify: numbers[8],
                read_back_before: numbers[9],
            },
            ..pass(1, 0.0, bytes.1, bytes.2, PassSeconds::default())
        })
}

proptest! {
    #[test]
    fn every_prediction_is_ordered_and_finite(passes in vec(wild(), 0..8)) {
        let assumptions = Assumptions::default();
        if let Some(prediction) = predict(&passes, VerifyLevel::Full, &assumptions) {
            let all = prediction.terms.values().copied().chain([prediction.total()]);
            for estimate in all {
                prop_assert!(estimate.low >= 0.0, "{:?}", prediction);
                prop_assert!(estimate.low <= estimate.expected, "{:?}", prediction);
                prop_assert!(estimate.expected <= estimate.high, "{:?}", prediction);
                prop_assert!(estimate.high.is_finite(), "{:?}", prediction);
            }
            assess(&passes, &Options::default(), &assumptions).unwrap();
        }
    }

    #[test]
    fn more_to_do_never_takes_less(
        touched in 1e5..100e6f64,
        more in 1u64..10_000_000_000,
        slower in 0.0..100.0f64,
    ) {
        let all = passes(4, touched);
        let total = |passes: &[PassCost], assumptions: &Assumptions| {
            predict(passes, VerifyLevel::Readback, assumptions).unwrap().total()
        };
        let assumptions = Assumptions::default();
        let before = total(&all, &assumptions);
        let no_less = |after: Estimate| {
            after.low >= before.low - 1e-9
                && after.expected >= before.expected - 1e-9
                && after.high >= before.high - 1e-9
        };
        // Certainly read again, whatever else was read.
        let mut hot = all.clone();
        hot[3].bytes_hot = more.min(hot[3].bytes_total);
        prop_assert!(no_less(total(&hot, &assumptions)));
        let mut flush = all.clone();
        flush[3].seconds.destination_flush += slower;
        prop_assert!(no_less(total(&flush, &assumptions)));
        let start = Assumptions {
            start: assumptions.start + Estimate::exactly(slower),
            ..assumptions
        };
        prop_assert!(no_less(total(&all, &start)));
    }

    #[test]
    fn convergence_always_comes_to_a_verdict_and_keeps_to_the_budget(
        touched in 0.0..400e6f64,
        budget in 1u64..200,
    ) {
        let options = Options {
            max_downtime: Duration::from_secs(budget),
            ..Options::default()
        };
        let mut ended = None;
        for count in 2..=options.max_passes {
            let assessment =
                assess(&passes(count, touched), &options, &Assumptions::default()).unwrap();
            if assessment.verdict != Verdict::AnotherPass {
                ended = Some(assessment);
                break;
            }
        }
        let assessment = ended.expect("passes go on for ever");
        let total = assessment.prediction.total().expected;
        #[expect(clippy::cast_precision_loss, reason = "small")]
        let budget = budget as f64;
        prop_assert_eq!(assessment.verdict == Verdict::Ready, total <= budget);
    }
}
