//! What comes back from a step: typed outcomes, failures, and the findings of a probe.

use livmig_proto::control::{Fault, FaultCode, PassKind, PassReport, VerifyLevel, Welcome};
use serde::{Deserialize, Serialize};

use crate::{spec::VolumeName, step::Step};

/// What a step that was done brought.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum StepOutcome {
    /// Nothing but being done: quiesce, swap, unquiesce, settle and the undoing steps.
    Done,
    /// Of a check that found no obstacle.
    Checked {
        /// What people should know before it goes on.
        warnings: Vec<String>,
    },
    /// Of started movers.
    Movers {
        /// Who they are, two for each volume.
        movers: Vec<MoverFacts>,
    },
    /// Of a pass that ran, complete or not.
    Passed {
        /// One report for each volume.
        reports: Vec<VolumePass>,
    },
    /// Of the fence.
    Fenced {
        /// That nothing writes.
        proof: Proof,
    },
    /// Of the verification.
    Verified {
        /// One for each volume.
        volumes: Vec<Verification>,
        /// The fence's proof, found standing after the digests were taken.
        proof: Proof,
    },
}

impl StepOutcome {
    /// Whether this kind of outcome belongs to `step`.
    pub fn fits(&self, step: Step) -> bool {
        match (step, self) {
            (Step::Pass { number, kind }, Self::Passed { reports }) => reports
                .iter()
                .all(|volume| volume.report.pass == number && volume.report.kind == kind),
            (Step::Check, Self::Checked { .. })
            | (Step::StartMovers, Self::Movers { .. })
            | (Step::Fence, Self::Fenced { .. })
            | (Step::Verify, Self::Verified { .. })
            | (
                Step::Quiesce
                | Step::Swap
                | Step::Unquiesce
                | Step::Settle
                | Step::Unswap
                | Step::Unfence
                | Step::Restart
                | Step::StopMovers,
                Self::Done,
            ) => true,
            _ => false,
        }
    }
}

/// A mover that runs.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MoverFacts {
    /// The volume it serves.
    pub volume: VolumeName,
    /// What it said of itself.
    pub welcome: Welcome,
    /// The storage it serves, where that has a name only once the mover runs: a volume that was
    /// provisioned for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<String>,
}

/// One volume's report of a pass.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumePass {
    /// The volume.
    pub volume: VolumeName,
    /// The source mover's report.
    pub report: PassReport,
}

/// How it is known that nothing writes to the source any more.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Proof {
    /// What was looked at, for people.
    pub evidence: String,
}

/// Both ends of one volume, compared after the final pass.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// The volume.
    pub volume: VolumeName,
    /// How hard it was looked.
    pub level: VerifyLevel,
    /// Whether the destination was read from its device and not from a cache.
    pub on_device: bool,
    /// Entries at the destination, directories included.
    pub entries: u64,
    /// Bytes of content at the destination.
    pub bytes: u64,
    /// Digest of the source, hexadecimal.
    pub digest_source: String,
    /// Digest of the destination, hexadecimal.
    pub digest_destination: String,
}

impl Verification {
    /// Whether both ends hold the same. Two absent digests prove nothing.
    pub fn equal(&self) -> bool {
        !self.digest_source.is_empty() && self.digest_source == self.digest_destination
    }
}

/// Why a step was not done.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, thiserror::Error)]
#[error("{message}")]
#[serde(rename_all = "camelCase")]
pub struct StepFailure {
    /// What trying again would bring.
    pub kind: FailureKind,
    /// The mover's code, where a mover said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<FaultCode>,
    /// What happened, to which object, and what state that is in now; one sentence without a
    /// full stop.
    pub message: String,
    /// What a person can do about it, best as a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl StepFailure {
    /// A failure that may pass by itself.
    pub fn transient(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Transient, message)
    }

    /// A failure that comes again however often it is tried.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Permanent, message)
    }

    /// A failure after which neither direction is safe without a person's decision.
    pub fn undecided(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Undecided, message)
    }

    fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            code: None,
            message: message.into(),
            hint: None,
        }
    }

    /// The same with advice.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<Fault> for StepFailure {
    fn from(fault: Fault) -> Self {
        let kind = if fault.code.is_transient() {
            FailureKind::Transient
        } else {
            FailureKind::Permanent
        };
        Self {
            kind,
            code: Some(fault.code),
            message: format!("{fault} (at the {})", fault.side),
            hint: None,
        }
    }
}

/// What trying a failed step again would bring.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum FailureKind {
    /// It may succeed.
    Transient,
    /// It fails again; before COMMIT the migration rolls back, at the swap too.
    Permanent,
    /// Unknown and dangerous: a person must decide.
    Undecided,
}

/// What a platform found out about a step whose outcome nobody recorded.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum Probe {
    /// It was done, wholly.
    Done {
        /// What it brought.
        outcome: StepOutcome,
    },
    /// It was not done, or in part; performing it is right.
    NotDone,
}

/// Why a pass did not do what it was for; none when it did.
///
/// A live pass did when every volume's was complete. It may have no digests: something vanished
/// while it ran, and the next pass looks again. A final pass has no next one, so both ends of
/// every volume must have the same digest as well.
pub fn pass_failure(reports: &[VolumePass]) -> Option<StepFailure> {
    reports
        .iter()
        .find(|volume| !volume.report.complete)
        .map(incomplete)
        .or_else(|| reports.iter().find_map(unequal))
}

/// The failure of a pass that was not complete: its first fault.
fn incomplete(broken: &VolumePass) -> StepFailure {
    let report = &broken.report;
    // A fault that stays decides over one that may pass.
    let fault = report
        .faults
        .iter()
        .find(|fault| !fault.code.is_transient())
        .or(report.faults.first());
    match fault {
        Some(fault) => {
            let mut failure = StepFailure::from(fault.clone());
            if report.faults_total > 1 {
                failure.message = format!(
                    "{}, and {} more faults",
                    failure.message,
                    report.faults_total - 1
                );
            }
            failure
        }
        None => StepFailure::transient(format!(
            "{} pass {} of {} ended incomplete without naming a fault",
            match report.kind {
                PassKind::Live => "live",
                PassKind::Final => "final",
            },
            report.pass,
            broken.volume
        )),
    }
}

/// The failure of a complete final pass whose ends are not shown to hold the same.
fn unequal(VolumePass { volume, report }: &VolumePass) -> Option<StepFailure> {
    let (source, destination) = (&report.digest_source, &report.digest_destination);
    if report.kind == PassKind::Live || (!source.is_empty() && source == destination) {
        return None;
    }
    let mut failure = StepFailure::transient(format!(
        "final pass {} of {volume} left both ends not proven equal: the source has digest \
         {source:?}, the destination {destination:?}",
        report.pass
    ));
    failure.code = Some(FaultCode::Mismatch);
    Some(failure)
}
