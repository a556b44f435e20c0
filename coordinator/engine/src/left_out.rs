//! What exists at a source and is not carried to the destination, as the passes reported it: what
//! of it is told, and what nobody has consented to.

use std::collections::{BTreeMap, BTreeSet};

use livmig_proto::control::{Gravity, LeftEntry, LeftOut, Reason, unconsented};
use serde::Serialize;

use crate::{
    record::{Event, Record},
    result::{Probe, StepOutcome, VolumePass},
    spec::{MigrationSpec, MoverCapability, Target, VolumeName},
};

/// What the last complete pass over `volume` did not carry; nothing before there is one.
///
/// The final pass comes after every live one, so its report decides once it is complete. An
/// incomplete pass has not visited everything and would hide what it did not come to.
pub fn left_out<'r>(records: &'r [Record], volume: &VolumeName) -> &'r [LeftOut] {
    records
        .iter()
        .rev()
        .filter_map(|record| passed(&record.event))
        .flatten()
        .find(|pass| pass.volume == *volume && pass.report.complete)
        .map(|pass| pass.report.left_out.as_slice())
        .unwrap_or_default()
}

/// The reports that an event brought: of a pass that ended, or that was found to have ended.
fn passed(event: &Event) -> Option<&[VolumePass]> {
    match event {
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
        } => Some(reports),
        _ => None,
    }
}

/// The grave reasons in `reports` that `consent` lacks, and of how many entries each is. A pass
/// with one is complete and not acceptable.
pub fn unaccepted(reports: &[VolumePass], consent: &BTreeSet<Reason>) -> BTreeMap<Reason, u64> {
    let all = || reports.iter().flat_map(|volume| &volume.report.left_out);
    unconsented(all(), consent)
        .into_iter()
        .map(|reason| {
            let totals = all().filter(|left| left.reason == reason);
            let sum = totals.fold(0, |sum: u64, left| sum.saturating_add(left.total));
            (reason, sum)
        })
        .collect()
}

/// What a person can do about a migration that was given up because of `reasons`.
pub fn advice(spec: &MigrationSpec, reasons: &BTreeMap<Reason, u64>) -> String {
    let mut names: BTreeSet<Reason> = spec.options.leave_out.clone();
    names.extend(reasons.keys());
    let names: Vec<&str> = names.into_iter().map(Reason::name).collect();
    let mut ways = vec!["mend the source"];
    ways.extend(reasons.keys().filter_map(|reason| remedy(spec, *reason)));
    // What was copied lies at a host's destination, and is used.
    let adopt = match &spec.target {
        Target::Host(_) => "--adopt ",
        Target::Kubernetes(_) => "",
    };
    format!(
        "{}; or run the same command again with {adopt}--leave-out {}",
        ways.join(", or "),
        names.join(",")
    )
}

/// What may help against `reason` beside a change of the source.
fn remedy(spec: &MigrationSpec, reason: Reason) -> Option<&'static str> {
    let privileged = spec.target.kubernetes().is_some_and(|target| {
        let given = &target.mover.capabilities;
        given.contains(&MoverCapability::SysAdmin)
    });
    match (reason, &spec.target) {
        (Reason::AttributesUnreadable, Target::Host(_)) => Some("run livmig-coord as root"),
        (Reason::AttributesUnsupported, Target::Host(_)) => {
            Some("choose a file system that can store the attributes with --to")
        }
        (Reason::AttributesUnsupported, Target::Kubernetes(_)) if privileged => {
            Some("choose a class whose volumes can store the attributes")
        }
        (Reason::AttributesUnsupported, Target::Kubernetes(_)) => Some(
            "choose a class whose volumes can store the attributes, or let the movers set more of \
             them with --mover-capabilities SYS_ADMIN",
        ),
        (Reason::AttributesUnreadable, Target::Kubernetes(_)) if !privileged => {
            Some("let the movers read more attributes with --mover-capabilities SYS_ADMIN")
        }
        _ => None,
    }
}

