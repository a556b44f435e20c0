//! What exists at a source and is not carried to the destination, as the passes reported it.

use std::collections::BTreeMap;

use crate::{
    record::{Event, Record},
    result::{Probe, StepOutcome, VolumePass},
    spec::VolumeName,
};

/// What one volume's last complete pass did not carry.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LeftOut {
    /// How many entries, by reason.
    pub by_reason: BTreeMap<String, u64>,
    /// Some of them by name, as shown to people.
    pub listed: Vec<String>,
}

/// What the last complete pass over `volume` did not carry; nothing before there is one.
///
/// The final pass comes after every live one, so its report decides once it is complete. An
/// incomplete pass has not visited everything and would hide what it did not come to.
pub fn left_out(records: &[Record], volume: &VolumeName) -> LeftOut {
    records
        .iter()
        .rev()
        .filter_map(|record| passed(&record.event))
        .flatten()
        .find(|pass| pass.volume == *volume && pass.report.complete)
        .map(|pass| LeftOut {
            by_reason: pass
                .report
                .left_out
                .iter()
                .map(|left| (left.reason.name().to_owned(), left.total))
                .collect(),
            listed: pass
                .report
                .left_out
                .iter()
                .flat_map(|left| {
                    let entries = left.listed.iter();
                    entries.map(|entry| format!("{}: {}", entry.path, left.reason))
                })
                .collect(),
        })
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

#[cfg(test)]
mod tests {
    use livmig_proto::{
        control::{FaultCode, LeftOut as Left, PassKind, Reason},
        ids::{Epoch, PassNumber},
    };

    use super::*;
    use crate::{machine::tests::report, record::SCHEMA, step::Step, time::Timestamp};

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

    fn pass(number: u32, kind: PassKind, fault: Option<FaultCode>, sockets: u64) -> VolumePass {
        let mut report = report(PassNumber(number), kind, fault);
        if sockets > 0 {
            let mut left = Left::new(Reason::Mount);
            for id in 0..sockets {
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
        let found = left_out(&records, volume);
        let count = found.by_reason.get("mount").copied();
        assert_eq!(
            found.listed.len(),
            usize::try_from(count.unwrap_or(0)).unwrap()
        );
        count
    }

    #[test]
    fn the_last_complete_pass_decides() {
        let live = || ended(pass(1, PassKind::Live, None, 3));
        let last = |sockets| ended(pass(2, PassKind::Final, None, sockets));
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
}
