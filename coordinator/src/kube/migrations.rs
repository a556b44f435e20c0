//! The migrations that a namespace knows, and forgetting one.

use ::kube::api::{DeleteParams, ListParams};
use k8s_openapi::{
    api::coordination::v1::Lease,
    api::core::v1::{ConfigMap, PersistentVolumeClaim},
};
use livmig_engine::{
    record::Record,
    result::StepFailure,
    spec::{KubernetesTarget, MigrationName, MigrationSpec},
};
use livmig_proto::ids::Epoch;

use super::{
    cluster::{Cluster, ClusterError, call},
    journal::{ConfigMapJournal, JOURNAL_ROLE},
    movers::absent_is_fine,
    names::{MIGRATION, NAME, Names, ROLE},
    provisioned,
    release::{self, Left, Whose},
};
use crate::journal::{Journal as _, JournalError};

/// A migration as its namespace knows it.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its name.
    pub name: MigrationName,
    /// Its journal.
    pub records: Vec<Record>,
}

/// The records of the migration `name`; none when there is no such migration.
///
/// # Errors
/// When they cannot be read.
pub async fn records(cluster: &Cluster, name: &MigrationName) -> Result<Vec<Record>, JournalError> {
    ConfigMapJournal::new(cluster.clone(), Names::new(name))
        .load()
        .await
}

/// Every migration of the namespace, in the order of their names.
///
/// # Errors
/// When they cannot be read.
pub async fn all(cluster: &Cluster) -> Result<Vec<Stored>, JournalError> {
    let failed = |error| JournalError::because("Could not list the migrations", error);
    let parameters = ListParams::default().labels(&format!("{ROLE}={JOURNAL_ROLE}"));
    let list = call(
        "list the journals",
        cluster.api::<ConfigMap>().list(&parameters),
    )
    .await
    .map_err(failed)?;
    let mut names: Vec<MigrationName> = list
        .items
        .iter()
        .filter_map(|part| part.metadata.labels.as_ref()?.get(NAME).cloned())
        .filter_map(|name| MigrationName::try_from(name).ok())
        .collect();
    names.sort();
    names.dedup();
    let mut found = Vec::new();
    for name in names {
        let records = records(cluster, &name).await?;
        found.push(Stored { name, records });
    }
    Ok(found)
}

/// The versions of the parts of a journal, in order.
///
/// # Errors
/// When they cannot be read.
pub async fn versions(cluster: &Cluster, names: &Names) -> Result<Vec<String>, ClusterError> {
    let api = cluster.api::<ConfigMap>();
    let mut versions = Vec::new();
    loop {
        let name = names.journal(versions.len());
        let part = call(format!("read the journal {name}"), api.get_opt(&name)).await?;
        match part.and_then(|part| part.metadata.resource_version) {
            Some(version) => versions.push(version),
            None => return Ok(versions),
        }
    }
}

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
    spec: &MigrationSpec,
    target: &KubernetesTarget,
    epoch: Epoch,
    leftover: Leftover,
) -> Result<Removed, StepFailure> {
    let names = Names::new(&spec.name);
    let uid = spec.uid.to_string();
    let at_once = DeleteParams::default();
    let mut removed = Removed::default();
    for (index, claim) in target.claims.iter().enumerate() {
        let copy = provisioned::volume(cluster, spec, index, claim).await?;
        let staging = names.staging(index);
        let left = |volume, whose| Left {
            migration: spec.name.as_str(),
            uid: &uid,
            volume,
            staging: &staging,
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
            claims.delete(&staging, &at_once),
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
