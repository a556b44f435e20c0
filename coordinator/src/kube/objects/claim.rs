//! The claims that a migration makes: the staging one that has the new volume provisioned, and the
//! final one under the workload's own name. Pure.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::quantity::amount;
use crate::kube::api::names::FENCE;

/// Annotations that Kubernetes itself writes on a claim: they speak of its old binding.
const BOUND: [&str; 7] = [
    "pv.kubernetes.io/bind-completed",
    "pv.kubernetes.io/bound-by-controller",
    "volume.kubernetes.io/selected-node",
    "volume.kubernetes.io/storage-provisioner",
    "volume.beta.kubernetes.io/storage-provisioner",
    "volume.beta.kubernetes.io/storage-class",
    "volume.kubernetes.io/storage-resizer",
];

/// What `kubectl apply` remembers; it names the old class, and the next apply would fail on it.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The claim that has the new volume provisioned: as large as the old one is or was asked to be.
pub fn staging(
    name: &str,
    labels: BTreeMap<String, String>,
    original: &PersistentVolumeClaim,
    class: &str,
) -> PersistentVolumeClaim {
    let spec = original.spec.clone().unwrap_or_default();
    let mut resources = spec.resources.unwrap_or_default();
    let granted = original
        .status
        .as_ref()
        .and_then(|status| status.capacity.as_ref())
        .and_then(|capacity| capacity.get("storage"));
    if let Some(granted) = granted {
        let requests = resources.requests.get_or_insert_default();
        let asked = requests.get("storage").and_then(amount).unwrap_or(0);
        if amount(granted).is_some_and(|granted| granted > asked) {
            requests.insert("storage".to_owned(), granted.clone());
        }
    }
    resources.limits = None;
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: spec.access_modes,
            resources: Some(resources),
            storage_class_name: Some(class.to_owned()),
            volume_mode: spec.volume_mode,
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

/// Whether the fence is up on `claim`: our finalizer holds it.
pub fn is_fenced(claim: &PersistentVolumeClaim) -> bool {
    let holders = claim.metadata.finalizers.as_deref().unwrap_or_default();
    holders.iter().any(|holder| holder == FENCE)
}

/// How the final claim's class is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClaimClass {
    /// The class of the volume it binds to, and that volume by name.
    OfVolume,
    /// As it was: what stands in a repository stays true to the letter.
    Kept,
}

/// The claim under the name of `original` that binds to `volume`. Everything that users own stays:
/// labels, annotations, owners, the request.
pub fn rebound(
    original: &PersistentVolumeClaim,
    volume: &PersistentVolume,
    class: ClaimClass,
) -> PersistentVolumeClaim {
    let old = &original.metadata;
    let annotations = old.annotations.clone().map(|annotations| {
        annotations
            .into_iter()
            .filter(|(key, _)| {
                !BOUND.contains(&key.as_str())
                    && !key.starts_with("livmig.io/")
                    && (class == ClaimClass::Kept || key != LAST_APPLIED)
            })
            .collect::<BTreeMap<_, _>>()
    });
    // A pod that owned the claim is gone, and the claim would be collected with it.
    let owners = old.owner_references.clone().map(|owners| {
        owners
            .into_iter()
            .filter(|owner| owner.kind != "Pod")
            .collect::<Vec<_>>()
    });
    let spec = original.spec.clone().unwrap_or_default();
    let (storage_class_name, volume_name) = match class {
        ClaimClass::OfVolume => (
            Some(
                volume
                    .spec
                    .as_ref()
                    .and_then(|spec| spec.storage_class_name.clone())
                    .unwrap_or_default(),
            ),
            volume.metadata.name.clone(),
        ),
        ClaimClass::Kept => (spec.storage_class_name.clone(), None),
    };
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: old.name.clone(),
            namespace: old.namespace.clone(),
            labels: old.labels.clone(),
            annotations: annotations.filter(|annotations| !annotations.is_empty()),
            owner_references: owners.filter(|owners| !owners.is_empty()),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            storage_class_name,
            volume_name,
            // They speak of how the old volume came to be.
            data_source: None,
            data_source_ref: None,
            selector: None,
            volume_attributes_class_name: volume
                .spec
                .as_ref()
                .and_then(|spec| spec.volume_attributes_class_name.clone()),
            ..spec
        }),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn original() -> PersistentVolumeClaim {
        serde_json::from_value(json!({
            "metadata": {
                "name": "data-app-0", "namespace": "shop", "uid": "u", "resourceVersion": "7",
                "labels": {"app": "app"},
                "annotations": {
                    "mine": "yes",
                    "pv.kubernetes.io/bind-completed": "yes",
                    "volume.kubernetes.io/selected-node": "n",
                    "kubectl.kubernetes.io/last-applied-configuration": "{}",
                    "livmig.io/epoch": "3",
                },
                "ownerReferences": [
                    {"apiVersion": "v1", "kind": "Pod", "name": "app-0", "uid": "p"},
                    {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "app", "uid": "s"},
                ],
                "finalizers": ["kubernetes.io/pvc-protection"],
            },
            "spec": {
                "accessModes": ["ReadWriteOnce"], "storageClassName": "old", "volumeName": "pv-a",
                "volumeMode": "Filesystem", "resources": {"requests": {"storage": "1Gi"}},
                "dataSource": {"kind": "VolumeSnapshot", "name": "s", "apiGroup": "x"},
            },
            "status": {"capacity": {"storage": "2Gi"}},
        }))
        .unwrap()
    }

    fn volume() -> PersistentVolume {
        serde_json::from_value(json!({
            "metadata": {"name": "pv-b"}, "spec": {"storageClassName": "fast"},
        }))
        .unwrap()
    }

    #[test]
    fn the_staging_claim_is_as_large_as_the_old_volume() {
        let claim = staging("s", BTreeMap::new(), &original(), "fast");
        let json = serde_json::to_value(claim).unwrap();
        assert_eq!(json["spec"]["resources"]["requests"]["storage"], "2Gi");
        assert_eq!(json["spec"]["storageClassName"], "fast");
        assert!(json["spec"].get("volumeName").is_none());
        assert!(json["spec"].get("dataSource").is_none());
    }

    #[test]
    fn what_users_own_survives_and_what_spoke_of_the_binding_goes() {
        let claim = rebound(&original(), &volume(), ClaimClass::OfVolume);
        assert_eq!(
            serde_json::to_value(claim).unwrap(),
            json!({
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "metadata": {
                    "name": "data-app-0", "namespace": "shop", "labels": {"app": "app"},
                    "annotations": {"mine": "yes"},
                    "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet",
                        "name": "app", "uid": "s"}],
                },
                "spec": {
                    "accessModes": ["ReadWriteOnce"], "storageClassName": "fast",
                    "volumeName": "pv-b", "volumeMode": "Filesystem",
                    "resources": {"requests": {"storage": "1Gi"}},
                },
            })
        );
        let kept = rebound(&original(), &volume(), ClaimClass::Kept);
        let json = serde_json::to_value(kept).unwrap();
        assert_eq!(json["spec"]["storageClassName"], "old");
        assert!(json["spec"].get("volumeName").is_none());
        assert!(json["metadata"]["annotations"].get(LAST_APPLIED).is_some());
    }
}
