//! The movers of a migration: two pods for each claim, found again by a later coordinator.

mod connect;
mod connected;
pub mod drain;
mod network;
pub mod placement;
mod pods;
mod staging;
mod stranded;

pub use self::{
    connected::{Connected, Mover},
    stranded::Stranded,
};

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use ::kube::api::DeleteParams;
use futures::future::try_join_all;
use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use livmig_engine::{
    result::StepFailure,
    spec::{KubernetesTarget, MigrationSpec},
};
use livmig_proto::{
    control::{FaultCode, Session, Side},
    ids::Epoch,
};
use tokio::sync::{Mutex, OnceCell};

use self::{
    connect::{Who, connect},
    placement::Place,
};
use super::{
    api::{
        cluster::{Cluster, call},
        create::{self, absent_is_fine, labels},
        names::{Names, mover_role},
    },
    objects::{
        claim,
        mover_pod::{DATA_PORT, MoverPod, SESSION},
        pod::PodFacts,
        quantity::amount,
    },
    store::pre_image::PreImage,
};
use crate::movers::{control::ControlError, failure::control as control_failure, keys::Keys};

/// What becomes of a destination mover's pod once its work is done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stay {
    /// It ends.
    Ends,
    /// It stays until the migration ends, so that the volume stays mounted on its node.
    Mounted,
}

/// The movers of one migration.
pub struct Movers {
    cluster: Cluster,
    spec: MigrationSpec,
    target: KubernetesTarget,
    names: Names,
    keys: OnceCell<Vec<Keys>>,
    pairs: Vec<Mutex<Option<Connected>>>,
    /// The new volumes, as far as they are known.
    volumes: std::sync::Mutex<Vec<Option<String>>>,
}

impl Movers {
    /// The movers of the migration `spec` of `target`, none of them connected yet.
    pub fn new(cluster: Cluster, spec: &MigrationSpec, target: &KubernetesTarget) -> Self {
        Self {
            names: Names::new(&spec.name),
            pairs: target.claims.iter().map(|_| Mutex::new(None)).collect(),
            volumes: std::sync::Mutex::new(vec![None; target.claims.len()]),
            keys: OnceCell::new(),
            spec: spec.clone(),
            target: target.clone(),
            cluster,
        }
    }

    /// The pair of the claim at `index` as far as this coordinator is connected to both.
    pub async fn connected(&self, index: usize, epoch: Epoch) -> Option<Connected> {
        let pair = self.pairs.get(index)?.lock().await.clone()?;
        pair.is_usable(epoch).then_some(pair)
    }

