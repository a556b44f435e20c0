//! New classes in the claim templates of a `StatefulSet`, so that a later scale-up gets them.
//!
//! The templates cannot be changed, so the set is made anew around its running pods: deleted
//! without them, created with other templates, and it adopts them by its selector. What will be
//! created is stored before anything is deleted, so that whoever goes on finds it.
//!
//! What is stored says of which version of the set it is, and only that version is deleted: days may
//! lie between the two, and an image or a number of replicas that somebody has set meanwhile.

use std::collections::BTreeMap;

use ::kube::{
    Api,
    api::{DeleteParams, PostParams, Preconditions, PropagationPolicy},
};
use k8s_openapi::{
    api::{apps::v1::StatefulSet, core::v1::ConfigMap},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use livmig_engine::{
    result::StepFailure,
    spec::{KubernetesTarget, WorkloadKind},
};
use livmig_proto::ids::Epoch;

use crate::kube::api::{
    cluster::{Cluster, ClusterError, call},
    mark::refuse_if_stale,
    names::{EPOCH, FIELD_MANAGER},
    watch::await_object,
};

/// The key of the stored object.
const OBJECT: &str = "statefulset";

/// The keys of the identity and the version of the set that the stored one was made from.
const UID: &str = "uid";
const VERSION: &str = "resourceVersion";

/// Finalizers by which Kubernetes itself deletes: they are not the user's, and one that is dying has
/// them.
const DELETING: [&str; 2] = ["orphan", "foregroundDeletion"];

/// How often a set that others keep changing is read and stored again.
const TRIES_MAX: usize = 20;

/// Gives the claim templates of the target's set the classes its claims moved to. `stored` names
/// the `ConfigMap` in which the new set lies meanwhile.
///
/// # Errors
/// When something cannot be read, stored, deleted or created, or another coordinator has taken over;
/// doing it again goes on from there.
pub async fn update(
    cluster: &Cluster,
    target: &KubernetesTarget,
    stored: &str,
    labels: BTreeMap<String, String>,
    owner: OwnerReference,
    epoch: Epoch,
) -> Result<(), StepFailure> {
    if !target.update_template || target.workload.kind != WorkloadKind::StatefulSet {
        return Ok(());
    }
    let name = &target.workload.name;
    let sets = cluster.api::<StatefulSet>();
    let notes = cluster.api::<ConfigMap>();
    let blank = ConfigMap {
        metadata: ObjectMeta {
            name: Some(stored.to_owned()),
            labels: Some(labels),
            annotations: Some([(EPOCH.to_owned(), epoch.0.to_string())].into()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    };
    let mut last = None;
    for _ in 0..TRIES_MAX {
        let set = call(format!("read statefulset/{name}"), sets.get_opt(name)).await?;
        let what = format!("read the new statefulset/{name}");
        let found = call(what, notes.get_opt(stored)).await?;
        if let Some(found) = &found {
            refuse_if_stale(found, "ConfigMap", stored, epoch)?;
        }
        let done = match next(set.as_ref(), found.as_ref(), target)? {
            NextMove::Done => return Ok(()),
            NextMove::Store(set, wanted) => {
                store(&notes, found.as_ref(), note(blank.clone(), set, &wanted)?).await
            }
            NextMove::Delete(set) => delete(&sets, name, set).await,
            NextMove::Create(wanted) => match create(&sets, name, &wanted).await {
                Err(error) if !error.is_conflict() => return Err(error.into()),
                _ => return Ok(()),
            },
        };
        match done {
            // Somebody was faster: look again.
            Err(error) if error.is_conflict() || error.is_not_found() => last = Some(error),
            done => done?,
        }
    }
    Err(last.map_or_else(
        || StepFailure::transient(format!("statefulset/{name} was never made anew")),
        StepFailure::from,
    ))
}

/// What comes next on the way to a set with the new classes.
#[derive(Debug, PartialEq)]
enum NextMove<'a> {
    /// Nothing is left to do.
    Done,
    /// Store what the set is to become, whatever was stored of an earlier version of it.
    Store(&'a StatefulSet, Box<StatefulSet>),
    /// Delete the set, without its pods, exactly as it was stored.
    Delete(&'a StatefulSet),
    /// Create what was stored.
    Create(Box<StatefulSet>),
}

/// What comes next, from the set and the note that are there.
fn next<'a>(
    set: Option<&'a StatefulSet>,
    note: Option<&ConfigMap>,
    target: &KubernetesTarget,
) -> Result<NextMove<'a>, StepFailure> {
    if let Some(set) = set {
        return Ok(match renewed(set, target) {
            None => NextMove::Done,
            Some(_) if note.is_some_and(|note| is_of(note, set)) => NextMove::Delete(set),
            Some(wanted) => NextMove::Store(set, Box::new(wanted)),
        });
    }
    let name = &target.workload.name;
    let note = note.ok_or_else(|| {
        StepFailure::undecided(format!(
            "statefulset/{name} is gone: somebody has deleted it"
        ))
    })?;
    let wanted = entry(note, OBJECT).and_then(|text| serde_json::from_str(text).ok());
    wanted.map(NextMove::Create).ok_or_else(|| {
        StepFailure::undecided(format!(
            "The ConfigMap {} holds no statefulset",
            note.metadata.name.as_deref().unwrap_or_default()
        ))
        .with_hint(format!("create statefulset/{name} from its own manifest"))
    })
}

/// Whether `note` was made from exactly this version of `set`.
fn is_of(note: &ConfigMap, set: &StatefulSet) -> bool {
    let ObjectMeta {
        uid,
        resource_version,
        ..
    } = &set.metadata;
    uid.is_some()
        && entry(note, UID) == uid.as_deref()
        && entry(note, VERSION) == resource_version.as_deref()
}

fn entry<'a>(note: &'a ConfigMap, key: &str) -> Option<&'a str> {
    note.data.as_ref()?.get(key).map(String::as_str)
}

