//! Where a migration is at home: in a folder of this machine, or in a namespace of a cluster. What a command
//! does with a migration it does by [`MigrationHome`], the same way for both.

pub(super) mod find;
mod folder;
pub(super) mod history;
mod namespace;

use std::path::PathBuf;

use livmig_engine::{
    machine::Machine,
    outcome::ExitCode,
    record::{Record, spec_of},
    spec::MigrationName,
};
use livmig_proto::control::Limits;

pub(super) use self::{history::History, namespace::InCluster};
use super::{flags::cluster::ClusterFlags, text::trouble::Trouble};
use crate::{
    host::store::folder::{MigrationFolder, StateRoot, StoreError},
    kube::{
        api::cluster::Cluster,
        preflight::request::WorkloadName,
        store::migrations::{self, Stored},
    },
};

/// The file below a migration's folder that its coordinators log to.
pub(super) const COORDINATOR_LOG: &str = "coordinator.log";

/// What is asked of a migration, wherever it is at home.
pub(super) trait MigrationHome {
    /// What wakes whoever waits for its journal to grow.
    type Watch;

    /// What people call it.
    fn name(&self) -> &MigrationName;

    /// What its journal tells now.
    async fn history(&self) -> Result<History, Trouble>;

    /// Watches its journal: what is written from now on is not missed.
    async fn watch(&self) -> Result<Self::Watch, Trouble>;

    /// Returns once its journal may tell more than what was `seen`.
    async fn changed(&self, watch: &Self::Watch, seen: &History) -> Result<(), Trouble>;

    /// Who drives it.
    fn driver(&self) -> DrivenBy;

    /// How a person without livmig would let the workload at its volume again, where it is kept away.
    fn by_hand(&self, machine: &Machine) -> Option<String>;

    /// The limits that were set since it was planned; an error says why they cannot be read.
    async fn limits(&self, machine: &Machine) -> Result<Option<Limits>, String>;

    /// Sets them.
    async fn set_limits(&self, machine: &Machine, load: Limits) -> Result<(), Trouble>;

    /// Everything that was written down about it.
    async fn logs(&self) -> Result<Vec<Section>, Trouble>;
}

/// Who drives a migration.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum DrivenBy {
    /// This process of this machine.
    Process(u32),
    /// Nobody.
    Nobody,
    /// A coordinator may, on any machine.
    Unknown,
}

/// A part of what was written down.
pub(super) enum Section {
    /// The journal.
    Journal {
        /// The file, if it is one.
        place: Option<PathBuf>,
        /// What it holds.
        records: Vec<Record>,
        /// Whether its last line was cut off.
        torn: bool,
    },
    /// A log.
    Text {
        /// Whose.
        title: String,
        /// All of it.
        text: String,
    },
}

/// A migration and where it is at home.
pub(super) enum Home {
    /// A folder of this machine.
    Folder(MigrationFolder),
    /// A namespace of a cluster.
    Cluster(Box<InCluster>),
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
}

async fn named(cluster: &Cluster, text: &str) -> Result<Option<InCluster>, Trouble> {
    let name = MigrationName::try_from(text.to_owned()).map_err(StoreError::from)?;
    let records = migrations::records(cluster, &name)
        .await
        .map_err(|error| Trouble::because(ExitCode::Failed, &error))?;
    Ok((!records.is_empty()).then(|| InCluster {
        cluster: cluster.clone(),
        name,
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
            }))
        })
        .ok_or_else(|| Trouble::new(ExitCode::Usage, format!("No migration is of {text}")))
}
