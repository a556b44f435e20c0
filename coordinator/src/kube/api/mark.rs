//! The mark on an object of somebody else that a migration has in hand: which one, and which of its
//! coordinators. The epoch is a fencing token: who finds a later one on an object leaves it alone.

use ::kube::api::Resource;
use livmig_engine::{result::StepFailure, spec::MigrationSpec};
use livmig_proto::ids::Epoch;

use super::{
    names::{EPOCH, MIGRATION},
    uid::Uid,
};

/// What an object carries that a migration has in hand.
#[derive(Clone, Debug)]
pub struct Mark {
    /// The migration.
    pub uid: Uid<MigrationSpec>,
    /// The epoch of the coordinator in charge.
    pub epoch: Epoch,
    /// How a person lifts the fence without livmig.
    pub by_hand: String,
}

/// Fails when `object` carries the epoch of a later coordinator.
///
/// # Errors
/// When it does.
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
    uid: &Uid<MigrationSpec>,
) -> Result<(), StepFailure> {
    if annotation(object, MIGRATION).is_some_and(|other| other != uid.as_str()) {
        return Err(StepFailure::permanent(format!(
            "Another migration is at work on the {kind} {name}"
        ))
        .with_hint("livmig-coord get"));
    }
    Ok(())
}

/// Whether `object` carries the mark of the migration `uid` as the coordinator of `epoch` made it.
/// It does not once another one has come, nor after that one has given everything back.
pub fn is_marked<K: Resource>(object: &K, uid: &Uid<MigrationSpec>, epoch: Epoch) -> bool {
    uid.is(annotation(object, MIGRATION))
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
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_mark_of_another_migration_is_refused_whatever_its_epoch() {
        let marked = |marks: Value| -> PersistentVolume {
            serde_json::from_value(json!({"metadata": {"annotations": marks}})).unwrap()
        };
        let refused =
            |marks| refuse_if_foreign(&marked(marks), "volume", "pv-a", &Uid::new("m")).is_err();
        assert!(!refused(json!({})));
        assert!(!refused(json!({MIGRATION: "m", EPOCH: "1"})));
        for epoch in ["1", "9"] {
            assert!(refused(json!({MIGRATION: "n", EPOCH: epoch})));
        }
    }
}
