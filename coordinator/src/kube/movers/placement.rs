//! Where the movers of a claim belong: on the node of the pod that uses it.

use std::time::Duration;

use livmig_engine::{
    result::StepFailure,
    spec::{ClaimTarget, KubernetesTarget, WorkloadKind},
};

use crate::kube::{
    api::cluster::Cluster,
    migration::{Claim, Migration},
    workload,
    writers::watch::{Consumers, PodsSeen, WatchedClaims},
};

/// Where a claim's movers belong.
#[derive(Clone, Debug)]
pub struct MoverPlace {
    /// The node of the workload's pod that uses the claim; none when none does.
    pub node: Option<String>,
    /// Whether pods have addresses of version 6.
    pub ipv6: bool,
}

/// How long the workload's pod may take until it runs; it is being moved by somebody else.
const RUNS_MAX: Duration = Duration::from_mins(10);

/// Any place in the network of those pods.
pub fn anywhere(consumers: &Consumers) -> MoverPlace {
    let now = consumers.now();
    let mut addresses = now.pods.values().filter_map(|pod| pod.address.as_deref());
    MoverPlace {
        node: None,
        ipv6: addresses
            .next()
            .is_some_and(|address| address.contains(':')),
    }
}

/// The place of the movers of `claim`; waits until the pod that uses it runs, where one should.
///
/// # Errors
/// When the workload cannot be read, or its pod does not run.
pub async fn find(
    cluster: &Cluster,
    migration: &Migration,
    claim: &Claim,
    consumers: &Consumers,
) -> Result<MoverPlace, StepFailure> {
    let anywhere = anywhere(consumers);
    let replicas = workload::replicas(cluster, &migration.target.workload).await?;
    if !is_used(&migration.target, claim, replicas) {
        return Ok(anywhere);
    }
    let claims = WatchedClaims::only(vec![claim.claim.clone()], migration);
    let runs = consumers.wait(|seen| node(seen, &claims));
    match tokio::time::timeout(RUNS_MAX, runs).await {
        Ok(node) => Ok(MoverPlace { node, ..anywhere }),
        Err(_) => Err(StepFailure::transient(format!(
            "No pod of {} that uses the claim {} runs after {} s",
            migration.target.workload,
            claim.claim,
            RUNS_MAX.as_secs()
        ))
        .with_hint(format!(
            "kubectl -n {} describe {}",
            migration.target.namespace, migration.target.workload
        ))),
    }
}

/// The node of a settled user of the claims.
fn node(seen: &PodsSeen, claims: &WatchedClaims) -> Option<String> {
    let users = seen.consumers(claims);
    if users.iter().any(|pod| pod.deleting || pod.node.is_none()) {
        return None;
    }
    users.iter().find(|pod| pod.running)?.node.clone()
}

/// Whether one of `replicas` pods uses the claim: a stateful set's are numbered.
fn is_used(target: &KubernetesTarget, claim: &ClaimTarget, replicas: i32) -> bool {
    match target.workload.kind {
        WorkloadKind::Deployment => replicas > 0,
        WorkloadKind::StatefulSet => claim
            .claim
            .rsplit('-')
            .next()
            .and_then(|ordinal| ordinal.parse::<i32>().ok())
            .is_none_or(|ordinal| ordinal < replicas),
    }
}
