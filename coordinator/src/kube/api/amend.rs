//! Changing an object of somebody else: only as it was read, and only while this coordinator is
//! the one in charge.

use std::fmt::Debug;

use ::kube::{
    Api,
    api::{Patch, PatchParams, Resource},
};
use livmig_engine::result::StepFailure;
use livmig_proto::ids::Epoch;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    cluster::{ClusterError, call},
    mark::refuse_if_stale,
    names::FIELD_MANAGER,
};

/// How often an object that others keep changing is read and decided on again.
const TRIES_MAX: usize = 20;

/// Reads the object `name`, lets `decide` say how it changes (a merge patch; none: not at all) and
/// changes it, unless it is no longer what was read: then all of it again.
///
/// # Errors
/// What `decide` says; when the object cannot be read or changed; when another coordinator has
/// taken over.
pub async fn amend<K>(
    api: &Api<K>,
    kind: &str,
    name: &str,
    epoch: Epoch,
    mut decide: impl FnMut(&K) -> Result<Option<Value>, StepFailure>,
) -> Result<K, StepFailure>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let mut last = None;
    for _ in 0..TRIES_MAX {
        let object = call(format!("read the {kind} {name}"), api.get(name)).await?;
        refuse_if_stale(&object, kind, name, epoch)?;
        let Some(change) = decide(&object)? else {
            return Ok(object);
        };
        match patch(api, kind, name, &object, change).await {
            Err(error) if error.is_conflict() => last = Some(error),
            changed => return Ok(changed?),
        }
    }
    Err(last.map_or_else(
        || StepFailure::transient(format!("The {kind} {name} was never changed")),
        StepFailure::from,
    ))
}

/// Changes exactly the object that was read: it, and the version of it.
///
/// # Errors
/// A conflict when it is another one by now.
pub async fn patch<K>(
    api: &Api<K>,
    kind: &str,
    name: &str,
    read: &K,
    mut change: Value,
) -> Result<K, ClusterError>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    if let Some(whole) = change.as_object_mut() {
        let metadata = whole.entry("metadata").or_insert_with(|| json!({}));
        if let Some(metadata) = metadata.as_object_mut() {
            // The server refuses a patch that names another version or identity than it holds.
            metadata.insert("uid".to_owned(), json!(read.meta().uid));
            let version = json!(read.meta().resource_version);
            metadata.insert("resourceVersion".to_owned(), version);
        }
    }
    let parameters = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    call(
        format!("change the {kind} {name}"),
        api.patch(name, &parameters, &Patch::Merge(&change)),
    )
    .await
}