/// One reason as documents tell it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LeftOutDocument {
    /// Why.
    pub reason: Reason,
    /// Whether it needs consent.
    pub gravity: Gravity,
    /// Whether it has it, or needs none.
    pub consented: bool,
    /// Entries, all of them.
    pub total: u64,
    /// Some of them by path.
    pub paths: Vec<String>,
    /// The same with what of them.
    pub listed: Vec<LeftEntry>,
}

impl LeftOutDocument {
    /// What `left` is under this consent.
    pub fn new(left: &LeftOut, consent: &BTreeSet<Reason>) -> Self {
        Self {
            reason: left.reason,
            gravity: left.reason.gravity(),
            consented: unconsented([left], consent).is_empty(),
            total: left.total,
            paths: left.listed.iter().map(|entry| entry.path.clone()).collect(),
            listed: left.listed.clone(),
        }
    }
}

/// Shortens the lists of `reports` to about `room` bytes in all, the same number of entries for
/// each reason of each volume; the totals stay. For a journal whose records have an upper bound.
pub fn bound(reports: &mut [VolumePass], room: usize) {
    let mut lists: Vec<&mut LeftOut> = reports
        .iter_mut()
        .flat_map(|volume| &mut volume.report.left_out)
        .collect();
    let size = |entry: &LeftEntry| entry.path.len() + entry.detail.len() + 32;
    loop {
        let used: usize = lists
            .iter()
            .flat_map(|left| &left.listed)
            .map(size)
            .fold(0, usize::saturating_add);
        let longest = lists.iter().map(|left| left.listed.len()).max();
        let Some(longest) = longest.filter(|longest| used > room && *longest > 0) else {
            return;
        };
        for left in &mut lists {
            left.listed.truncate(longest / 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use livmig_proto::{
        control::{FaultCode, PassKind},
        ids::{Epoch, PassNumber},
    };

    use super::*;
    use crate::{
        machine::tests::report, record::SCHEMA, spec::Options, step::Step, time::Timestamp,
    };

    fn volume() -> VolumeName {
        VolumeName("/srv/data".to_owned())
    }

    fn of(reports: Vec<VolumePass>) -> StepOutcome {
        StepOutcome::Passed { reports }
    }

    fn step(pass: &VolumePass) -> Step {
        Step::Pass {
            number: pass.report.pass,
            kind: pass.report.kind,
        }
    }

    fn ended(pass: VolumePass) -> Event {
        Event::Outcome {
            step: step(&pass),
            outcome: of(vec![pass]),
        }
    }

    fn pass(number: u32, kind: PassKind, fault: Option<FaultCode>, mounts: u64) -> VolumePass {
        let mut report = report(PassNumber(number), kind, fault);
        if mounts > 0 {
            let mut left = LeftOut::new(Reason::Mount);
            for id in 0..mounts {
                left.add(id.to_string(), String::new());
            }
            report.left_out = vec![left];
        }
        VolumePass {
            volume: volume(),
            report,
        }
    }

    fn told(events: Vec<Event>, volume: &VolumeName) -> Option<u64> {
        let records: Vec<Record> = (0..)
            .zip(events)
            .map(|(seq, event)| Record {
                schema: SCHEMA,
                seq,
                epoch: Epoch(1),
                at: Timestamp(seq),
                event,
            })
            .collect();
        match left_out(&records, volume) {
            [] => None,
            [left] => {
                assert_eq!(left.listed.len(), usize::try_from(left.total).unwrap());
                Some(left.total)
            }
            several => panic!("{several:?}"),
        }
    }

    #[test]
    fn the_last_complete_pass_decides() {
        let live = || ended(pass(1, PassKind::Live, None, 3));
        let last = |mounts| ended(pass(2, PassKind::Final, None, mounts));
        let broken = ended(pass(2, PassKind::Final, Some(FaultCode::Io), 1));
        assert_eq!(told(vec![], &volume()), None);
        assert_eq!(told(vec![live()], &volume()), Some(3));
        assert_eq!(told(vec![live(), broken], &volume()), Some(3));
        assert_eq!(told(vec![live(), last(2)], &volume()), Some(2));
        // What is gone by the final pass is not left out any more.
        assert_eq!(told(vec![live(), last(0)], &volume()), None);
    }

    #[test]
    fn a_pass_that_a_probe_found_done_counts() {
        let found = pass(2, PassKind::Final, None, 2);
        let probed = Event::Probed {
            step: step(&found),
            found: Probe::Done {
                outcome: of(vec![found]),
            },
        };
        let live = ended(pass(1, PassKind::Live, None, 3));
        assert_eq!(told(vec![live, probed], &volume()), Some(2));
    }

    #[test]
    fn each_volume_has_its_own() {
        let other = VolumeName("/srv/other".to_owned());
        let mine = pass(1, PassKind::Live, None, 3);
        let mut theirs = pass(1, PassKind::Live, None, 1);
        theirs.volume = other.clone();
        let events = vec![Event::Outcome {
            step: step(&mine),
            outcome: of(vec![theirs, mine]),
        }];
        assert_eq!(told(events.clone(), &volume()), Some(3));
        assert_eq!(told(events, &other), Some(1));
    }

    #[test]
    fn what_nobody_consented_to_is_summed_over_the_volumes() {
        let of = |mounts| pass(1, PassKind::Live, None, mounts);
        let mut slight = of(0);
        slight.report.left_out = vec![LeftOut::new(Reason::Flags)];
        let reports = [of(2), slight, of(3)];
        assert_eq!(
            unaccepted(&reports, &BTreeSet::new()),
            BTreeMap::from([(Reason::Mount, 5)])
        );
        assert!(unaccepted(&reports, &BTreeSet::from([Reason::Mount])).is_empty());
        let other = BTreeSet::from([Reason::LostFound]);
        assert_eq!(unaccepted(&reports, &other).len(), 1);
    }

    #[test]
    fn the_advice_names_what_is_missing_beside_what_was_given() {
        let mut spec = crate::machine::tests::spec(Options::default());
        spec.options.leave_out = BTreeSet::from([Reason::LostFound]);
        let told = advice(&spec, &BTreeMap::from([(Reason::Mount, 1)]));
        assert_eq!(
            told,
            "mend the source; or run the same command again with --adopt --leave-out \
             mount,lost-found"
        );
        let told = advice(&spec, &BTreeMap::from([(Reason::AttributesUnsupported, 1)]));
        assert!(told.contains("with --to; or run"), "{told}");
        let target = serde_json::json!({
            "platform": "kubernetes", "namespace": "shop", "claims": [], "mover": {"image": "i"},
            "workload": {"kind": "StatefulSet", "name": "app", "uid": "s"},
        });
        spec.target = serde_json::from_value(target).unwrap();
        let unset = BTreeMap::from([(Reason::AttributesUnsupported, 1)]);
        assert!(advice(&spec, &unset).contains("--mover-capabilities SYS_ADMIN"));
        assert!(!advice(&spec, &unset).contains("--adopt"));
        if let Target::Kubernetes(target) = &mut spec.target {
            target.mover.capabilities.insert(MoverCapability::SysAdmin);
        }
        assert!(!advice(&spec, &unset).contains("--mover-capabilities"));
    }

    #[test]
    fn lists_are_shortened_alike_and_totals_stay() {
        let mut reports = vec![
            pass(1, PassKind::Live, None, 80),
            pass(1, PassKind::Live, None, 3),
        ];
        let whole = reports.clone();
        bound(&mut reports, 1 << 20);
        assert_eq!(reports, whole);
        bound(&mut reports, 400);
        let lists: Vec<_> = reports
            .iter()
            .flat_map(|volume| &volume.report.left_out)
            .map(|left| (left.total, left.listed.len()))
            .collect();
        assert_eq!(lists, [(80, 5), (3, 3)]);
    }
}
