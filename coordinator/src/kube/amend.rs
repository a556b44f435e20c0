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
    names::{EPOCH, FIELD_MANAGER, MIGRATION},
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

/// Fails when `object` carries the epoch of a later coordinator.
pub fn refuse_if_stale<K: Resource>(
    object: &K,
    kind: &str,
    name: &str,
    epoch: Epoch,
) -> Result<(), StepFailure> {
    let stamped = annotation(object, EPOCH).and_then(|text| text.parse::<u64>().ok());
    if stamped.is_some_and(|stamped| stamped > epoch.0) {
        return Err(StepFailure::permanent(format!(
            "Another coordinator has taken over: the {kind} {name} carries a later epoch"
        ))
        .with_hint("livmig-coord get"));
    }
    Ok(())
}

/// Fails when `object` carries the mark of another migration than `uid`: the epochs of two have
/// nothing to do with each other, so which one is in charge they do not tell.
///
/// # Errors
/// When it does.
pub fn refuse_if_foreign<K: Resource>(
    object: &K,
    kind: &str,
    name: &str,
    uid: &str,
) -> Result<(), StepFailure> {
    if annotation(object, MIGRATION).is_some_and(|other| other != uid) {
        return Err(StepFailure::permanent(format!(
            "Another migration is at work on the {kind} {name}"
        ))
        .with_hint("livmig-coord get"));
    }
    Ok(())
}

/// Whether `object` carries the mark of the migration `uid` as the coordinator of `epoch` made it.
/// It does not once another one has come, nor after that one has given everything back.
pub fn is_marked<K: Resource>(object: &K, uid: &str, epoch: Epoch) -> bool {
    annotation(object, MIGRATION) == Some(uid)
        && annotation(object, EPOCH).and_then(|text| text.parse().ok()) == Some(epoch.0)
}

/// The annotation `key` of `object`.
pub fn annotation<'a, K: Resource>(object: &'a K, key: &str) -> Option<&'a str> {
    let annotations = object.meta().annotations.as_ref()?;
    annotations.get(key).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PersistentVolume;

    use super::*;

    #[test]
    fn the_mark_of_another_migration_is_refused_whatever_its_epoch() {
        let marked = |marks: Value| -> PersistentVolume {
            serde_json::from_value(json!({"metadata": {"annotations": marks}})).unwrap()
        };
        let refused = |marks| refuse_if_foreign(&marked(marks), "volume", "pv-a", "m").is_err();
        assert!(!refused(json!({})));
        assert!(!refused(json!({MIGRATION: "m", EPOCH: "1"})));
        for epoch in ["1", "9"] {
            assert!(refused(json!({MIGRATION: "n", EPOCH: epoch})));
        }
    }
}
