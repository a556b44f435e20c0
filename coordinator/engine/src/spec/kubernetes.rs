//! A workload of a Kubernetes cluster and the claims of it that move.

use std::{collections::BTreeSet, fmt, str::FromStr};

use livmig_proto::control::Side;
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
    /// What they may do beyond what every mover may.
    #[serde(default)]
    pub capabilities: BTreeSet<MoverCapability>,
}

/// A capability that movers get only when somebody says so: no namespace that enforces *baseline*
/// admits it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MoverCapability {
    /// Lists and carries `trusted.*` attributes, and sets those of `security.*` that are not file
    /// capabilities.
    SysAdmin,
    /// Takes leases on files of other owners, by which a final pass finds who still writes.
    Lease,
}

impl MoverCapability {
    /// Each of them.
    pub const ALL: [Self; 2] = [Self::SysAdmin, Self::Lease];

    /// Its name in a container's security context. With `CAP_` in front, the API server refuses
    /// the first one beside `allowPrivilegeEscalation: false`.
    pub fn name(self) -> &'static str {
        match self {
            Self::SysAdmin => "SYS_ADMIN",
            Self::Lease => "LEASE",
        }
    }

    /// Whether the mover of that end has use for it.
    pub fn serves(self, side: Side) -> bool {
        match self {
            Self::SysAdmin => true,
            Self::Lease => side == Side::Source,
        }
    }
}

impl fmt::Display for MoverCapability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that names no capability that movers can be given.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("movers have no use for a capability {text:?}; they can be given {known}")]
pub struct UnknownCapability {
    text: String,
    known: String,
}

impl FromStr for MoverCapability {
    type Err = UnknownCapability;

    fn from_str(text: &str) -> Result<Self, UnknownCapability> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        Self::ALL
            .into_iter()
            .find(|capability| capability.name() == name)
            .ok_or_else(|| UnknownCapability {
                text: text.to_owned(),
                known: Self::ALL.map(Self::name).join(", "),
            })
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capability_is_known_by_its_name_with_and_without_a_prefix() {
        for capability in MoverCapability::ALL {
            let name = capability.name();
            let spelled = [name.to_owned(), format!("CAP_{name}"), name.to_lowercase()];
            for text in spelled {
                assert_eq!(text.parse(), Ok(capability), "{text}");
            }
            let json = serde_json::to_string(&capability).unwrap();
            assert_eq!(json, format!("\"{name}\""));
        }
        let refused = "NET_ADMIN".parse::<MoverCapability>().unwrap_err();
        assert!(refused.to_string().contains("SYS_ADMIN"), "{refused}");
    }

    #[test]
    fn movers_that_were_planned_before_there_were_capabilities_have_none() {
        let stored: MoverPods = serde_json::from_str(r#"{"image":"i"}"#).unwrap();
        assert!(stored.capabilities.is_empty());
    }
}
