//! What a user asked for, fixed when the migration is planned.

mod kubernetes;

pub use kubernetes::{
    ClaimTarget, KubernetesTarget, MoverCapability, MoverPods, RunAs, UnknownCapability,
    WorkloadKind, WorkloadRef,
};

use std::{collections::BTreeSet, fmt, path::PathBuf, time::Duration};

use livmig_proto::{
    control::{Limits, Reason, VerifyLevel},
    ids::MigrationUid,
};
use serde::{Deserialize, Serialize};

/// One migration as it was asked for. It is the first record of the journal and never changes.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MigrationSpec {
    /// What people call it.
    pub name: MigrationName,
    /// What programs call it.
    pub uid: MigrationUid,
    /// What is moved, and where to.
    pub target: Target,
    /// How.
    pub options: Options,
}

/// The name of a migration: 1 to 63 of `a-z 0-9 -`, neither first nor last a dash, so that it can
/// also name a file and a Kubernetes object.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct MigrationName(String);

/// A text that is no migration's name.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0:?} is not a migration name: 1 to 63 of a-z, 0-9 and dashes inside")]
pub struct BadName(String);

impl MigrationName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for MigrationName {
    type Error = BadName;

    fn try_from(name: String) -> Result<Self, BadName> {
        let legal = (1..=63).contains(&name.len())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !name.starts_with('-')
            && !name.ends_with('-');
        if legal {
            Ok(Self(name))
        } else {
            Err(BadName(name))
        }
    }
}

impl From<MigrationName> for String {
    fn from(name: MigrationName) -> Self {
        name.0
    }
}

impl fmt::Display for MigrationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is moved, by platform.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "platform", rename_all = "camelCase")]
pub enum Target {
    /// A directory of this machine.
    Host(HostTarget),
    /// Claims of a workload of a Kubernetes cluster.
    Kubernetes(KubernetesTarget),
}

impl Target {
    /// The namespace the workload lives in, where the platform has such a thing.
    pub fn namespace(&self) -> Option<&str> {
        match self {
            Self::Host(_) => None,
            Self::Kubernetes(kubernetes) => Some(&kubernetes.namespace),
        }
    }

    /// The directory, where it is one of a host.
    pub fn host(&self) -> Option<&HostTarget> {
        match self {
            Self::Host(host) => Some(host),
            Self::Kubernetes(_) => None,
        }
    }

    /// The workload and its claims, where it is one of a cluster.
    pub fn kubernetes(&self) -> Option<&KubernetesTarget> {
        match self {
            Self::Host(_) => None,
            Self::Kubernetes(kubernetes) => Some(kubernetes),
        }
    }

    /// The volumes that move together, in a fixed order.
    pub fn volumes(&self) -> Vec<VolumeTarget> {
        match self {
            Self::Host(host) => vec![VolumeTarget {
                volume: host.volume(),
                source: host.source.display().to_string(),
                destination: host.destination.display().to_string(),
            }],
            Self::Kubernetes(kubernetes) => kubernetes.claims.iter().map(Into::into).collect(),
        }
    }
}

/// A directory that a workload reaches through a symbolic link.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostTarget {
    /// The symbolic link, absolute.
    pub path: PathBuf,
    /// The directory the link led to when the migration was planned, absolute and without links.
    pub source: PathBuf,
    /// The directory that will hold the data, absolute.
    pub destination: PathBuf,
    /// Stops the workload; idempotent, exit code 0 means stopped. Run by `/bin/sh -c`.
    pub stop_command: String,
    /// Starts the workload; idempotent, exit code 0 means ready. Run by `/bin/sh -c`.
    pub start_command: String,
}

impl HostTarget {
    /// The name of its one volume: the link.
    pub fn volume(&self) -> VolumeName {
        VolumeName(self.path.display().to_string())
    }
}

/// What the workload calls a volume: a claim, or on a host the link's path.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct VolumeName(pub String);

impl fmt::Display for VolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The two ends of one volume's move, as shown to people.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VolumeTarget {
    /// The volume.
    pub volume: VolumeName,
    /// What holds it now.
    pub source: String,
    /// What will hold it.
    pub destination: String,
}

/// How a migration behaves.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Options {
    /// The longest downtime to plan for.
    #[serde(rename = "maxDowntimeMs", with = "crate::time::millis")]
    pub max_downtime: Duration,
    /// What to do when the budget cannot be met.
    pub on_overrun: OnOverrun,
    /// How the destination proves what it holds.
    pub verify: VerifyLevel,
    /// Whether a destination that already holds something is taken over.
    pub adopt: bool,
    /// How much load live passes may be, until somebody changes it.
    #[serde(default)]
    pub load: Limits,
    /// The reasons for which something grave may be left out.
    #[serde(default)]
    pub leave_out: BTreeSet<Reason>,
    /// Live passes after which no more are tried.
    pub max_passes: u32,
    /// When to switch once that is possible.
    pub switch: SwitchMode,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_downtime: Duration::from_mins(1),
            on_overrun: OnOverrun::Abort,
            verify: VerifyLevel::Readback,
            adopt: false,
            load: Limits::default(),
            leave_out: BTreeSet::new(),
            max_passes: 20,
            switch: SwitchMode::WhenReady,
        }
    }
}

/// What to do when passes converge above the budget.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum OnOverrun {
    /// Ask the user; only where somebody can answer.
    Ask,
    /// Give up; the workload is untouched.
    Abort,
    /// Keep passing until the budget can be met.
    Wait,
    /// Accept the predicted downtime.
    Proceed,
}

impl fmt::Display for OnOverrun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ask => "ask",
            Self::Abort => "abort",
            Self::Wait => "wait",
            Self::Proceed => "proceed",
        })
    }
}

/// When to switch once that is possible.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum SwitchMode {
    /// At once.
    WhenReady,
    /// When the user says so; until then passes keep the destination close.
    OnRequest,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed() {
        for good in ["a", "data-1", &"x".repeat(63)] {
            assert_eq!(
                MigrationName::try_from(good.to_owned()).unwrap().as_str(),
                good
            );
        }
        for bad in ["", "-a", "a-", "A", "a/b", "..", &"x".repeat(64), "a b"] {
            let error = MigrationName::try_from(bad.to_owned()).unwrap_err();
            assert!(error.to_string().contains("not a migration name"));
        }
    }
}
