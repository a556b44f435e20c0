//! Objects of a sound workload, which tests spoil with [`with`]: no test writes a whole object by hand.
//! Objects of one name have the UID `uid-NAME`, and what is bound belongs together.

use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod},
    storage::v1::{CSIDriver, StorageClass},
};
use livmig_engine::spec::{
    MigrationName, MigrationSpec, Options, Target, WorkloadKind, WorkloadRef,
};
use livmig_proto::ids::MigrationUid;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{images::DEFAULT_MOVER_IMAGE, kube::migration::Migration};

/// The namespace of all of them.
pub(crate) const NAMESPACE: &str = "shop";

/// The `StatefulSet` `name` with two ready pods and a claim template `data`.
pub(crate) fn stateful_set(name: &str) -> StatefulSet {
    object(json!({
        "metadata": {"name": name, "uid": format!("uid-{name}"), "generation": 1},
        "spec": {
            "replicas": 2,
            "serviceName": name,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": name}], "terminationGracePeriodSeconds": 10},
            },
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}],
        },
        "status": {"observedGeneration": 1, "replicas": 2, "readyReplicas": 2},
    }))
}

/// The Deployment `name` with two ready pods.
pub(crate) fn deployment(name: &str) -> Deployment {
    object(json!({
        "metadata": {"name": name, "uid": format!("uid-{name}"), "generation": 1},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": name}},
            "template": {"spec": {"containers": [{"name": name}]}},
        },
        "status": {"observedGeneration": 1, "replicas": 2, "readyReplicas": 2},
    }))
}

/// A reference to the workload `name` of [`stateful_set`] or [`deployment`].
pub(crate) fn workload(kind: WorkloadKind, name: &str) -> WorkloadRef {
    WorkloadRef {
        kind,
        name: name.to_owned(),
        uid: format!("uid-{name}"),
    }
}

/// The migration `m` of `statefulset/app`, whose claim `data-app-0` moves from the volume `pv-a` of class
/// `old` to class `new`.
pub(crate) fn migration() -> Migration {
    let target = object(json!({
        "namespace": NAMESPACE,
        "workload": {"kind": "StatefulSet", "name": "app", "uid": "uid-app"},
        "claims": [{"claim": "data-app-0", "claimUid": "uid-data-app-0", "volume": "pv-a",
            "volumeUid": "uid-pv-a", "fromClass": "old", "toClass": "new"}],
        "mover": {"image": "i"},
    }));
    let spec = MigrationSpec {
        name: MigrationName::try_from("m".to_owned()).unwrap(),
        uid: MigrationUid([1; 16]),
        target: Target::Kubernetes(target),
        options: Options::default(),
    };
    Migration::of(&spec).unwrap()
}

/// An object of the API from its JSON.
pub(crate) fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

/// A Bound claim of class `old`.
pub(crate) fn claim(name: &str, volume: &str) -> PersistentVolumeClaim {
    object(json!({
        "metadata": {"name": name, "uid": format!("uid-{name}"),
                     "finalizers": ["kubernetes.io/pvc-protection"]},
        "spec": {"storageClassName": "old", "volumeName": volume, "volumeMode": "Filesystem",
                 "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}},
    }))
}

/// The volume bound to `claim`.
pub(crate) fn volume(name: &str, claim: &str) -> PersistentVolume {
    object(json!({
        "metadata": {"name": name, "uid": format!("uid-{name}")},
        "spec": {"storageClassName": "old", "capacity": {"storage": "1Gi"},
                 "accessModes": ["ReadWriteOnce"], "persistentVolumeReclaimPolicy": "Retain",
                 "csi": {"driver": "old.csi", "volumeHandle": format!("handle-{name}")},
                 "claimRef": {"namespace": "shop", "name": claim, "uid": format!("uid-{claim}")}},
        "status": {"phase": "Bound"},
    }))
}

/// A class with a driver of its own.
pub(crate) fn class(name: &str) -> StorageClass {
    object(json!({
        "metadata": {"name": name},
        "provisioner": format!("{name}.csi"),
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
    }))
}

/// A driver.
pub(crate) fn driver(name: &str) -> CSIDriver {
    object(json!({"metadata": {"name": name}, "spec": {}}))
}

/// A ready node that has the movers' image.
pub(crate) fn node(name: &str) -> Node {
    object(json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "zone": name}},
        "status": {"conditions": [{"type": "Ready", "status": "True"}],
                   "images": [{"names": [DEFAULT_MOVER_IMAGE]}]},
    }))
}

/// A running pod that names `claim`, of the owner (kind, name, UID).
pub(crate) fn pod(name: &str, node: &str, claim: &str, owner: (&str, &str, &str)) -> Pod {
    object(json!({
        "metadata": {"name": name, "uid": format!("uid-{name}"), "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": owner.0, "name": owner.1, "uid": owner.2,
             "controller": true},
        ]},
        "spec": {"nodeName": node, "containers": [{"name": "main"}], "volumes": [
            {"name": "v", "persistentVolumeClaim": {"claimName": claim}},
        ]},
        "status": {"phase": "Running"},
    }))
}

/// `object` with the fields of `patch` over its own.
pub(crate) fn with<K: DeserializeOwned + Serialize>(object: &K, patch: Value) -> K {
    let mut value = serde_json::to_value(object).unwrap();
    merge(&mut value, patch);
    serde_json::from_value(value).unwrap()
}

/// The merge patch `patch` (RFC 7386) applied to `into`.
pub(super) fn merge(into: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *into = patch;
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            into.as_object_mut().unwrap().remove(&key);
        } else {
            merge(&mut into[key], value);
        }
    }
}
