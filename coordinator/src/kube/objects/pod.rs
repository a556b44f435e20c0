//! What pods tell about the claims they use. Pure.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use livmig_engine::spec::MigrationSpec;

use crate::kube::api::{names::MIGRATION, uid::Uid};

/// What is known about one pod.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PodFacts {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its node; none while it is not scheduled.
    pub node: Option<String>,
    /// The claims it names.
    pub claims: BTreeSet<String>,
    /// The migration that made it, where one did.
    pub migration: Option<String>,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Whether its containers run.
    pub running: bool,
    /// How much of it is left.
    pub left: PodRemains,
    /// The address of the pod.
    pub address: Option<String>,
}

/// How much is left of a pod.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PodRemains {
    /// A container may run.
    Containers,
    /// Every container has ended, or none was ever started.
    Sandbox,
    /// It is being deleted and its node says that all of it has ended for good: the containers, and
    /// with them the sandbox. Its volumes are still to be unmounted.
    Mounts,
}

impl PodFacts {
    /// What `pod` tells.
    pub fn of(pod: &Pod) -> Self {
        let spec = pod.spec.as_ref();
        let status = pod.status.as_ref();
        let claims = spec
            .and_then(|spec| spec.volumes.as_ref())
            .into_iter()
            .flatten()
            .filter_map(|volume| {
                // A generic ephemeral volume's claim is called after pod and volume.
                let ephemeral = volume.ephemeral.as_ref().map(|_| {
                    format!(
                        "{}-{}",
                        pod.metadata.name.as_deref().unwrap_or_default(),
                        volume.name
                    )
                });
                let named = volume.persistent_volume_claim.as_ref();
                named.map(|named| named.claim_name.clone()).or(ephemeral)
            })
            .collect();
        let containers: Vec<&ContainerStatus> = status
            .into_iter()
            .flat_map(|status| {
                [
                    &status.init_container_statuses,
                    &status.container_statuses,
                    &status.ephemeral_container_statuses,
                ]
            })
            .flatten()
            .flatten()
            .collect();
        let node = spec.and_then(|spec| spec.node_name.clone());
        let phase = status.and_then(|status| status.phase.as_deref());
        let deleting = pod.metadata.deletion_timestamp.is_some();
        // A pod that was scheduled and tells nothing may have started something.
        let ended = node.is_none()
            || (!containers.is_empty() && containers.iter().all(|container| has_ended(container)));
        // What runs among the node's own processes may outlive the container that began it.
        let own_processes = spec.is_some_and(|spec| spec.host_pid != Some(true));
        // A pod that is being deleted gets such a phase from its kubelet, when it has ended the
        // sandbox, and from nobody else while its containers count as running.
        let final_phase = matches!(phase, Some("Succeeded" | "Failed"));
        // Said of a container that the runtime no longer knows, whatever became of its processes.
        let known = !containers.iter().any(|container| is_unknown(container));
        let left = if !ended {
            PodRemains::Containers
        } else if deleting && final_phase && known && own_processes && node.is_some() {
            PodRemains::Mounts
        } else {
            PodRemains::Sandbox
        };
        Self {
            name: pod.metadata.name.clone().unwrap_or_default(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            claims,
            migration: pod
                .metadata
                .labels
                .as_ref()
                .and_then(|labels| labels.get(MIGRATION).cloned()),
            deleting,
            running: phase == Some("Running"),
            left,
            address: status.and_then(|status| status.pod_ip.clone()),
            node,
        }
    }

    /// Whether every container has ended, or none was ever started.
    pub fn has_ended(&self) -> bool {
        self.left != PodRemains::Containers
    }

    /// Whether nothing of it is left but mounts.
    pub fn is_over(&self) -> bool {
        self.left == PodRemains::Mounts
    }

    /// Whether it names `claim` and was not made by `migration`.
    pub fn consumes(&self, claim: &str, migration: &Uid<MigrationSpec>) -> bool {
        self.claims.contains(claim) && !migration.is(self.migration.as_deref())
    }
}

/// Whether nothing of the container runs: it was ended, or never begun.
fn has_ended(container: &ContainerStatus) -> bool {
    match &container.state {
        Some(state) if state.running.is_some() => false,
        Some(state) if state.terminated.is_some() => true,
        // Waiting: for its first start, or between two.
        _ => container
            .last_state
            .as_ref()
            .is_none_or(|last| last.running.is_none()),
    }
}

fn is_unknown(container: &ContainerStatus) -> bool {
    let state = container.state.as_ref();
    let terminated = state.and_then(|state| state.terminated.as_ref());
    let reason = terminated.and_then(|terminated| terminated.reason.as_deref());
    reason == Some("ContainerStatusUnknown")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn facts(pod: serde_json::Value) -> PodFacts {
        PodFacts::of(&serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn claims_are_found_by_name_and_as_generic_ephemeral_volumes() {
        let pod = facts(json!({
            "metadata": {"name": "app-0", "uid": "u"},
            "spec": {"containers": [], "volumes": [
                {"name": "data", "persistentVolumeClaim": {"claimName": "data-app-0"}},
                {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}},
                {"name": "other", "emptyDir": {}},
            ]},
        }));
        let migration = Uid::new("m");
        assert!(pod.consumes("data-app-0", &migration));
        assert!(pod.consumes("app-0-scratch", &migration));
        assert_eq!(pod.claims.len(), 2);
    }

    #[test]
    fn a_pod_is_over_only_when_its_node_says_that_nothing_of_it_is_left() {
        let pod = |change: fn(&mut serde_json::Value)| {
            let mut pod = json!({
                "metadata": {"name": "app-0", "deletionTimestamp": "2026-01-01T00:00:00Z"},
                "spec": {"nodeName": "n", "containers": []},
                "status": {"phase": "Succeeded", "containerStatuses": [
                    {"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                     "state": {"terminated": {"exitCode": 0}}}]},
            });
            change(&mut pod);
            facts(pod).is_over()
        };
        assert!(pod(|_| ()));
        assert!(pod(|pod| pod["status"]["phase"] = "Failed".into()));
        assert!(!pod(|pod| pod["status"]["phase"] = "Running".into()));
        assert!(!pod(
            |pod| pod["metadata"]["deletionTimestamp"] = json!(null)
        ));
        assert!(!pod(|pod| pod["spec"]["hostPID"] = true.into()));
        assert!(!pod(|pod| pod["spec"]["nodeName"] = json!(null)));
        // Given up by the control plane: the kubelet has said nothing of its containers.
        assert!(!pod(|pod| pod["status"]["containerStatuses"] = json!([])));
        assert!(!pod(|pod| {
            pod["status"]["containerStatuses"][0]["state"] = json!({"running": {}});
        }));
        assert!(!pod(|pod| {
            let unknown = json!({"exitCode": 137, "reason": "ContainerStatusUnknown"});
            pod["status"]["containerStatuses"][0]["state"]["terminated"] = unknown;
        }));
    }

    #[test]
    fn a_pod_has_ended_only_when_every_container_says_so() {
        let pod = |node: Option<&str>, states: serde_json::Value| {
            facts(json!({
                "metadata": {"name": "app-0"},
                "spec": {"nodeName": node, "containers": []},
                "status": {"containerStatuses": states},
            }))
            .has_ended()
        };
        let container = |state: serde_json::Value| {
            json!({"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                   "state": state})
        };
        let ended = container(json!({"terminated": {"exitCode": 0}}));
        let runs = container(json!({"running": {}}));
        assert!(pod(None, json!([])), "never scheduled");
        assert!(!pod(Some("n"), json!([])), "nothing is told");
        assert!(pod(Some("n"), json!([ended])));
        assert!(!pod(Some("n"), json!([ended, runs])));
    }
}
