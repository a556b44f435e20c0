//! What can happen next to a machine, and walks through it.

use std::{
    collections::{BTreeSet, HashSet, VecDeque},
    time::Duration,
};

use livmig_proto::{
    control::{
        Fault, FaultCode, LeftOut, PassKind, PassReport, PassSeconds, Reason, Side, VerifyLevel,
    },
    ids::{Epoch, MigrationUid, PassNumber},
};

use super::super::{Machine, Next, history};
use crate::{
    record::{Event, Record, SCHEMA},
    request::Request,
    result::{FailureKind, Probe, Proof, StepFailure, StepOutcome, Verification, VolumePass},
    spec::{
        HostTarget, MigrationName, MigrationSpec, OnOverrun, Options, SwitchMode, Target,
        VolumeName,
    },
    step::Step,
    time::Timestamp,
};

pub(super) const REQUESTS: [Request; 5] = [
    Request::Switch,
    Request::RollBack,
    Request::Interrupt,
    Request::Proceed,
    Request::KeepPassing,
];

const KINDS: [FailureKind; 3] = [
    FailureKind::Transient,
    FailureKind::Permanent,
    FailureKind::Undecided,
];

pub(crate) fn spec(options: Options) -> MigrationSpec {
    MigrationSpec {
        name: MigrationName::try_from("m".to_owned()).unwrap(),
        uid: MigrationUid([1; 16]),
        target: Target::Host(HostTarget {
            path: "/srv/data".into(),
            source: "/old/data".into(),
            destination: "/new/data".into(),
            stop_command: "stop".to_owned(),
            start_command: "start".to_owned(),
        }),
        options,
    }
}

/// Options under which every decision of the live phase is met, one after the other.
pub(super) fn all_options() -> Vec<Options> {
    let overrun = |on_overrun| Options {
        max_downtime: Duration::from_millis(1500),
        on_overrun,
        max_passes: 3,
        ..Options::default()
    };
    vec![
        Options::default(),
        Options {
            switch: SwitchMode::OnRequest,
            ..Options::default()
        },
        overrun(OnOverrun::Abort),
        overrun(OnOverrun::Ask),
        overrun(OnOverrun::Wait),
        overrun(OnOverrun::Proceed),
        Options {
            leave_out: BTreeSet::from([Reason::Mount]),
            ..Options::default()
        },
    ]
}

pub(super) fn planned(options: Options) -> Record {
    Record {
        schema: SCHEMA,
        seq: 0,
        epoch: Epoch(1),
        at: Timestamp(1_000_000),
        event: Event::Planned {
            spec: Box::new(spec(options)),
        },
    }
}

fn volume() -> VolumeName {
    VolumeName("/srv/data".to_owned())
}

pub(super) fn proof() -> Proof {
    Proof {
        evidence: "nothing is open".to_owned(),
    }
}

pub(crate) fn report(number: PassNumber, kind: PassKind, fault: Option<FaultCode>) -> PassReport {
    let faults: Vec<Fault> = fault
        .into_iter()
        .map(|code| Fault {
            code,
            side: Side::Source,
            message: "it went wrong".to_owned(),
            path: Some("a/b".to_owned()),
            advice: None,
        })
        .collect();
    PassReport {
        pass: number,
        kind,
        complete: faults.is_empty(),
        entries: 10,
        directories: 2,
        bytes_total: 1_000_000,
        bytes_scanned: 100_000,
        bytes_sent: 50_000,
        bytes_received: 1000,
        transport: None,
        connections_lost: 0,
        changed: 3,
        removed: 1,
        bytes_hot: 10_000,
        largest_read: Some(("a/b".to_owned(), 90_000)),
        seconds: PassSeconds {
            total: 0.3,
            transfer: 0.2,
            scan: 0.1,
            read: 0.05,
            send: 0.05,
            verify: 0.1,
            ..PassSeconds::default()
        },
        verify: VerifyLevel::Readback,
        verified_on_device: true,
        read_back_left: false,
        digest_source: "aa".to_owned(),
        digest_destination: "aa".to_owned(),
        faults_total: u64::from(fault.is_some()),
        faults,
        left_out: Vec::new(),
    }
}

fn passed(number: PassNumber, kind: PassKind, fault: Option<FaultCode>) -> StepOutcome {
    StepOutcome::Passed {
        reports: vec![VolumePass {
            volume: volume(),
            report: report(number, kind, fault),
        }],
    }
}

/// A complete pass that leaves out what each of `reasons` names.
pub(super) fn leaving(number: PassNumber, kind: PassKind, reasons: &[Reason]) -> StepOutcome {
    let mut report = report(number, kind, None);
    report.left_out = reasons
        .iter()
        .map(|reason| {
            let mut left = LeftOut::new(*reason);
            left.add("a/b".to_owned(), String::new());
            left
        })
        .collect();
    StepOutcome::Passed {
        reports: vec![VolumePass {
            volume: volume(),
            report,
        }],
    }
}

pub(super) fn verified(destination: &str) -> StepOutcome {
    StepOutcome::Verified {
        volumes: vec![Verification {
            volume: volume(),
            level: VerifyLevel::Readback,
            on_device: true,
            entries: 10,
            bytes: 1_000_000,
            digest_source: "aa".to_owned(),
            digest_destination: destination.to_owned(),
        }],
        proof: proof(),
    }
}

