//! A workload of a Kubernetes cluster and the claims of it that move.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{VolumeName, VolumeTarget};

/// Claims of a workload of a Kubernetes cluster. All of them are one consistency group: passed in
/// parallel, quiesced once, swapped together or not at all.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KubernetesTarget {
    /// The namespace of the workload, its claims and everything the migration makes.
    pub namespace: String,
    /// The workload that is stopped and started.
    pub workload: WorkloadRef,
    /// What moves, in the order of the claims' names.
    pub claims: Vec<ClaimTarget>,
    /// How the movers' pods are made.
    pub mover: MoverPods,
    /// Run by `/bin/sh -c` in the first container of every pod just before the stop, where a
    /// database's checkpoint belongs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_stop: Option<String>,
    /// Whether a `StatefulSet`'s claim templates get the new classes, so that a later scale-up does.
    #[serde(default)]
    pub update_template: bool,
    /// Whether re-created claims keep the class name of the old ones, as it stands in a repository
    /// that something else applies.
    #[serde(default)]
    pub keep_claim_spec: bool,
}

/// The workload, told from a later one of the same name by its UID.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadRef {
    /// What it is.
    pub kind: WorkloadKind,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

impl fmt::Display for WorkloadRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.resource(), self.name)
    }
}

/// The kinds of workload that can be stopped and started by their number of replicas.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum WorkloadKind {
    /// `apps/v1 StatefulSet`.
    StatefulSet,
    /// `apps/v1 Deployment`.
    Deployment,
}

impl WorkloadKind {
    /// The word for it on command lines.
    pub fn resource(self) -> &'static str {
        match self {
            Self::StatefulSet => "statefulset",
            Self::Deployment => "deployment",
        }
    }
}

/// One claim that moves to another class.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimTarget {
    /// The claim.
    pub claim: String,
    /// The claim's UID when the migration was planned.
    pub claim_uid: String,
    /// The persistent volume it was bound to then.
    pub volume: String,
    /// That volume's UID.
    pub volume_uid: String,
    /// That volume's class; empty where it has none.
    pub from_class: String,
    /// The class of the volume that will hold the data.
    pub to_class: String,
}

impl ClaimTarget {
    /// What the workload calls the volume.
    pub fn name(&self) -> VolumeName {
        VolumeName(self.claim.clone())
    }
}

impl From<&ClaimTarget> for VolumeTarget {
    fn from(target: &ClaimTarget) -> Self {
        Self {
            volume: target.name(),
            source: target.volume.clone(),
            destination: format!("a new volume of class {}", target.to_class),
        }
    }
}

/// How the movers' pods are made.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MoverPods {
    /// The image of `livmig-mover`.
    pub image: String,
    /// The Secret of the workload's namespace with which it is pulled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_secret: Option<String>,
    /// As whom they run where the namespace allows restricted pods only; none elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_as: Option<RunAs>,
}

/// As whom the workload runs, and so movers that may do no more than it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunAs {
    /// The user.
    pub user: i64,
    /// The group; none where the image says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<i64>,
    /// The group that its volumes are given to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fs_group: Option<i64>,
}