    /// Ensures the pair of the claim at `index`, with everything it needs, at `place`, and connects
    /// to it anew.
    ///
    /// # Errors
    /// When something cannot be made, does not run, or does not answer.
    pub async fn ensure(
        &self,
        index: usize,
        before: &PreImage,
        place: &Place,
        owner: &OwnerReference,
        epoch: Epoch,
    ) -> Result<Connected, StepFailure> {
        let (Some(slot), Some(claim), Some(original)) = (
            self.pairs.get(index),
            self.target.claims.get(index),
            before.claims.get(index),
        ) else {
            return Err(StepFailure::permanent("The migration has no such claim"));
        };
        let mut slot = slot.lock().await;
        let keys = self.keys(owner).await?;
        let keys = keys
            .get(index)
            .ok_or_else(|| StepFailure::permanent("The migration has no keys for the claim"))?;
        // Where a pod runs, the workload does, on its old volume.
        if place.node.is_some()
            && let Some(stranded) = self.stranded(index, &before.template).await?
        {
            self.note_volume(index, None);
            self.give_up(index, &stranded, epoch).await?;
        }
        // Before another volume is made that nothing could be copied to.
        let source = self.names.mover(index, Side::Source);
        pods::startable(&self.cluster, &source, &claim.claim).await?;
        let staging = self.names.staging(index);
        let claims_api = self.cluster.api::<PersistentVolumeClaim>();
        let wanted = claim::staging(&staging, self.labels("staging"), original, &claim.to_class);
        let made = create::object(&claims_api, "claim", &wanted).await?;
        let size = wanted
            .spec
            .as_ref()
            .and_then(|spec| spec.resources.as_ref())
            .and_then(|resources| resources.requests.as_ref())
            .and_then(|requests| requests.get("storage"))
            .and_then(amount)
            .unwrap_or(0);
        drop(made);
        let pod = |side| {
            let claim = match side {
                Side::Source => claim.claim.as_str(),
                Side::Destination => staging.as_str(),
            };
            self.pod(index, side, claim, size, before, place, owner, keys)
        };
        let (source, destination) = tokio::try_join!(pod(Side::Source), pod(Side::Destination))?;
        let both = tokio::try_join!(
            self.greet(Side::Source, &source, keys, epoch),
            self.greet(Side::Destination, &destination, keys, epoch),
            self.pin_staging(&staging, epoch),
        )?;
        let (source, destination, volume) = both;
        let address: IpAddr = destination
            .pod
            .address
            .as_deref()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| {
                StepFailure::transient(format!(
                    "The pod {} has no address yet",
                    destination.pod.name
                ))
            })?;
        let pair = Connected {
            source: Arc::new(source),
            destination: Arc::new(destination),
            data: SocketAddr::new(address, DATA_PORT),
            volume,
        };
        self.note_volume(index, Some(pair.volume.clone()));
        *slot = Some(pair.clone());
        Ok(pair)
    }

    /// Ends the movers of the claim at `index`, and waits until their pods are gone.
    ///
    /// # Errors
    /// When a pod cannot be deleted.
    pub async fn remove(&self, index: usize) -> Result<(), StepFailure> {
        let (pair, grace) = self.close(index, Stay::Ends).await?;
        drop(pair);
        let gone = async |side| {
            let name = self.names.mover(index, side);
            pods::no_pod(&self.cluster, &name, grace).await
        };
        tokio::try_join!(gone(Side::Source), gone(Side::Destination)).map(|_| ())
    }

    /// Ends the movers of the claim at `index` and has their pods deleted, without waiting for those
    /// to be gone when both movers say that everything is closed. The destination's pod may be to
    /// stay as it is, with nothing in it that does anything.
    ///
    /// # Errors
    /// When a pod cannot be deleted.
    pub async fn dismiss(&self, index: usize, destination: Stay) -> Result<(), StepFailure> {
        let (Some(pair), 0) = self.close(index, destination).await? else {
            return self.remove(index).await;
        };
        let delete = async |mover: &Mover| {
            let PodFacts { name, uid, .. } = &mover.pod;
            pods::delete_pod(&self.cluster, name, Some(uid), 0).await
        };
        let destination = async {
            match destination {
                Stay::Ends => delete(&pair.destination).await,
                Stay::Mounted => Ok(()),
            }
        };
        tokio::try_join!(delete(&pair.source), destination).map(|_| ())
    }

    /// Ends the movers of the claim at `index` as far as this coordinator is connected to them. How
    /// many seconds their pods need to end: none when both say that everything is closed and
    /// durable.
    async fn close(
        &self,
        index: usize,
        destination: Stay,
    ) -> Result<(Option<Connected>, u32), StepFailure> {
        let pair = match self.pairs.get(index) {
            Some(slot) => slot.lock().await.take(),
            None => None,
        };
        let closed = match &pair {
            Some(pair) => {
                let (source, destination) = tokio::join!(pair.source.client.shutdown(), async {
                    let client = &pair.destination.client;
                    match destination {
                        Stay::Ends => client.shutdown().await,
                        Stay::Mounted => client.retire().await,
                    }
                });
                for ended in [&source, &destination] {
                    // They obey another coordinator by now, and are not this one's to remove.
                    if let Err(error @ ControlError::Refused(fault)) = ended
                        && fault.code == FaultCode::StaleEpoch
                    {
                        return Err(control_failure(error, "The movers cannot be ended"));
                    }
                }
                source.is_ok() && destination.is_ok()
            }
            None => false,
        };
        Ok((pair, if closed { 0 } else { 10 }))
    }

    /// Takes the source mover of the claim at `index` off its node at once: it only reads, and
    /// stands in the workload's way.
    ///
    /// # Errors
    /// When its pod cannot be deleted.
    pub async fn yield_node(&self, index: usize) -> Result<(), StepFailure> {
        let name = self.names.mover(index, Side::Source);
        pods::no_pod(&self.cluster, &name, 0).await
    }

    /// Deletes the keys and sessions.
    ///
    /// # Errors
    /// When one of them cannot be deleted.
    pub async fn remove_secrets(&self) -> Result<(), StepFailure> {
        let secrets = self.cluster.api::<Secret>();
        let mut names = vec![self.names.keys()];
        for index in 0..self.pairs.len() {
            names.extend(
                [Side::Source, Side::Destination].map(|side| self.names.mover(index, side)),
            );
        }
        let parameters = DeleteParams::default();
        let (secrets, parameters) = (&secrets, &parameters);
        try_join_all(names.iter().map(|name| async move {
            let what = format!("delete the secret {name}");
            absent_is_fine(
                call(what, secrets.delete(name, parameters))
                    .await
                    .map(|_| ()),
            )
        }))
        .await?;
        Ok(())
    }

    /// The migration's object, as the owner of the others.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn owner(&self) -> Result<OwnerReference, StepFailure> {
        let name = self.names.journal(0);
        let api = self.cluster.api::<ConfigMap>();
        let object = call(format!("read the journal {name}"), api.get(&name)).await?;
        Ok(OwnerReference {
            api_version: "v1".to_owned(),
            kind: "ConfigMap".to_owned(),
            name,
            uid: object.metadata.uid.unwrap_or_default(),
            // `kubectl drain` evicts what a controller answers for.
            controller: Some(true),
            block_owner_deletion: Some(false),
        })
    }

    /// The labels of what is made for `role`.
    pub fn labels(&self, role: &str) -> std::collections::BTreeMap<String, String> {
        labels(&self.spec.uid.to_string(), self.spec.name.as_str(), role)
    }

    #[expect(clippy::too_many_arguments, reason = "one call, of what it is made of")]
    async fn pod(
        &self,
        index: usize,
        side: Side,
        claim: &str,
        size: u64,
        before: &PreImage,
        place: &Place,
        owner: &OwnerReference,
        keys: &Keys,
    ) -> Result<PodFacts, StepFailure> {
        let name = self.names.mover(index, side);
        let pods = self.cluster.api::<Pod>();
        if let Some(found) = call(format!("read the pod {name}"), pods.get_opt(&name)).await? {
            let facts = PodFacts::of(&found);
            let misplaced =
                side == Side::Source && place.node.is_some() && facts.node != place.node;
            let phase = found
                .status
                .as_ref()
                .and_then(|status| status.phase.as_deref());
            if facts.deleting || misplaced || matches!(phase, Some("Failed" | "Succeeded")) {
                pods::no_pod(&self.cluster, &name, 10).await?;
            }
        }
        pods::startable(&self.cluster, &name, claim).await?;
        let run_as = self.target.mover.run_as;
        let session = Session {
            // What a driver makes belongs to root, and its fsGroup opens it to the workload.
            foreign_root: run_as.is_some(),
            ..keys
                .session(self.spec.uid, side)
                .map_err(|error| StepFailure::permanent(error.to_string()))?
        };
        let secret = secret(&name, self.labels("session"), owner.clone(), &session)?;
        create::object(&self.cluster.api::<Secret>(), "secret", &secret).await?;
        let pod = MoverPod {
            name: &name,
            side,
            claim,
            size,
            node: place.node.as_deref(),
            template: &before.template,
            labels: self.labels(mover_role(side)),
            owner: owner.clone(),
            image: &self.target.mover.image,
            pull_secret: self.target.mover.pull_secret.as_deref(),
            ipv6: place.ipv6,
            run_as,
            extra: &self.target.mover.capabilities,
        };
        create::object(&pods, "pod", &pod.pod()).await?;
        pods::running(&self.cluster, &name).await
    }

    async fn greet(
        &self,
        side: Side,
        pod: &PodFacts,
        keys: &Keys,
        epoch: Epoch,
    ) -> Result<Mover, StepFailure> {
        let (client, welcome) = connect(&Who {
            cluster: &self.cluster,
            pod,
            side,
            keys,
            migration: self.spec.uid,
            epoch,
        })
        .await?;
        Ok(Mover {
            client,
            welcome,
            pod: pod.clone(),
            epoch,
        })
    }

    /// The keys of every pair; made and stored when there are none yet.
    async fn keys(&self, owner: &OwnerReference) -> Result<&Vec<Keys>, StepFailure> {
        self.keys
            .get_or_try_init(|| async {
                let name = self.names.keys();
                let bad = |_| StepFailure::permanent("The migration's keys could not be made");
                let mut data = std::collections::BTreeMap::new();
                for index in 0..self.pairs.len() {
                    let keys = Keys::generate().map_err(bad)?;
                    let bytes = keys
                        .encode()
                        .map_err(|_| StepFailure::permanent("The keys could not be encoded"))?;
                    data.insert(index.to_string(), ByteString(bytes));
                }
                let secret = Secret {
                    metadata: ObjectMeta {
                        name: Some(name.clone()),
                        labels: Some(self.labels("keys")),
                        owner_references: Some(vec![owner.clone()]),
                        ..ObjectMeta::default()
                    },
                    immutable: Some(true),
                    data: Some(data),
                    ..Secret::default()
                };
                let stored =
                    create::object(&self.cluster.api::<Secret>(), "secret", &secret).await?;
                (0..self.pairs.len())
                    .map(|index| {
                        stored
                            .data
                            .as_ref()
                            .and_then(|data| data.get(&index.to_string()))
                            .and_then(|bytes| Keys::decode(&bytes.0).ok())
                            .ok_or_else(|| {
                                StepFailure::permanent(format!("The secret {name} is damaged"))
                            })
                    })
                    .collect()
            })
            .await
    }
}

fn secret(
    name: &str,
    labels: std::collections::BTreeMap<String, String>,
    owner: OwnerReference,
    session: &Session,
) -> Result<Secret, StepFailure> {
    let bytes = serde_json::to_vec(session)
        .map_err(|_| StepFailure::permanent("A session could not be encoded"))?;
    Ok(Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        immutable: Some(true),
        data: Some([(SESSION.to_owned(), ByteString(bytes))].into()),
        ..Secret::default()
    })
}