/// The outcome of a step that went well.
pub(super) fn success(step: Step) -> StepOutcome {
    match step {
        Step::Check => StepOutcome::Checked {
            warnings: vec!["little space".to_owned()],
        },
        Step::StartMovers => StepOutcome::Movers { movers: Vec::new() },
        Step::Pass { number, kind } => passed(number, kind, None),
        Step::Fence => StepOutcome::Fenced { proof: proof() },
        Step::Verify => verified("aa"),
        Step::Quiesce
        | Step::Swap
        | Step::Unquiesce
        | Step::Settle
        | Step::Unswap
        | Step::Unfence
        | Step::Restart
        | Step::StopMovers => StepOutcome::Done,
    }
}

fn failure(kind: FailureKind) -> StepFailure {
    match kind {
        FailureKind::Transient => StepFailure::transient("it may pass"),
        FailureKind::Permanent => StepFailure::permanent("it stays").with_hint("do something"),
        FailureKind::Undecided => StepFailure::undecided("who knows"),
    }
}

/// Everything that the world, people and the machine itself can make of `machine` next, each with
/// the time it happens at.
pub(super) fn possible(machine: &Machine) -> Vec<(Timestamp, Event)> {
    let soon = machine.last_at().after(Duration::from_millis(100));
    let mut events = Vec::new();
    let mut moments = vec![soon];
    moments.extend(machine.limit());
    if let Next::Await {
        until: Some(until), ..
    } = machine.next(soon)
    {
        moments.push(until);
    }
    for now in moments {
        match machine.next(now) {
            Next::Perform(step) => events.push((now, Event::Intent { step })),
            Next::Record(event) => events.push((now, event)),
            Next::Abandon(step) => events.push((now, Event::Abandoned { step })),
            Next::Probe(step) => {
                let found = [
                    Probe::NotDone,
                    Probe::Done {
                        outcome: success(step),
                    },
                ];
                events.extend(found.map(|found| (now, Event::Probed { step, found })));
                events.extend(failures(step).map(|event| (now, event)));
            }
            Next::Await { .. } | Next::Ask(_) | Next::Finished(_) => {}
        }
    }
    for step in machine.under_way() {
        let outcome = |outcome| (soon, Event::Outcome { step, outcome });
        events.push(outcome(success(step)));
        match step {
            Step::Pass { number, kind } => {
                for fault in [FaultCode::Stopped, FaultCode::Disconnected, FaultCode::Io] {
                    events.push(outcome(passed(number, kind, Some(fault))));
                }
                events.push(outcome(leaving(number, kind, &[Reason::Mount])));
            }
            Step::Verify => events.push(outcome(verified("bb"))),
            _ => {}
        }
        events.extend(failures(step).map(|event| (soon, event)));
    }
    events.extend(
        REQUESTS
            .into_iter()
            .filter_map(|request| machine.request(request).ok())
            .map(|event| (soon, event)),
    );
    if machine.outcome().is_none_or(|outcome| !outcome.is_final()) {
        events.push((soon, Event::Adopted));
    }
    events
}

fn failures(step: Step) -> impl Iterator<Item = Event> {
    KINDS.into_iter().map(move |kind| Event::Failure {
        step,
        failure: failure(kind),
    })
}

/// `machine` after `event`.
pub(super) fn after(machine: &Machine, at: Timestamp, event: Event) -> Machine {
    let record = machine.record(event, at);
    let mut next = machine.clone();
    if let Err(error) = next.apply(&record) {
        panic!("{error}; in {machine:#?}");
    }
    next
}

/// A machine without what grows for ever, so that equal situations are found equal.
fn situation(machine: &Machine) -> String {
    let history = &machine.history;
    let steps = |steps: &[history::Intended]| -> Vec<&str> {
        steps.iter().map(|intended| intended.step.word()).collect()
    };
    let state = match machine.state() {
        super::super::state::State::Fencing(round) => {
            format!("Fencing {}", round.retried)
        }
        super::super::state::State::FinalPass(round) => {
            format!("FinalPass {}", round.retried)
        }
        super::super::state::State::Verifying { round, proven } => {
            format!("Verifying {} {}", round.retried, proven.is_some())
        }
        super::super::state::State::RollingBack { remaining, .. } => {
            format!("RollingBack {remaining:?}")
        }
        super::super::state::State::Halted { at, .. } => format!("Halted at {at:?}"),
        state => format!("{state:?}"),
    };
    // A pass number says nothing that its kind does not.
    let state: String = state.chars().filter(|c| !c.is_ascii_digit()).collect();
    let wishes = machine
        .state()
        .is_before_quiesce()
        .then_some(history.wishes);
    // Of the failures in a row only those count that the reaction looks at.
    let trouble = history.trouble.as_ref().map(|trouble| {
        let count = history.failures_of(trouble.step);
        (trouble.step.word(), trouble.failure.kind, count)
    });
    let complete = history.passes.iter().filter(|pass| pass.complete).count();
    format!(
        "{state} {:?} {:?} {:?} {} {trouble:?} {wishes:?} {} {:?}",
        steps(&history.open),
        steps(&history.doubt),
        history.intended,
        history.movers_ready,
        complete.min(3),
        history.unaccepted,
    )
}

/// Every situation that can be reached under `options`, and every step between two of them.
pub(super) fn explore(
    options: Options,
    mut edge: impl FnMut(&Machine, &Event, &Machine),
) -> Vec<Machine> {
    let start = Machine::replay(&[planned(options)]).unwrap();
    let mut known = HashSet::from([situation(&start)]);
    let mut found = vec![start.clone()];
    let mut queue = VecDeque::from([start]);
    while let Some(machine) = queue.pop_front() {
        for (at, event) in possible(&machine) {
            let next = after(&machine, at, event.clone());
            edge(&machine, &event, &next);
            if known.insert(situation(&next)) {
                found.push(next.clone());
                queue.push_back(next);
            }
        }
    }
    found
}
