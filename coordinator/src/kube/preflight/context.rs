//! What every check is given, and the questions that several of them ask.

use k8s_openapi::api::core::v1::{Node, Pod, PodSpec};

use super::{
    request::MigrationRequest,
    select::ClaimMove,
    snapshot::{Snapshot, WorkloadObject},
};
use crate::kube::api::names;

/// What every check is given.
pub(crate) struct CheckContext<'a> {
    /// What was read of the cluster.
    pub(crate) view: &'a Snapshot,
    /// What is wished for.
    pub(crate) wish: &'a MigrationRequest,
    /// The workload.
    pub(crate) workload: &'a WorkloadObject,
    /// What moves.
    pub(crate) moves: Vec<ClaimMove<'a>>,
}

impl<'a> CheckContext<'a> {
    /// The workload as an object of a finding.
    pub(crate) fn object(&self) -> String {
        format!(
            "{}/{}",
            self.workload.kind().resource(),
            self.workload.name()
        )
    }

    /// The workload's pods.
    pub(crate) fn own_pods(&self) -> impl Iterator<Item = &'a Pod> {
        self.view.pods.iter().filter(|pod| self.owns(pod))
    }

    /// Pods that name `claim` and are neither the workload's nor this migration's.
    pub(crate) fn foreign_pods(&self, claim: &str) -> impl Iterator<Item = &'a Pod> {
        self.view.pods.iter().filter(move |pod| {
            let ours = label(pod, names::MIGRATION) == Some(&self.wish.uid.to_string());
            !ours && !self.owns(pod) && claims_of(pod).iter().any(|named| named == claim)
        })
    }

    /// The nodes on which the workload's pods are.
    pub(crate) fn own_nodes(&self) -> Vec<&'a str> {
        let mut nodes: Vec<&str> = self.own_pods().filter_map(node_of).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    /// The node called `name`.
    pub(crate) fn node(&self, name: &str) -> Option<&'a Node> {
        self.view
            .nodes
            .iter()
            .flatten()
            .find(|node| node.metadata.name.as_deref() == Some(name))
    }

    /// What the workload's pods are made of.
    pub(crate) fn pod_spec(&self) -> Option<&'a PodSpec> {
        self.workload.template()?.spec.as_ref()
    }

    fn owns(&self, pod: &Pod) -> bool {
        let Some(owner) = controller(pod) else {
            return false;
        };
        let uid = self.workload.metadata().uid.as_deref();
        match (self.workload, &self.view.replica_sets) {
            (WorkloadObject::StatefulSet(_), _) => uid == Some(owner.1),
            (WorkloadObject::Deployment(_), Some(sets)) => sets.iter().any(|set| {
                set.metadata.uid.as_deref() == Some(owner.1)
                    && set
                        .metadata
                        .owner_references
                        .iter()
                        .flatten()
                        .any(|above| Some(above.uid.as_str()) == uid)
            }),
            // Not allowed to look: a replica set is called as its Deployment and a hash.
            (WorkloadObject::Deployment(_), None) => owner
                .0
                .rsplit_once('-')
                .is_some_and(|(name, _)| name == self.workload.name()),
        }
    }
}

/// The name and the UID of the controller of `pod`.
fn controller(pod: &Pod) -> Option<(&str, &str)> {
    let owners = pod.metadata.owner_references.as_ref()?;
    let owner = owners.iter().find(|owner| owner.controller == Some(true))?;
    Some((&owner.name, &owner.uid))
}

fn label<'a>(pod: &'a Pod, key: &str) -> Option<&'a String> {
    pod.metadata.labels.as_ref()?.get(key)
}

/// A pod's name.
pub(crate) fn name_of(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// The node a pod was scheduled to.
pub(crate) fn node_of(pod: &Pod) -> Option<&str> {
    let node = pod.spec.as_ref()?.node_name.as_deref()?;
    (!node.is_empty()).then_some(node)
}

/// Whether a pod has run to its end.
pub(crate) fn is_finished(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// The claims that a pod names, those of its generic ephemeral volumes included.
pub(crate) fn claims_of(pod: &Pod) -> Vec<String> {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
    volumes
        .into_iter()
        .flatten()
        .filter_map(|volume| {
            if let Some(claim) = &volume.persistent_volume_claim {
                return Some(claim.claim_name.clone());
            }
            let ephemeral = volume.ephemeral.as_ref();
            ephemeral.map(|_| format!("{}-{}", name_of(pod), volume.name))
        })
        .collect()
}
