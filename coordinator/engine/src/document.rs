//! A migration as a document in the shape of a Kubernetes object, for programs to read.

use std::collections::BTreeMap;

use livmig_proto::control::{PassKind, PassSeconds, Side, VerifyLevel};
use serde::Serialize;

use crate::{
    convergence::{Estimate, PassCost, Prediction, Term},
    downtime::measure,
    left_out::{LeftOutDocument, advice, left_out},
    machine::{Illegal, Machine},
    outcome::{Outcome, Standing},
    record::{Cause, Event, Record},
    result::{StepOutcome, Verification},
    spec::{MigrationSpec, VolumeName},
    time::Timestamp,
};

/// The version of the documents' shape.
pub const API_VERSION: &str = "livmig.io/v1alpha1";

/// One migration.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    api_version: &'static str,
    kind: &'static str,
    /// Who it is.
    pub metadata: Metadata,
    /// What was asked for.
    pub spec: MigrationSpec,
    /// What became of it.
    pub status: DocumentStatus,
}

/// Several documents.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct List {
    api_version: &'static str,
    kind: &'static str,
    /// The documents.
    pub items: Vec<Document>,
}

impl List {
    /// A list of `items`.
    pub fn new(items: Vec<Document>) -> Self {
        Self {
            api_version: API_VERSION,
            kind: "List",
            items,
        }
    }
}

/// Who a migration is.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// Its name.
    pub name: String,
    /// The workload's namespace, where there is such a thing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its identity, hexadecimal.
    pub uid: String,
    /// When it was planned, RFC 3339.
    pub creation_timestamp: String,
}

/// What became of a migration.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DocumentStatus {
    /// The phase.
    pub phase: &'static str,
    /// How it stands.
    pub outcome: Standing,
    /// Why it did not complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What a person can do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// What the check found that people should know.
    pub warnings: Vec<String>,
    /// Where the workload is.
    pub workload: String,
    /// How many coordinators have driven it.
    pub epoch: u64,
    /// When the last record was written, RFC 3339.
    pub updated_at: String,
    /// The passes that ended.
    pub passes: Vec<PassDocument>,
    /// The volumes.
    pub volumes: Vec<VolumeDocument>,
    /// The downtime; up to now while it lasts, absent before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub downtime_seconds: Option<f64>,
    /// The downtime, term by term.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub downtime_terms: BTreeMap<Term, f64>,
    /// The prediction: the one the switch was decided on, before it the current one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicted_downtime_seconds: Option<Estimate>,
    /// The prediction, term by term.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub predicted_downtime_terms: BTreeMap<Term, Estimate>,
    /// The term that was predicted to take longest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dominating_term: Option<Term>,
}

/// One pass.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PassDocument {
    /// Its number.
    pub number: u32,
    /// Live or final.
    pub kind: PassKind,
    /// Whether it visited everything.
    pub complete: bool,
    /// Entries of the source.
    pub entries: u64,
    /// Entries that were created or changed.
    pub changed: u64,
    /// Entries that were removed.
    pub removed: u64,
    /// Bytes of content of the source.
    pub bytes_total: u64,
    /// Bytes read at the source.
    pub bytes_scanned: u64,
    /// Bytes sent, metadata included.
    pub bytes_sent: u64,
    /// Whether what it copied was to be read back beside the next.
    pub read_back_left: bool,
    /// Connections that were lost, after each of which it went on.
    pub connections_lost: u32,
    /// Wall time.
    pub seconds: f64,
    /// Where it went; of the slowest volume, term by term.
    pub seconds_by_term: PassSeconds,
}

/// One volume.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeDocument {
    /// What the workload calls it.
    pub claim: String,
    /// What held it.
    pub source: String,
    /// What holds it after a completed migration.
    pub destination: String,
    /// The proof that both are equal, once there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify: Option<VerifyDocument>,
    /// What its last complete pass did not carry, by reason; counts.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub not_carried: BTreeMap<&'static str, u64>,
    /// The same with gravity, consent and some paths, grave reasons first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOutDocument>,
}

/// A verification.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifyDocument {
    /// How hard it was looked.
    pub level: VerifyLevel,
    /// Whether the destination was read from its device.
    pub on_device: bool,
    /// Entries.
    pub entries: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// Digest of the source.
    pub digest_source: String,
    /// Digest of the destination.
    pub digest_destination: String,
}

/// The document that `records` make at `now`.
///
/// # Errors
/// When the records are no migration's.
pub fn document(records: &[Record], now: Timestamp) -> Result<Document, Illegal> {
    Ok(document_of(&Machine::replay(records)?, records, now))
}

/// The document of the `machine` that `records` make, at `now`.
pub fn document_of(machine: &Machine, records: &[Record], now: Timestamp) -> Document {
    let spec = machine.spec();
    Document {
        api_version: API_VERSION,
        kind: "Migration",
        metadata: Metadata {
            name: spec.name.to_string(),
            namespace: spec.target.namespace().map(str::to_owned),
            uid: spec.uid.to_string(),
            creation_timestamp: records
                .first()
                .map(|record| record.at.to_string())
                .unwrap_or_default(),
        },
        spec: spec.clone(),
        status: status(machine, records, now),
    }
}

