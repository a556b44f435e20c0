//! A migration at home in a namespace of a cluster.

use std::{fs, future::pending};

use ::kube::api::LogParams;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use livmig_engine::{
    machine::Machine,
    outcome::ExitCode,
    record::{Record, spec_of},
    spec::MigrationName,
};
use livmig_proto::control::{Limits, Side};

use super::{COORDINATOR_LOG, DrivenBy, History, MigrationHome, Section};
use crate::{
    cli::{flags::cluster::of_cluster, text::trouble::Trouble},
    host::store::folder::StateRoot,
    kube::{
        api::{
            cluster::{Cluster, call},
            names::Names,
            watch::await_change,
        },
        migration::Migration,
        store::{
            limits::{self, ClusterLimits},
            migrations,
        },
    },
    movers::limits::StoredLimits as _,
};

/// A migration of a cluster.
pub(crate) struct InCluster {
    /// The cluster and namespace.
    pub(crate) cluster: Cluster,
    /// Its name.
    pub(crate) name: MigrationName,
}

impl InCluster {
    async fn records(&self) -> Result<Vec<Record>, Trouble> {
        migrations::records(&self.cluster, &self.name)
            .await
            .map_err(|error| failed(&error))
    }
}

impl MigrationHome for InCluster {
    type Watch = ();

    fn name(&self) -> &MigrationName {
        &self.name
    }

    async fn history(&self) -> Result<History, Trouble> {
        History::of(&self.name, self.records().await?)
    }

    async fn watch(&self) -> Result<(), Trouble> {
        Ok(())
    }

    /// The last part of the journal grows, or another one follows it.
    async fn changed(&self, (): &(), seen: &History) -> Result<(), Trouble> {
        let api = self.cluster.api::<ConfigMap>();
        let names = Names::new(&self.name);
        loop {
            let parts = migrations::versions(&self.cluster, &names)
                .await
                .map_err(|error| failed(&error))?;
            // Read after the versions: what comes later changes them.
            if self.records().await?.len() != seen.records().len() {
                return Ok(());
            }
            let last = parts.len().saturating_sub(1);
            let grown = async {
                match parts.last() {
                    Some(version) => {
                        let name = names.journal(last);
                        await_change(&api, "journal", &name, Some(version)).await
                    }
                    None => pending().await,
                }
            };
            let follower = names.journal(last + 1);
            let followed = await_change(&api, "journal", &follower, None);
            tokio::select! {
                grown = grown => grown,
                followed = followed => followed,
            }
            .map_err(|error| failed(&error))?;
        }
    }

    fn driver(&self) -> DrivenBy {
        DrivenBy::Unknown
    }

    fn by_hand(&self, _: &Machine) -> Option<String> {
        None
    }

    async fn limits(&self, machine: &Machine) -> Result<Option<Limits>, String> {
        let wanted = ClusterLimits {
            cluster: self.cluster.clone(),
            names: Names::new(&self.name),
            planned: machine.spec().options.load,
        };
        wanted.stored().await
    }

    async fn set_limits(&self, machine: &Machine, load: Limits) -> Result<(), Trouble> {
        limits::store(&self.cluster, machine.spec(), load)
            .await
            .map_err(|error| of_cluster(&error))
    }

    /// The journal, what coordinators on this machine have logged, and what the movers that are there
    /// still say.
    async fn logs(&self) -> Result<Vec<Section>, Trouble> {
        let records = self.records().await?;
        let migration = spec_of(&records).and_then(|spec| Migration::of(spec).ok());
        let claims = migration.map_or_else(Vec::new, |migration| migration.claims);
        let mut sections = vec![Section::Journal {
            place: None,
            records,
            torn: false,
        }];
        let own = StateRoot::from_environment()?
            .path()
            .join("clusters")
            .join(self.name.as_str())
            .join(COORDINATOR_LOG);
        if let Ok(bytes) = fs::read(&own) {
            sections.push(Section::Text {
                title: format!("coordinator ({})", own.display()),
                text: String::from_utf8_lossy(&bytes).into_owned(),
            });
        }
        let pods = self.cluster.api::<Pod>();
        for claim in claims {
            for side in [Side::Source, Side::Destination] {
                let pod = claim.mover(side);
                let asked = LogParams::default();
                // A mover that is gone says nothing any more.
                let said = call(format!("read the log of {pod}"), pods.logs(pod, &asked)).await;
                if let Ok(text) = said {
                    let title = format!("{side} mover (pod {pod})");
                    sections.push(Section::Text { title, text });
                }
            }
        }
        Ok(sections)
    }
}

fn failed(error: &dyn std::error::Error) -> Trouble {
    Trouble::because(ExitCode::Failed, error)
}
