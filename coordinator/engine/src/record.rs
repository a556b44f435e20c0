//! The journal's records and their encoding.
//!
//! A record is one line of JSON. Replaying all of them in order gives the machine's state, so
//! nothing that decides about a migration may live anywhere else.

use std::collections::BTreeMap;

use livmig_proto::{control::Reason, ids::Epoch};
use serde::{Deserialize, Serialize};

use crate::{
    convergence::Prediction,
    request::Request,
    result::{Probe, Proof, StepFailure, StepOutcome, Verification},
    spec::MigrationSpec,
    step::Step,
    time::Timestamp,
};

/// The schema this program writes, and the newest it reads.
pub const SCHEMA: u32 = 1;

/// One entry of the journal.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The schema it was written in.
    pub schema: u32,
    /// Its place in the journal, counted from 0 without gaps.
    pub seq: u64,
    /// The epoch of the coordinator that wrote it.
    pub epoch: Epoch,
    /// When.
    pub at: Timestamp,
    /// What happened.
    pub event: Event,
}

/// What can happen to a migration.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum Event {
    /// It was asked for. Always the first record, and only there.
    Planned {
        /// What was asked for.
        spec: Box<MigrationSpec>,
    },
    /// Another coordinator took over; the record's epoch is one above the last.
    Adopted,
    /// A step is about to be performed.
    Intent {
        /// Which.
        step: Step,
    },
    /// A step was performed.
    Outcome {
        /// Which.
        step: Step,
        /// What it brought.
        outcome: StepOutcome,
    },
    /// A step was tried in vain.
    Failure {
        /// Which.
        step: Step,
        /// Why.
        failure: StepFailure,
    },
    /// A step in doubt was looked at.
    Probed {
        /// Which.
        step: Step,
        /// What was found.
        found: Probe,
    },
    /// A step under way was cut off, because its result no longer matters.
    Abandoned {
        /// Which.
        step: Step,
    },
    /// A person asked for something.
    Requested {
        /// What.
        request: Request,
    },
    /// The machine decided.
    Decided {
        /// What.
        decision: Decision,
    },
    /// The destination is proven equal while nothing writes: from here on, forward.
    Commit {
        /// Both ends of every volume.
        volumes: Vec<Verification>,
        /// The proof that nothing writes.
        proof: Proof,
    },
}

/// A decision that is worth a record of its own.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum Decision {
    /// Stop the workload now.
    Switch {
        /// The downtime expected.
        prediction: Box<Prediction>,
    },
    /// Give up before anything was changed.
    Refuse {
        /// The check's failure.
        failure: StepFailure,
    },
    /// Make the final pass and the verification once more.
    AnotherRound,
    /// Undo what was done.
    RollBack {
        /// Why.
        cause: Cause,
    },
    /// Wait for a person.
    Halt {
        /// The step that cannot go on.
        step: Step,
        /// Why.
        failure: StepFailure,
    },
    /// Stop here; a resume goes on.
    Interrupt,
}

impl Decision {
    /// The word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Switch { .. } => "switch",
            Self::Refuse { .. } => "refuse",
            Self::AnotherRound => "another round",
            Self::RollBack { .. } => "roll back",
            Self::Halt { .. } => "halt",
            Self::Interrupt => "interrupt",
        }
    }
}

/// Why a migration rolls back.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum Cause {
    /// A step failed.
    Failed {
        /// Which.
        step: Step,
        /// Why.
        failure: StepFailure,
    },
    /// The budget cannot be met, said the prediction, and nobody accepted more.
    Overrun {
        /// The prediction.
        prediction: Box<Prediction>,
    },
    /// The downtime would have exceeded the budget.
    Late {
        /// The downtime so far, in milliseconds.
        elapsed_ms: u64,
        /// The budget, in milliseconds.
        budget_ms: u64,
    },
    /// A complete pass left out something grave, and nobody had said that it may.
    LeftOut {
        /// Each reason without consent, and of how many entries.
        reasons: BTreeMap<Reason, u64>,
    },
    /// A person asked for it.
    Requested,
    /// The coordinator was interrupted inside the downtime.
    Interrupted,
}

/// Why text is not a record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Written by a newer program.
    #[error(
        "the journal has schema {found}, this program knows {SCHEMA}; use the program that wrote it"
    )]
    Newer {
        /// The record's schema.
        found: u64,
    },
    /// Not a record at all.
    #[error("the journal holds a line that is not a record")]
    Json(#[from] serde_json::Error),
}

