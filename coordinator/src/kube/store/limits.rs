//! The load that is wanted of a migration of a cluster: a `ConfigMap` of its own, so that storing
//! it never meets an append to the journal.

use std::collections::BTreeMap;

use ::kube::{
    Resource as _,
    api::{Patch, PatchParams},
};
use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use livmig_engine::spec::MigrationSpec;
use livmig_proto::control::Limits;

use crate::kube::api::{
    cluster::{Cluster, ClusterError, call},
    names::{FIELD_MANAGER, MIGRATION, NAME, Names, ROLE},
};
use crate::movers::{failure::chain, limits::StoredLimits};

/// The key of what is wanted.
const KEY: &str = "load";

/// What is wanted of one migration.
pub struct ClusterLimits {
    /// The cluster and namespace.
    pub cluster: Cluster,
    /// The names of its objects.
    pub names: Names,
    /// What was wanted when it was planned.
    pub planned: Limits,
}

impl StoredLimits for ClusterLimits {
    fn planned(&self) -> Limits {
        self.planned
    }

    async fn stored(&self) -> Result<Option<Limits>, String> {
        let name = self.names.limits();
        let found = read(&self.cluster, &name).await;
        let Some(object) = found.map_err(|error| chain(&error))? else {
            return Ok(None);
        };
        decode(&object)
            .map(Some)
            .ok_or_else(|| format!("the limits {name} are not what livmig-coord set has written"))
    }
}

/// Stores what is wanted of the migration `spec`.
///
/// # Errors
/// When the API server refuses or cannot be reached.
pub async fn store(
    cluster: &Cluster,
    spec: &MigrationSpec,
    load: Limits,
) -> Result<(), ClusterError> {
    let api = cluster.api::<ConfigMap>();
    let names = Names::new(&spec.name);
    let journal = names.journal(0);
    let owner = call(format!("read the journal {journal}"), api.get(&journal)).await?;
    let object = encode(spec, &owner, load);
    let name = names.limits();
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    call(
        format!("store the limits {name}"),
        api.patch(&name, &parameters, &Patch::Apply(&object)),
    )
    .await?;
    Ok(())
}

async fn read(cluster: &Cluster, name: &str) -> Result<Option<ConfigMap>, ClusterError> {
    let api = cluster.api::<ConfigMap>();
    call(format!("read the limits {name}"), api.get_opt(name)).await
}

/// The object; it goes with the migration's `owner`.
fn encode(spec: &MigrationSpec, owner: &ConfigMap, load: Limits) -> ConfigMap {
    let labels = [
        (MIGRATION, spec.uid.to_string()),
        (NAME, spec.name.to_string()),
        (ROLE, "limits".to_owned()),
    ];
    let data = serde_json::to_string(&load).unwrap_or_default();
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(Names::new(&spec.name).limits()),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value)).into()),
            owner_references: owner.owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(KEY.to_owned(), data)])),
        ..ConfigMap::default()
    }
}

fn decode(object: &ConfigMap) -> Option<Limits> {
    serde_json::from_str(object.data.as_ref()?.get(KEY)?).ok()
}

#[cfg(test)]
mod tests {
    use livmig_proto::control::IoPriority;

    use super::*;

    #[test]
    fn what_somebody_else_wrote_is_no_limit() {
        let object = |text: &str| ConfigMap {
            data: Some(BTreeMap::from([(KEY.to_owned(), text.to_owned())])),
            ..ConfigMap::default()
        };
        let load = decode(&object(r#"{"bandwidth":65536,"ioPriority":"idle"}"#)).unwrap();
        assert_eq!(load.bandwidth, "64Ki".parse().ok());
        assert_eq!(load.io_priority, IoPriority::Idle);
        for text in ["", "20M", r#"{"bandwidth":0}"#] {
            assert_eq!(decode(&object(text)), None, "{text}");
        }
        assert_eq!(decode(&ConfigMap::default()), None);
    }
}
