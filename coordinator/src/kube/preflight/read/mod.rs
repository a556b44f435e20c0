//! Reads of a cluster what the checks of `plan` look at. Nothing is changed.
//!
//! What a user with few rights may not read is left out and told; without the workload, its claims
//! and its pods there is nothing to check, so these are errors.

mod fetch;
mod rights;
mod usage;

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet, StatefulSet},
    autoscaling::v2::HorizontalPodAutoscaler,
    batch::v1::CronJob,
    core::v1::{
        LimitRange, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ResourceQuota,
    },
    networking::v1::NetworkPolicy,
    storage::v1::{CSIDriver, CSINode, StorageClass, VolumeAttachment},
};
use livmig_engine::spec::WorkloadKind;

use self::fetch::{all, either, list, maybe_get, reachable};
use super::{
    request::MigrationRequest,
    snapshot::{Snapshot, Unread, WorkloadObject},
};
use crate::kube::{
    api::cluster::{Cluster, ClusterError},
    objects::network_policy::Network,
};

/// Reads everything that the checks of `wish` look at.
///
/// # Errors
/// When the workload, the claims or the pods may not be read, or the API server does not answer.
pub async fn survey(cluster: &Cluster, wish: &MigrationRequest) -> Result<Snapshot, ClusterError> {
    // All calls at once make a large future; callers hold a pointer to it.
    Box::pin(read_all(cluster, wish)).await
}

async fn read_all(cluster: &Cluster, wish: &MigrationRequest) -> Result<Snapshot, ClusterError> {
    let (workload, claims, pods) = tokio::try_join!(
        workload(cluster, wish),
        all(cluster.api::<PersistentVolumeClaim>(), "claims"),
        all(cluster.api::<Pod>(), "pods"),
    )?;
    let (replica_sets, quotas, limits, autoscalers, cron_jobs, network_policies, namespace_object) =
        tokio::try_join!(
            replica_sets(cluster, wish),
            list(cluster.api::<ResourceQuota>(), "resourcequotas"),
            list(cluster.api::<LimitRange>(), "limitranges"),
            list(
                cluster.api::<HorizontalPodAutoscaler>(),
                "horizontalpodautoscalers"
            ),
            list(cluster.api::<CronJob>(), "cronjobs"),
            list(cluster.api::<NetworkPolicy>(), "networkpolicies"),
            maybe_get(
                cluster.cluster_api::<Namespace>(),
                cluster.namespace(),
                "namespace"
            ),
        )?;
    let network = network_policies
        .as_ref()
        .map_or(Network::Open, |policies| Network::of(policies));
    let (
        (volumes, volumes_unread),
        classes,
        drivers,
        csi_nodes,
        nodes,
        attachments,
        (usage, usage_unread),
        lacking,
    ) = tokio::try_join!(
        volumes(cluster, &claims),
        list(cluster.cluster_api::<StorageClass>(), "storageclasses"),
        list(cluster.cluster_api::<CSIDriver>(), "csidrivers"),
        list(cluster.cluster_api::<CSINode>(), "csinodes"),
        list(cluster.cluster_api::<Node>(), "nodes"),
        list(
            cluster.cluster_api::<VolumeAttachment>(),
            "volumeattachments"
        ),
        usage::of(cluster, &pods),
        rights::lacking(cluster, wish, network),
    )?;
    let mut unread: Vec<Unread> = usage_unread;
    unread.extend(volumes_unread);
    Ok(Snapshot {
        namespace: cluster.namespace().to_owned(),
        workload,
        claims,
        pods,
        replica_sets: replica_sets.and_then(|sets| either(sets, &mut unread)),
        volumes,
        classes: either(classes, &mut unread),
        drivers: either(drivers, &mut unread),
        nodes: either(nodes, &mut unread),
        quotas: either(quotas, &mut unread),
        limits: either(limits, &mut unread),
        namespace_object: either(namespace_object, &mut unread),
        autoscalers: either(autoscalers, &mut unread),
        cron_jobs: either(cron_jobs, &mut unread),
        csi_nodes: either(csi_nodes, &mut unread),
        network_policies: either(network_policies, &mut unread),
        attachments: either(attachments, &mut unread),
        usage,
        lacking,
        unread,
    })
}

async fn workload(
    cluster: &Cluster,
    wish: &MigrationRequest,
) -> Result<Option<WorkloadObject>, ClusterError> {
    let name = wish.workload.name.as_str();
    let what = format!(
        "read {}/{name} in namespace {}",
        wish.workload.kind.resource(),
        cluster.namespace()
    );
    Ok(match wish.workload.kind {
        WorkloadKind::StatefulSet => fetch::get(cluster.api::<StatefulSet>(), name, what)
            .await?
            .map(|set| WorkloadObject::StatefulSet(Box::new(set))),
        WorkloadKind::Deployment => fetch::get(cluster.api::<Deployment>(), name, what)
            .await?
            .map(|deployment| WorkloadObject::Deployment(Box::new(deployment))),
    })
}

/// What tells a Deployment's pods; nothing for other workloads.
async fn replica_sets(
    cluster: &Cluster,
    wish: &MigrationRequest,
) -> Result<Option<Result<Vec<ReplicaSet>, Unread>>, ClusterError> {
    Ok(match wish.workload.kind {
        WorkloadKind::StatefulSet => None,
        WorkloadKind::Deployment => Some(list(cluster.api::<ReplicaSet>(), "replicasets").await?),
    })
}

/// All volumes; where a list is not allowed, those of the claims one by one. And what of them is
/// out of reach.
async fn volumes(
    cluster: &Cluster,
    claims: &[PersistentVolumeClaim],
) -> Result<(Option<Vec<PersistentVolume>>, Option<Unread>), ClusterError> {
    let api = || cluster.cluster_api::<PersistentVolume>();
    let unlisted = match list(api(), "persistentvolumes").await? {
        Ok(volumes) => return Ok((Some(volumes), None)),
        Err(unread) => unread,
    };
    let mut volumes = Vec::new();
    for claim in claims {
        let spec = claim.spec.as_ref();
        let Some(name) = spec.and_then(|spec| spec.volume_name.as_deref()) else {
            continue;
        };
        let what = format!("read persistentvolume/{name}");
        match reachable(
            fetch::get(api(), name, what).await,
            format!("persistentvolume/{name}"),
        )? {
            // A volume that is gone is for the checks to tell.
            Ok(volume) => volumes.extend(volume),
            Err(unread) => return Ok((None, Some(unread))),
        }
    }
    let others = Unread {
        what: "persistentvolumes of other claims".to_owned(),
        ..unlisted
    };
    Ok((Some(volumes), Some(others)))
}
