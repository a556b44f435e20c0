//! Where a migration is at home: in a folder of this machine, or in a namespace of a cluster.

pub(super) mod find;

use livmig_engine::{
    document::Document,
    outcome::ExitCode,
    record::{Record, spec_of},
    spec::MigrationName,
};

use super::{flags::cluster::ClusterFlags, terminal::drive::told, text::trouble::Trouble};
use crate::{
    host::store::{
        folder::{MigrationFolder, StateRoot, StoreError},
        journal,
    },
    kube::{
        api::cluster::Cluster,
        preflight::request::WorkloadName,
        store::migrations::{self, Stored},
    },
};

/// A migration and where it is at home.
pub(super) enum Home {
    /// A folder of this machine.
    Folder(MigrationFolder),
    /// A namespace of a cluster.
    Cluster(Box<InCluster>),
}

/// A migration of a cluster.
pub(super) struct InCluster {
    /// The cluster and namespace.
    pub(super) cluster: Cluster,
    /// Its name.
    pub(super) name: MigrationName,
    /// Its journal when it was found.
    pub(super) records: Vec<Record>,
}

impl Home {
    /// The migration that `text` names: a name, the PATH of a directory, or KIND/NAME of a
    /// workload. Never a guess.
    pub(super) async fn find(
        root: &StateRoot,
        text: &str,
        flags: &ClusterFlags,
    ) -> Result<Self, Trouble> {
        if let Ok(workload) = text.parse::<WorkloadName>() {
            return of_workload(&flags.clone().connect().await?, text, &workload).await;
        }
        let on_host = find::find(root, text);
        if text.contains('/') {
            return on_host.map(Self::Folder);
        }
        let in_cluster = match flags.clone().connect().await {
            Ok(cluster) => named(&cluster, text).await?,
            // A machine that knows no cluster has no migrations there.
            Err(trouble) if flags.names_one() => return Err(trouble),
            Err(_) => None,
        };
        match (on_host, in_cluster) {
            (Ok(_), Some(found)) => Err(Trouble::new(
                ExitCode::Usage,
                format!(
                    "Both this machine and namespace {} of {} have a migration {text}",
                    found.cluster.namespace(),
                    found.cluster.context()
                ),
            )
            .with_next("name its PATH, or its KIND/NAME")),
            (Ok(folder), None) => Ok(Self::Folder(folder)),
            (Err(_), Some(found)) => Ok(Self::Cluster(Box::new(found))),
            (Err(trouble), None) => Err(trouble),
        }
    }

    /// What people call it.
    pub(super) fn name(&self) -> &MigrationName {
        match self {
            Self::Folder(folder) => folder.name(),
            Self::Cluster(found) => &found.name,
        }
    }

    /// What its journal holds.
    pub(super) fn records(&self) -> Result<Vec<Record>, Trouble> {
        Ok(match self {
            Self::Folder(folder) => journal::read(&folder.journal())?.records,
            Self::Cluster(found) => found.records.clone(),
        })
    }

    /// All that is known about it.
    pub(super) fn document(&self) -> Result<Document, Trouble> {
        told(self.name(), &self.records()?)
    }
}

async fn named(cluster: &Cluster, text: &str) -> Result<Option<InCluster>, Trouble> {
    let name = MigrationName::try_from(text.to_owned()).map_err(StoreError::from)?;
    let records = migrations::records(cluster, &name)
        .await
        .map_err(|error| Trouble::because(ExitCode::Failed, &error))?;
    Ok((!records.is_empty()).then(|| InCluster {
        cluster: cluster.clone(),
        name,
        records,
    }))
}

async fn of_workload(
    cluster: &Cluster,
    text: &str,
    workload: &WorkloadName,
) -> Result<Home, Trouble> {
    let mut found: Vec<Stored> = migrations::all(cluster)
        .await
        .map_err(|error| Trouble::because(ExitCode::Failed, &error))?;
    found.retain(|stored| {
        spec_of(&stored.records)
            .and_then(|spec| spec.target.kubernetes())
            .is_some_and(|target| {
                target.workload.kind == workload.kind && target.workload.name == workload.name
            })
    });
    match found.len() {
        1 => {}
        0 => {
            return Err(Trouble::new(
                ExitCode::Usage,
                format!(
                    "No migration is of {text} in namespace {}",
                    cluster.namespace()
                ),
            )
            .with_next("livmig-coord get"));
        }
        count => {
            let names: Vec<_> = found.iter().map(|stored| stored.name.to_string()).collect();
            return Err(
                Trouble::new(ExitCode::Usage, format!("{count} migrations are of {text}"))
                    .with_next(format!("name one of: {}", names.join(", "))),
            );
        }
    }
    found
        .pop()
        .map(|stored| {
            Home::Cluster(Box::new(InCluster {
                cluster: cluster.clone(),
                name: stored.name,
                records: stored.records,
            }))
        })
        .ok_or_else(|| Trouble::new(ExitCode::Usage, format!("No migration is of {text}")))
}
