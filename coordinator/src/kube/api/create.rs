//! Making and deleting objects of a migration's own, whatever is there already.

use std::{collections::BTreeMap, fmt::Debug};

use ::kube::{
    Api,
    api::{PostParams, Resource},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use livmig_engine::{result::StepFailure, spec::MigrationSpec};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    cluster::{ClusterError, call},
    names::{FIELD_MANAGER, MIGRATION, NAME, ROLE},
    uid::Uid,
};

/// The object `object`, made unless one of the same name is there; that one must be the
/// migration's.
///
/// # Errors
/// When it cannot be made, or somebody else's is there.
pub async fn object<K>(api: &Api<K>, kind: &str, object: &K) -> Result<K, StepFailure>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
{
    let name = object.meta().name.clone().unwrap_or_default();
    let parameters = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    match call(
        format!("create the {kind} {name}"),
        api.create(&parameters, object),
    )
    .await
    {
        Err(error) if error.is_conflict() => {
            let found = call(format!("read the {kind} {name}"), api.get(&name)).await?;
            if migration(found.meta()) == migration(object.meta()) {
                Ok(found)
            } else {
                Err(StepFailure::permanent(format!(
                    "There is a {kind} {name} already that is not the migration's"
                )))
            }
        }
        made => Ok(made?),
    }
}

fn migration(metadata: &ObjectMeta) -> Option<&String> {
    metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(MIGRATION))
}

/// The labels of everything the migration `uid`, called `name`, makes for `role`.
pub fn labels(uid: &Uid<MigrationSpec>, name: &str, role: &str) -> BTreeMap<String, String> {
    [(MIGRATION, uid.as_str()), (NAME, name), (ROLE, role)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// What is not there need not be deleted.
///
/// # Errors
/// Any other reason why it was not.
pub fn absent_is_fine(deleted: Result<(), ClusterError>) -> Result<(), ClusterError> {
    match deleted {
        Err(error) if error.is_not_found() => Ok(()),
        deleted => deleted,
    }
}
