//! What was read of a cluster, as one value. Objects are those of the API, unchanged.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet, StatefulSet},
        autoscaling::v2::HorizontalPodAutoscaler,
        batch::v1::CronJob,
        core::v1::{
            LimitRange, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod,
            PodTemplateSpec, ResourceQuota,
        },
        networking::v1::NetworkPolicy,
        storage::v1::{CSIDriver, CSINode, StorageClass, VolumeAttachment},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use livmig_engine::spec::WorkloadKind;

use super::rights::Right;

/// What the checks look at. What the user may not read, or the cluster does not have, is `None`
/// and told in `unread`.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The namespace's name.
    pub namespace: String,
    /// The workload; none when there is no such object.
    pub workload: Option<WorkloadObject>,
    /// All claims of the namespace.
    pub claims: Vec<PersistentVolumeClaim>,
    /// All pods of the namespace, finished ones too.
    pub pods: Vec<Pod>,
    /// The replica sets of the namespace, by which a Deployment's pods are known; not
    /// read for another workload.
    pub replica_sets: Option<Vec<ReplicaSet>>,
    /// The volumes: all of the cluster, or those of the claims where a list is not allowed.
    pub volumes: Option<Vec<PersistentVolume>>,
    /// All storage classes.
    pub classes: Option<Vec<StorageClass>>,
    /// All CSI drivers.
    pub drivers: Option<Vec<CSIDriver>>,
    /// Which CSI drivers run on which nodes.
    pub csi_nodes: Option<Vec<CSINode>>,
    /// All nodes.
    pub nodes: Option<Vec<Node>>,
    /// The namespace's quotas.
    pub quotas: Option<Vec<ResourceQuota>>,
    /// The namespace's limit ranges.
    pub limits: Option<Vec<LimitRange>>,
    /// The namespace itself.
    pub namespace_object: Option<Namespace>,
    /// The namespace's autoscalers.
    pub autoscalers: Option<Vec<HorizontalPodAutoscaler>>,
    /// The namespace's cron jobs.
    pub cron_jobs: Option<Vec<CronJob>>,
    /// The namespace's network policies.
    pub network_policies: Option<Vec<NetworkPolicy>>,
    /// All attachments of volumes to nodes.
    pub attachments: Option<Vec<VolumeAttachment>>,
    /// What the claims hold, by the kubelets' word; by claim.
    pub usage: BTreeMap<String, Usage>,
    /// The rights that the user lacks; none when the API server would not say.
    pub lacking: Option<Vec<Right>>,
    /// What could not be read.
    pub unread: Vec<Unread>,
}

/// The workload.
#[derive(Clone, Debug)]
pub enum WorkloadObject {
    /// `apps/v1 StatefulSet`.
    StatefulSet(Box<StatefulSet>),
    /// `apps/v1 Deployment`.
    Deployment(Box<Deployment>),
}

impl WorkloadObject {
    /// What it is.
    pub fn kind(&self) -> WorkloadKind {
        match self {
            Self::StatefulSet(_) => WorkloadKind::StatefulSet,
            Self::Deployment(_) => WorkloadKind::Deployment,
        }
    }

    /// Its metadata.
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::StatefulSet(set) => &set.metadata,
            Self::Deployment(deployment) => &deployment.metadata,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.metadata().name.as_deref().unwrap_or_default()
    }

    /// The template of its pods.
    pub fn template(&self) -> Option<&PodTemplateSpec> {
        match self {
            Self::StatefulSet(set) => set.spec.as_ref().map(|spec| &spec.template),
            Self::Deployment(deployment) => deployment.spec.as_ref().map(|spec| &spec.template),
        }
    }

    /// How many pods are wanted.
    pub fn replicas(&self) -> i32 {
        match self {
            Self::StatefulSet(set) => set.spec.as_ref().and_then(|spec| spec.replicas),
            Self::Deployment(deployment) => deployment.spec.as_ref().and_then(|spec| spec.replicas),
        }
        .unwrap_or(1)
    }

    /// How many pods are ready.
    pub fn ready(&self) -> i32 {
        match self {
            Self::StatefulSet(set) => set.status.as_ref().and_then(|status| status.ready_replicas),
            Self::Deployment(deployment) => deployment
                .status
                .as_ref()
                .and_then(|status| status.ready_replicas),
        }
        .unwrap_or(0)
    }
}

/// What a volume holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Usage {
    /// The file system's size in bytes. Much more than the volume's means that others share it.
    pub capacity: u64,
    /// Bytes in use.
    pub used: u64,
    /// Inodes in use, where the file system counts them.
    pub inodes: Option<u64>,
}

/// Something that could not be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unread {
    /// What.
    pub what: String,
    /// Why.
    pub why: String,
}