/// Stores the note in the place of the one that was found: by one call, so that there is no moment
/// without any, and only as it was found.
async fn store(
    notes: &Api<ConfigMap>,
    found: Option<&ConfigMap>,
    mut note: ConfigMap,
) -> Result<(), ClusterError> {
    let name = note.metadata.name.clone().unwrap_or_default();
    let what = format!("store the new statefulset in {name}");
    let stored = match found {
        None => call(what, notes.create(&parameters(), &note)).await,
        // Earlier programs stored one that cannot be replaced: it makes room, and all is read again.
        Some(found) if found.immutable == Some(true) => {
            let as_found = DeleteParams {
                preconditions: Some(Preconditions {
                    uid: found.metadata.uid.clone(),
                    resource_version: found.metadata.resource_version.clone(),
                }),
                ..DeleteParams::default()
            };
            let what = format!("delete the old statefulset in {name}");
            let gone = call(what, notes.delete(&name, &as_found)).await;
            return gone.map(|_| ());
        }
        Some(found) => {
            note.metadata.uid.clone_from(&found.metadata.uid);
            let version = &found.metadata.resource_version;
            note.metadata.resource_version.clone_from(version);
            call(what, notes.replace(&name, &parameters(), &note)).await
        }
    };
    stored.map(|_| ())
}

/// Deletes the set as it was read, keeping its pods, and waits until it is gone.
async fn delete(
    sets: &Api<StatefulSet>,
    name: &str,
    set: &StatefulSet,
) -> Result<(), ClusterError> {
    let uid = &set.metadata.uid;
    let without_pods = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Orphan),
        preconditions: Some(Preconditions {
            uid: uid.clone(),
            resource_version: set.metadata.resource_version.clone(),
        }),
        ..DeleteParams::default()
    };
    let what = format!("delete statefulset/{name}, keeping its pods");
    call(what, sets.delete(name, &without_pods)).await?;
    await_object(sets, "statefulset", name, |set| {
        set.is_none_or(|set| set.metadata.uid != *uid).then_some(())
    })
    .await
}

async fn create(
    sets: &Api<StatefulSet>,
    name: &str,
    wanted: &StatefulSet,
) -> Result<(), ClusterError> {
    let what = format!("create statefulset/{name} with its new templates");
    call(what, sets.create(&parameters(), wanted))
        .await
        .map(|_| ())
}

fn parameters() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    }
}

/// The set with the new classes; none when its templates have them already.
fn renewed(set: &StatefulSet, target: &KubernetesTarget) -> Option<StatefulSet> {
    let finalizers = set.metadata.finalizers.clone().map(|all| {
        all.into_iter()
            .filter(|one| !DELETING.contains(&one.as_str()))
            .collect()
    });
    let mut wanted = StatefulSet {
        metadata: ObjectMeta {
            name: set.metadata.name.clone(),
            namespace: set.metadata.namespace.clone(),
            labels: set.metadata.labels.clone(),
            annotations: set.metadata.annotations.clone(),
            owner_references: set.metadata.owner_references.clone(),
            finalizers,
            ..ObjectMeta::default()
        },
        spec: set.spec.clone(),
        status: None,
    };
    let templates = wanted.spec.as_mut()?.volume_claim_templates.as_mut()?;
    let mut changed = false;
    for template in templates {
        let prefix = format!(
            "{}-{}-",
            template.metadata.name.as_deref().unwrap_or_default(),
            target.workload.name
        );
        let class = target
            .claims
            .iter()
            .find(|claim| {
                claim
                    .claim
                    .strip_prefix(&prefix)
                    .is_some_and(|ordinal| ordinal.parse::<u32>().is_ok())
            })
            .map(|claim| claim.to_class.clone());
        let spec = template.spec.get_or_insert_default();
        if class.is_some() && spec.storage_class_name != class {
            spec.storage_class_name = class;
            changed = true;
        }
        template.status = None;
    }
    changed.then_some(wanted)
}

