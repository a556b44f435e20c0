//! Forgetting a migration that has ended, with the volumes that nobody uses any more.

use ::kube::api::{DeleteParams, ListParams};
use k8s_openapi::{
    api::coordination::v1::Lease,
    api::core::v1::{ConfigMap, PersistentVolumeClaim},
};
use livmig_engine::result::StepFailure;
use livmig_proto::ids::Epoch;

use super::release::{self, LeftVolume, Whose};
use crate::kube::{
    api::{
        cluster::{Cluster, call},
        create::absent_is_fine,
        names::MIGRATION,
    },
    migration::Migration,
    volumes::provisioned,
};

/// What a clean-up did with the volumes that the workload does not use.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Removed {
    /// Volumes that are deleted by their provisioner now.
    pub volumes: Vec<String>,
    /// Volumes that are kept.
    pub kept: Vec<String>,
    /// Copies that were left as they are, each with who uses it.
    pub used: Vec<String>,
}

/// Which volumes go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Leftover {
    /// The old volumes, which the workload has left.
    OldVolumes,
    /// The copies that a migration which came to nothing has made.
    Copies,
    /// None.
    Keep,
}

/// Forgets a migration that has ended.
///
/// # Errors
/// When something cannot be read, deleted or changed.
pub async fn forget(
    cluster: &Cluster,
    migration: &Migration,
    epoch: Epoch,
    leftover: Leftover,
) -> Result<Removed, StepFailure> {
    let Migration { spec, names, .. } = migration;
    let at_once = DeleteParams::default();
    let mut removed = Removed::default();
    for claim in &migration.claims {
        let copy = provisioned::volume(cluster, migration, claim).await?;
        let staging = &claim.staging;
        let left = |volume, whose| LeftVolume {
            migration: spec.name.as_str(),
            uid: &migration.uid,
            volume,
            staging,
            whose,
        };
        match leftover {
            Leftover::OldVolumes => {
                let old = left(&claim.volume, Whose::Old);
                release::release(cluster, old, epoch).await?;
                removed.volumes.push(claim.volume.clone());
            }
            Leftover::Copies => {
                if let Some(copy) = copy {
                    match release::release(cluster, left(&copy, Whose::Copy), epoch).await? {
                        None => removed.volumes.push(copy),
                        Some(why) => removed.used.push(format!("{copy}: {why}")),
                    }
                }
            }
            Leftover::Keep => removed.kept.push(claim.volume.clone()),
        }
        let claims = cluster.api::<PersistentVolumeClaim>();
        let gone = call(
            format!("delete the claim {staging}"),
            claims.delete(staging, &at_once),
        );
        absent_is_fine(gone.await.map(|_| ()))?;
    }
    let lease = names.lease();
    let leases = cluster.api::<Lease>();
    let gone = call(
        format!("delete the lease {lease}"),
        leases.delete(&lease, &at_once),
    );
    absent_is_fine(gone.await.map(|_| ()))?;
    // The journal goes last, and what it owns with it.
    let journals = cluster.api::<ConfigMap>();
    let parameters = ListParams::default().labels(&format!("{MIGRATION}={}", spec.uid));
    let mut parts: Vec<String> = call("list the journals", journals.list(&parameters))
        .await?
        .items
        .into_iter()
        .filter_map(|part| part.metadata.name)
        .collect();
    parts.sort();
    for part in parts.into_iter().rev() {
        let gone = call(
            format!("delete the journal {part}"),
            journals.delete(&part, &at_once),
        );
        absent_is_fine(gone.await.map(|_| ()))?;
    }
    Ok(removed)
}
