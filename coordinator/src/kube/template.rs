//! New classes in the claim templates of a `StatefulSet`, so that a later scale-up gets them.
//!
//! The templates cannot be changed, so the set is made anew around its running pods: deleted
//! without them, created with other templates, and it adopts them by its selector. What will be
//! created is stored before anything is deleted, so that whoever goes on finds it.

use std::collections::BTreeMap;

use ::kube::api::{DeleteParams, PostParams, Preconditions, PropagationPolicy};
use k8s_openapi::{
    api::{apps::v1::StatefulSet, core::v1::ConfigMap},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use livmig_engine::{
    result::StepFailure,
    spec::{KubernetesTarget, WorkloadKind},
};

use super::{
    cluster::{Cluster, call},
    movers::absent_is_fine,
    names::FIELD_MANAGER,
};

/// The key of the stored object.
const OBJECT: &str = "statefulset";

/// Gives the claim templates of the target's set the classes its claims moved to. `stored` names
/// the `ConfigMap` in which the new set lies meanwhile.
///
/// # Errors
/// When something cannot be read, stored, deleted or created; doing it again goes on from there.
pub async fn update(
    cluster: &Cluster,
    target: &KubernetesTarget,
    stored: &str,
    labels: BTreeMap<String, String>,
    owner: OwnerReference,
) -> Result<(), StepFailure> {
    if !target.update_template || target.workload.kind != WorkloadKind::StatefulSet {
        return Ok(());
    }
    let name = &target.workload.name;
    let sets = cluster.api::<StatefulSet>();
    let notes = cluster.api::<ConfigMap>();
    let parameters = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let found = call(format!("read statefulset/{name}"), sets.get_opt(name)).await?;
    if let Some(set) = &found {
        let Some(wanted) = renewed(set, target) else {
            return Ok(());
        };
        let note = note(stored, labels, owner, &wanted)?;
        let what = format!("store the new statefulset/{name}");
        match call(what, notes.create(&parameters, &note)).await {
            Err(error) if !error.is_conflict() => return Err(error.into()),
            _ => {}
        }
        let without_pods = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Orphan),
            preconditions: Some(Preconditions {
                uid: set.metadata.uid.clone(),
                resource_version: set.metadata.resource_version.clone(),
            }),
            ..DeleteParams::default()
        };
        let what = format!("delete statefulset/{name}, keeping its pods");
        absent_is_fine(
            call(what, sets.delete(name, &without_pods))
                .await
                .map(|_| ()),
        )?;
        super::watch::await_object(&sets, "statefulset", name, |set| {
            set.is_none().then_some(())
        })
        .await?;
    }
    let what = format!("read the new statefulset/{name}");
    let Some(note) = call(what, notes.get_opt(stored)).await? else {
        return Err(StepFailure::undecided(format!(
            "statefulset/{name} is gone: somebody has deleted it"
        )));
    };
    let wanted: StatefulSet = note
        .data
        .as_ref()
        .and_then(|data| data.get(OBJECT))
        .and_then(|text| serde_json::from_str(text).ok())
        .ok_or_else(|| {
            StepFailure::undecided(format!("The ConfigMap {stored} holds no statefulset"))
                .with_hint(format!("create statefulset/{name} from its own manifest"))
        })?;
    let what = format!("create statefulset/{name} with its new templates");
    match call(what, sets.create(&parameters, &wanted)).await {
        Err(error) if !error.is_conflict() => Err(error.into()),
        _ => Ok(()),
    }
}

/// The set with the new classes; none when its templates have them already.
fn renewed(set: &StatefulSet, target: &KubernetesTarget) -> Option<StatefulSet> {
    let mut wanted = StatefulSet {
        metadata: ObjectMeta {
            name: set.metadata.name.clone(),
            namespace: set.metadata.namespace.clone(),
            labels: set.metadata.labels.clone(),
            annotations: set.metadata.annotations.clone(),
            owner_references: set.metadata.owner_references.clone(),
            finalizers: set.metadata.finalizers.clone(),
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

fn note(
    name: &str,
    labels: BTreeMap<String, String>,
    owner: OwnerReference,
    set: &StatefulSet,
) -> Result<ConfigMap, StepFailure> {
    let text = serde_json::to_string(set)
        .map_err(|error| StepFailure::permanent(format!("Could not encode the set: {error}")))?;
    Ok(ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        immutable: Some(true),
        data: Some([(OBJECT.to_owned(), text)].into()),
        ..ConfigMap::default()
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
            },
            pre_stop: None,
            update_template: true,
            keep_claim_spec: false,
        }
    }

    #[test]
    fn only_templates_of_claims_that_moved_change_and_only_once() {
        let set: StatefulSet = serde_json::from_value(json!({
            "metadata": {"name": "db", "uid": "u", "resourceVersion": "7", "labels": {"a": "b"}},
            "spec": {"serviceName": "db", "selector": {}, "template": {}, "replicas": 2,
                "volumeClaimTemplates": [
                    {"metadata": {"name": "data"}, "spec": {"storageClassName": "old"},
                        "status": {"phase": "Pending"}},
                    {"metadata": {"name": "wal"}, "spec": {"storageClassName": "old"}},
                ]},
            "status": {"replicas": 2},
        }))
        .unwrap();
        let wanted = renewed(&set, &target()).unwrap();
        let json = serde_json::to_value(&wanted).unwrap();
        let templates = &json["spec"]["volumeClaimTemplates"];
        assert_eq!(templates[0]["spec"]["storageClassName"], "fast");
        assert_eq!(templates[1]["spec"]["storageClassName"], "old");
        assert!(json["metadata"].get("uid").is_none() && json.get("status").is_none());
        assert_eq!(json["spec"]["replicas"], 2);
        assert_eq!(renewed(&wanted, &target()), None);
    }
}