/// The note that `set` is to become `wanted`.
fn note(
    blank: ConfigMap,
    set: &StatefulSet,
    wanted: &StatefulSet,
) -> Result<ConfigMap, StepFailure> {
    let text = serde_json::to_string(wanted)
        .map_err(|error| StepFailure::permanent(format!("Could not encode the set: {error}")))?;
    let ObjectMeta {
        uid,
        resource_version,
        ..
    } = set.metadata.clone();
    let data = [
        (OBJECT, text),
        (UID, uid.unwrap_or_default()),
        (VERSION, resource_version.unwrap_or_default()),
    ];
    Ok(ConfigMap {
        data: Some(data.map(|(key, value)| (key.to_owned(), value)).into()),
        ..blank
    })
}

#[cfg(test)]
mod tests {
    use livmig_engine::spec::{ClaimTarget, MoverPods, WorkloadRef};
    use serde_json::json;

    use super::*;

    fn target() -> KubernetesTarget {
        let claim = |claim: &str, class: &str| ClaimTarget {
            claim: claim.to_owned(),
            claim_uid: String::new(),
            volume: String::new(),
            volume_uid: String::new(),
            from_class: "old".to_owned(),
            to_class: class.to_owned(),
        };
        KubernetesTarget {
            namespace: "shop".to_owned(),
            workload: WorkloadRef {
                kind: WorkloadKind::StatefulSet,
                name: "db".to_owned(),
                uid: "u".to_owned(),
            },
            claims: vec![claim("data-db-0", "fast"), claim("other", "fast")],
            mover: MoverPods {
                image: String::new(),
                pull_secret: None,
                run_as: None,
                capabilities: std::collections::BTreeSet::new(),
            },
            pre_stop: None,
            update_template: true,
            keep_claim_spec: false,
        }
    }

    fn set(version: &str, replicas: u32, finalizers: &[&str]) -> StatefulSet {
        serde_json::from_value(json!({
            "metadata": {"name": "db", "uid": "u", "resourceVersion": version,
                "labels": {"a": "b"}, "finalizers": finalizers},
            "spec": {"serviceName": "db", "selector": {}, "template": {}, "replicas": replicas,
                "volumeClaimTemplates": [
                    {"metadata": {"name": "data"}, "spec": {"storageClassName": "old"},
                        "status": {"phase": "Pending"}},
                    {"metadata": {"name": "wal"}, "spec": {"storageClassName": "old"}},
                ]},
            "status": {"replicas": replicas},
        }))
        .unwrap()
    }

    #[test]
    fn only_templates_of_claims_that_moved_change_and_only_once() {
        let wanted = renewed(&set("7", 2, &["mine", "orphan"]), &target()).unwrap();
        let json = serde_json::to_value(&wanted).unwrap();
        let templates = &json["spec"]["volumeClaimTemplates"];
        assert_eq!(templates[0]["spec"]["storageClassName"], "fast");
        assert_eq!(templates[1]["spec"]["storageClassName"], "old");
        assert!(json["metadata"].get("uid").is_none() && json.get("status").is_none());
        assert_eq!(json["metadata"]["finalizers"], json!(["mine"]));
        assert_eq!(json["spec"]["replicas"], 2);
        assert_eq!(renewed(&wanted, &target()), None);
    }

    /// The note of a set, and how many replicas it says.
    fn stored(set: &StatefulSet) -> ConfigMap {
        match next(Some(set), None, &target()).unwrap() {
            NextMove::Store(from, wanted) => note(ConfigMap::default(), from, &wanted).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_somebody_has_changed_since_it_was_stored_is_stored_anew_before_the_set_is_deleted() {
        let (then, now) = (set("7", 2, &[]), set("9", 5, &[]));
        let old = stored(&then);
        assert_eq!(
            next(Some(&then), Some(&old), &target()).unwrap(),
            NextMove::Delete(&then)
        );
        // A day later: other replicas.
        let step = next(Some(&now), Some(&old), &target()).unwrap();
        assert!(
            matches!(&step, NextMove::Store(from, _) if *from == &now),
            "{step:?}"
        );
        let new = stored(&now);
        assert_eq!(
            next(Some(&now), Some(&new), &target()).unwrap(),
            NextMove::Delete(&now)
        );
        let NextMove::Create(wanted) = next(None, Some(&new), &target()).unwrap() else {
            panic!("it is created once the set is gone");
        };
        assert_eq!(wanted.spec.as_ref().and_then(|spec| spec.replicas), Some(5));
        assert_eq!(
            next(Some(&wanted), Some(&new), &target()).unwrap(),
            NextMove::Done
        );
    }

    #[test]
    fn a_note_of_another_set_or_of_none_is_never_believed_while_the_set_is_there() {
        let set = set("7", 2, &[]);
        let mut other = stored(&set);
        for key in [UID, VERSION] {
            other.data.get_or_insert_default().remove(key);
            let step = next(Some(&set), Some(&other), &target()).unwrap();
            assert!(matches!(step, NextMove::Store(..)), "{step:?}");
        }
        assert!(next(None, None, &target()).is_err());
        assert!(next(None, Some(&ConfigMap::default()), &target()).is_err());
    }
}
