//! The objects of others as they were before the migration, stored before the first of them is
//! changed: what a way back needs, for livmig and for a person without it.

use std::collections::BTreeMap;

use ::kube::api::PostParams;
use k8s_openapi::{
    api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, PodSpec},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use livmig_engine::{result::StepFailure, spec::KubernetesTarget};
use serde::{Serialize, de::DeserializeOwned};

use crate::kube::{
    api::{
        cluster::{Cluster, call},
        names::FIELD_MANAGER,
    },
    objects::claim::{ClaimClass, rebound},
    workload,
};

/// The objects as they were.
#[derive(Clone, Debug)]
pub struct PreImage {
    /// The pods that the workload makes.
    pub template: PodSpec,
    /// The claims, in the order of the target's.
    pub claims: Vec<PersistentVolumeClaim>,
    /// Their volumes.
    pub volumes: Vec<PersistentVolume>,
}

/// The pre-image stored under `name`; made and stored when there is none yet.
///
/// # Errors
/// When the objects are no longer those that were planned for, or cannot be read or stored.
pub async fn ensure(
    cluster: &Cluster,
    name: &str,
    target: &KubernetesTarget,
    labels: BTreeMap<String, String>,
    owner: OwnerReference,
) -> Result<PreImage, StepFailure> {
    let api = cluster.api::<ConfigMap>();
    let what = format!("read the pre-images {name}");
    if let Some(stored) = call(what, api.get_opt(name)).await? {
        return decode(&stored, name, target);
    }
    let made = read(cluster, target).await?;
    let mut data = BTreeMap::from([("pod-template".to_owned(), encode(&made.template)?)]);
    for (index, claim) in made.claims.iter().enumerate() {
        data.insert(format!("claim-{index}"), encode(claim)?);
    }
    for (index, volume) in made.volumes.iter().enumerate() {
        data.insert(format!("volume-{index}"), encode(volume)?);
    }
    // For a person without livmig: kubectl creates no object that still says what the server says.
    for (index, (claim, volume)) in made.claims.iter().zip(&made.volumes).enumerate() {
        let remade = rebound(claim, volume, ClaimClass::OfVolume);
        data.insert(format!("remake-{index}"), encode(&remade)?);
    }
    let object = ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        immutable: Some(true),
        data: Some(data),
        ..ConfigMap::default()
    };
    let parameters = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    call(
        format!("store the pre-images {name}"),
        api.create(&parameters, &object),
    )
    .await?;
    Ok(made)
}

async fn read(cluster: &Cluster, target: &KubernetesTarget) -> Result<PreImage, StepFailure> {
    let template = workload::template(cluster, &target.workload).await?;
    let claims_api = cluster.api::<PersistentVolumeClaim>();
    let volumes_api = cluster.cluster_api::<PersistentVolume>();
    let mut claims = Vec::new();
    let mut volumes = Vec::new();
    for wanted in &target.claims {
        let (claim, volume) = tokio::try_join!(
            call(
                format!("read the claim {}", wanted.claim),
                claims_api.get(&wanted.claim)
            ),
            call(
                format!("read the volume {}", wanted.volume),
                volumes_api.get(&wanted.volume)
            ),
        )?;
        if claim.metadata.uid.as_ref() != Some(&wanted.claim_uid)
            || volume.metadata.uid.as_ref() != Some(&wanted.volume_uid)
        {
            return Err(StepFailure::permanent(format!(
                "The claim {} or its volume {} is not what the migration was planned for: somebody \
                 has re-created it",
                wanted.claim, wanted.volume
            )));
        }
        claims.push(claim);
        volumes.push(volume);
    }
    Ok(PreImage {
        template,
        claims,
        volumes,
    })
}

fn encode<T: Serialize>(object: &T) -> Result<String, StepFailure> {
    serde_json::to_string(object)
        .map_err(|error| StepFailure::permanent(format!("Could not encode a pre-image: {error}")))
}

fn decode(
    stored: &ConfigMap,
    name: &str,
    target: &KubernetesTarget,
) -> Result<PreImage, StepFailure> {
    fn one<T: DeserializeOwned>(
        stored: &ConfigMap,
        name: &str,
        key: &str,
    ) -> Result<T, StepFailure> {
        stored
            .data
            .as_ref()
            .and_then(|data| data.get(key))
            .and_then(|text| serde_json::from_str(text).ok())
            .ok_or_else(|| {
                StepFailure::permanent(format!("The pre-images {name} are damaged at {key}"))
            })
    }
    let each = 0..target.claims.len();
    Ok(PreImage {
        template: one(stored, name, "pod-template")?,
        claims: each
            .clone()
            .map(|index| one(stored, name, &format!("claim-{index}")))
            .collect::<Result<_, _>>()?,
        volumes: each
            .map(|index| one(stored, name, &format!("volume-{index}")))
            .collect::<Result<_, _>>()?,
    })
}