fn status(machine: &Machine, records: &[Record], now: Timestamp) -> DocumentStatus {
    let outcome = machine.outcome();
    let (reason, hint) = outcome.as_ref().map_or_else(
        || (machine.trouble(), None),
        |outcome| match outcome {
            Outcome::Failed {
                cause: Cause::LeftOut { reasons },
            }
            | Outcome::RolledBack {
                cause: Cause::LeftOut { reasons },
            } => (outcome.reason(), Some(advice(machine.spec(), reasons))),
            _ => (outcome.reason(), outcome.hint()),
        },
    );
    let prediction = machine.prediction();
    let measured = measure(records, now);
    let seconds = measured.as_ref().map(|measured| measured.seconds);
    DocumentStatus {
        phase: machine.phase().name(),
        outcome: outcome
            .as_ref()
            .map_or(Standing::Running, Outcome::standing),
        reason,
        hint,
        warnings: machine.warnings().to_vec(),
        workload: machine.whereabouts().to_string(),
        epoch: machine.epoch().0,
        updated_at: machine.last_at().to_string(),
        passes: machine.passes().iter().map(pass).collect(),
        volumes: volumes(machine.spec(), records),
        downtime_seconds: seconds,
        downtime_terms: measured.unwrap_or_default().terms,
        predicted_downtime_seconds: prediction.as_ref().map(Prediction::total),
        dominating_term: prediction.as_ref().and_then(Prediction::dominating),
        predicted_downtime_terms: prediction
            .map(|prediction| prediction.terms)
            .unwrap_or_default(),
    }
}

fn pass(cost: &PassCost) -> PassDocument {
    PassDocument {
        number: cost.number.0,
        kind: cost.kind,
        complete: cost.complete,
        entries: cost.entries,
        changed: cost.changed,
        removed: cost.removed,
        bytes_total: cost.bytes_total,
        bytes_scanned: cost.bytes_scanned,
        bytes_sent: cost.bytes_sent,
        read_back_left: cost.read_back_left,
        connections_lost: cost.connections_lost,
        seconds: cost.seconds.total,
        seconds_by_term: cost.seconds.clone(),
    }
}

fn volumes(spec: &MigrationSpec, records: &[Record]) -> Vec<VolumeDocument> {
    let proven: &[Verification] = records
        .iter()
        .find_map(|record| match &record.event {
            Event::Commit { volumes, .. } => Some(volumes.as_slice()),
            _ => None,
        })
        .unwrap_or_default();
    spec.target
        .volumes()
        .into_iter()
        .map(|target| {
            let left_out = left_out(records, &target.volume);
            let provisioned = provisioned(records, &target.volume);
            VolumeDocument {
                verify: proven
                    .iter()
                    .find(|verification| verification.volume == target.volume)
                    .map(verify),
                not_carried: left_out
                    .iter()
                    .map(|left| (left.reason.name(), left.total))
                    .collect(),
                left_out: left_out
                    .iter()
                    .map(|left| LeftOutDocument::new(left, &spec.options.leave_out))
                    .collect(),
                claim: target.volume.to_string(),
                source: target.source,
                destination: provisioned.unwrap_or(target.destination),
            }
        })
        .collect()
}

/// The storage that was made for the destination of `volume`, once a mover serves it.
fn provisioned(records: &[Record], volume: &VolumeName) -> Option<String> {
    records.iter().rev().find_map(|record| {
        let Event::Outcome {
            outcome: StepOutcome::Movers { movers },
            ..
        } = &record.event
        else {
            return None;
        };
        movers
            .iter()
            .find(|mover| mover.volume == *volume && mover.welcome.side == Side::Destination)?
            .storage
            .clone()
    })
}

fn verify(verification: &Verification) -> VerifyDocument {
    VerifyDocument {
        level: verification.level,
        on_device: verification.on_device,
        entries: verification.entries,
        bytes: verification.bytes,
        digest_source: verification.digest_source.clone(),
        digest_destination: verification.digest_destination.clone(),
    }
}

#[cfg(test)]
mod tests {
    use livmig_proto::control::{LeftOut, Reason};
    use proptest::prelude::*;

    use super::*;
    use crate::{
        machine::tests::led,
        result::{Probe, StepOutcome},
        step::Step,
    };

    /// Lets every pass of `records` leave out `count` mounts, the first of them by name.
    fn leave_out(records: &mut [Record], count: u64) {
        for record in records {
            if let Event::Outcome { outcome, .. }
            | Event::Probed {
                found: Probe::Done { outcome },
                ..
            } = &mut record.event
                && let StepOutcome::Passed { reports } = outcome
            {
                for volume in reports {
                    let report = &mut volume.report;
                    let mut left = LeftOut::new(Reason::Mount);
                    left.add("run/s".to_owned(), String::new());
                    left.total = count;
                    report.left_out = vec![left];
                }
            }
        }
    }

    proptest! {
        #[test]
        fn every_prefix_of_every_history_has_a_document(records in led()) {
            for length in 1..=records.len() {
                let told = document(&records[..length], Timestamp(2_000_000)).unwrap();
                let checked = records[..length].iter().any(|record| matches!(
                    record.event,
                    Event::Outcome { step: Step::Check, .. }
                ));
                prop_assert_eq!(told.status.warnings.is_empty(), !checked);
            }
        }

        #[test]
        fn what_is_not_carried_is_told_from_the_first_complete_pass_on(
            mut records in led(),
            count in 1u64..,
        ) {
            leave_out(&mut records, count);
            let told = document(&records, Timestamp(2_000_000)).unwrap();
            let consented = told.spec.options.leave_out.contains(&Reason::Mount);
            let complete = told.status.passes.iter().any(|pass| pass.complete);
            let volume = &serde_json::to_value(told).unwrap()["status"]["volumes"][0];
            if complete {
                prop_assert_eq!(&volume["notCarried"], &serde_json::json!({ "mount": count }));
                prop_assert_eq!(&volume["leftOut"], &serde_json::json!([{
                    "reason": "mount", "gravity": "grave", "consented": consented, "total": count,
                    "paths": ["run/s"], "listed": [{"path": "run/s"}],
                }]));
            } else {
                prop_assert!(volume.get("notCarried").is_none());
                prop_assert!(volume.get("leftOut").is_none());
            }
        }
    }
}
