//! The objects of others as they were before the migration, stored before the first of them is
//! changed: what a way back needs, for livmig and for a person without it.

use std::collections::BTreeMap;

use ::kube::api::PostParams;
use k8s_openapi::{
    api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, PodSpec},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use livmig_engine::result::StepFailure;
use serde::{Serialize, de::DeserializeOwned};

use crate::kube::{
    api::{
        cluster::{Cluster, call},
        names::FIELD_MANAGER,
    },
    migration::{Claim, Migration},
    objects::claim::{ClaimClass, rebound},
    workload,
};

/// The objects as they were.
#[derive(Clone, Debug)]
pub struct PreImage {
    /// The pods that the workload makes.
    pub template: PodSpec,
    /// Each claim, by its name, and its volume.
    originals: BTreeMap<String, Original>,
}

/// A claim and its volume as they were.
#[derive(Clone, Debug)]
pub struct Original {
    /// The claim.
    pub claim: PersistentVolumeClaim,
    /// The volume that it was bound to.
    pub volume: PersistentVolume,
}

impl PreImage {
    /// The claim as it was.
    ///
    /// # Errors
    /// When it is none of the migration's.
    pub fn of(&self, claim: &Claim) -> Result<&Original, StepFailure> {
        self.originals.get(&claim.claim).ok_or_else(|| {
            StepFailure::permanent(format!("The pre-images lack the claim {}", claim.claim))
        })
    }
}

/// The pre-image of `migration` as it is stored; made and stored when there is none yet.
///
/// # Errors
/// When the objects are no longer those that were planned for, or cannot be read or stored.
pub async fn ensure(
    cluster: &Cluster,
    migration: &Migration,
    owner: OwnerReference,
) -> Result<PreImage, StepFailure> {
    let api = cluster.api::<ConfigMap>();
    let name = &migration.names.pre_image();
    let what = format!("read the pre-images {name}");
    if let Some(stored) = call(what, api.get_opt(name)).await? {
        return decode(&stored, name, migration);
    }
    let made = read(cluster, migration).await?;
    let mut data = BTreeMap::from([("pod-template".to_owned(), encode(&made.template)?)]);
    for claim in &migration.claims {
        let Original { claim: was, volume } = made.of(claim)?;
        let key = &claim.key;
        data.insert(format!("claim-{key}"), encode(was)?);
        data.insert(format!("volume-{key}"), encode(volume)?);
        // For a person without livmig: kubectl creates no object that still says what the server says.
        let remade = rebound(was, volume, ClaimClass::OfVolume);
        data.insert(format!("remake-{key}"), encode(&remade)?);
    }
    let object = ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(migration.labels("before")),
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

async fn read(cluster: &Cluster, migration: &Migration) -> Result<PreImage, StepFailure> {
    let template = workload::template(cluster, &migration.target.workload).await?;
    let claims_api = cluster.api::<PersistentVolumeClaim>();
    let volumes_api = cluster.cluster_api::<PersistentVolume>();
    let mut originals = BTreeMap::new();
    for wanted in &migration.claims {
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
        if !wanted.uid.is(claim.metadata.uid.as_deref())
            || volume.metadata.uid.as_ref() != Some(&wanted.volume_uid)
        {
            return Err(StepFailure::permanent(format!(
                "The claim {} or its volume {} is not what the migration was planned for: somebody \
                 has re-created it",
                wanted.claim, wanted.volume
            )));
        }
        originals.insert(wanted.claim.clone(), Original { claim, volume });
    }
    Ok(PreImage {
        template,
        originals,
    })
}

fn encode<T: Serialize>(object: &T) -> Result<String, StepFailure> {
    serde_json::to_string(object)
        .map_err(|error| StepFailure::permanent(format!("Could not encode a pre-image: {error}")))
}

fn decode(stored: &ConfigMap, name: &str, migration: &Migration) -> Result<PreImage, StepFailure> {
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
    let originals = migration.claims.iter().map(|claim| {
        let key = &claim.key;
        let original = Original {
            claim: one(stored, name, &format!("claim-{key}"))?,
            volume: one(stored, name, &format!("volume-{key}"))?,
        };
        Ok((claim.claim.clone(), original))
    });
    Ok(PreImage {
        template: one(stored, name, "pod-template")?,
        originals: originals.collect::<Result<_, StepFailure>>()?,
    })
}
