//! The migrations that a namespace knows.

use ::kube::api::ListParams;
use k8s_openapi::api::core::v1::ConfigMap;
use livmig_engine::{record::Record, spec::MigrationName};

use super::journal::{ConfigMapJournal, JOURNAL_ROLE};
use crate::journal::{Journal as _, JournalError};
use crate::kube::api::{
    cluster::{Cluster, ClusterError, call},
    names::{NAME, Names, ROLE},
};

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