impl Record {
    /// The record as one line of JSON without the line feed.
    ///
    /// # Errors
    /// When something in it has no JSON, such as a path that is not UTF-8.
    pub fn encode(&self) -> Result<String, RecordError> {
        Ok(serde_json::to_string(self)?)
    }

    /// The record in `line`.
    ///
    /// # Errors
    /// When it is of a newer schema or not a record.
    pub fn decode(line: &str) -> Result<Self, RecordError> {
        // The schema is read first: a newer record may not parse at all, and the reason to give
        // is its age, not its shape.
        let head: RecordHead = serde_json::from_str(line)?;
        if head.schema > u64::from(SCHEMA) {
            return Err(RecordError::Newer { found: head.schema });
        }
        Ok(serde_json::from_str(line)?)
    }
}

/// The part of a record that every schema has.
#[derive(Deserialize)]
struct RecordHead {
    schema: u64,
}

/// The spec a journal starts with; none when it starts with something else.
pub fn spec_of(records: &[Record]) -> Option<&MigrationSpec> {
    match &records.first()?.event {
        Event::Planned { spec } => Some(spec),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use livmig_proto::ids::PassNumber;

    use super::*;

    fn intent() -> Record {
        Record {
            schema: SCHEMA,
            seq: 7,
            epoch: Epoch(2),
            at: Timestamp(1_750_000_000_123),
            event: Event::Intent {
                step: Step::live(PassNumber(3)),
            },
        }
    }

    #[test]
    fn the_line_of_a_record_is_fixed() {
        let line = r#"{"schema":1,"seq":7,"epoch":2,"at":1750000000123,"event":{"type":"intent","step":{"name":"pass","number":3,"kind":"live"}}}"#;
        assert_eq!(intent().encode().unwrap(), line);
        assert_eq!(Record::decode(line).unwrap(), intent());
    }

    #[test]
    fn a_newer_schema_is_refused_for_its_age_even_when_it_does_not_parse() {
        let error = Record::decode(r#"{"schema":2,"something":"else"}"#).unwrap_err();
        assert!(matches!(error, RecordError::Newer { found: 2 }));
        assert!(error.to_string().contains("schema 2"), "{error}");
        assert!(Record::decode(r#"{"schema":18446744073709551615}"#).is_err());
    }

    #[test]
    fn a_journal_of_before_there_were_reasons_is_read() {
        let planned = r#"{"schema":1,"seq":0,"epoch":1,"at":0,"event":{"type":"planned","spec":{"name":"m","uid":"01010101010101010101010101010101","target":{"platform":"kubernetes","namespace":"shop","workload":{"kind":"StatefulSet","name":"db","uid":"u"},"claims":[],"mover":{"image":"i"}},"options":{"maxDowntimeMs":60000,"onOverrun":"abort","verify":"readback","adopt":false,"maxPasses":20,"switch":"whenReady"}}}}"#;
        let Event::Planned { spec } = Record::decode(planned).unwrap().event else {
            panic!("{planned}");
        };
        assert!(spec.options.leave_out.is_empty());
        let passed = r#"{"schema":1,"seq":5,"epoch":1,"at":9,"event":{"type":"outcome","step":{"name":"pass","number":1,"kind":"live"},"outcome":{"type":"passed","reports":[{"volume":"/srv/data","report":{"pass":1,"kind":"live","complete":true,"entries":2,"directories":1,"bytesTotal":0,"bytesScanned":0,"bytesSent":0,"bytesReceived":0,"changed":0,"removed":0,"bytesHot":0,"largestRead":null,"seconds":{"total":0.1,"sourceFlush":0.0,"transfer":0.0,"scan":0.0,"read":0.0,"send":0.0,"finish":0.0,"destinationFlush":0.0,"verify":0.0},"verify":"readback","verifiedOnDevice":true,"digestSource":"aa","digestDestination":"aa","faults":[],"faultsTotal":0,"notCarried":{"another file system is mounted there":1},"notCarriedListed":["wal: another file system is mounted there"]}}]}}}"#;
        let Event::Outcome {
            outcome: StepOutcome::Passed { reports },
            ..
        } = Record::decode(passed).unwrap().event
        else {
            panic!("{passed}");
        };
        assert!(
            reports
                .iter()
                .all(|volume| volume.report.left_out.is_empty())
        );
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for line in ["", "{", "[]", "{}", r#"{"schema":1}"#, r#"{"schema":-1}"#] {
            assert!(
                matches!(Record::decode(line), Err(RecordError::Json(_))),
                "{line}"
            );
        }
    }
}
