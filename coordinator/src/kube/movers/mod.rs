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
    connected::{Connected, PodMover},
    stranded::Stranded,
};

use std::{
    collections::BTreeMap,
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
use livmig_engine::result::StepFailure;
use livmig_proto::{
    control::{FaultCode, Session, Side},
    ids::Epoch,
};
use tokio::sync::{Mutex, OnceCell};

use self::{
    connect::{Who, connect},
    placement::MoverPlace,
};
use super::{
    api::{
        cluster::{Cluster, call},
        create::{self, absent_is_fine},
        names::mover_role,
    },
    migration::{Claim, Migration},
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
pub struct PodMovers {
    cluster: Cluster,
    migration: Arc<Migration>,
    /// Of each claim.
    keys: OnceCell<BTreeMap<String, Keys>>,
    /// Of each claim.
    pairs: BTreeMap<String, Slot>,
}

/// What is known of a claim's movers.
#[derive(Default)]
struct Slot {
    connected: Mutex<Option<Connected>>,
    /// The new volume's name.
    volume: std::sync::Mutex<Option<String>>,
}

impl PodMovers {
    /// The movers of `migration`, none of them connected yet.
    pub fn new(cluster: Cluster, migration: Arc<Migration>) -> Self {
        let claims = migration.claim_names().into_iter();
        Self {
            pairs: claims.map(|claim| (claim, Slot::default())).collect(),
            keys: OnceCell::new(),
            migration,
            cluster,
        }
    }

    /// What is known of the movers of `claim`.
    fn pair(&self, claim: &Claim) -> Result<&Slot, StepFailure> {
        self.pairs
            .get(&claim.claim)
            .ok_or_else(|| no_such_claim(&claim.claim))
    }

    /// The movers of `claim` as far as this coordinator is connected to both.
    pub async fn connected(&self, claim: &Claim, epoch: Epoch) -> Option<Connected> {
        let pair = self.pairs.get(&claim.claim)?;
        let connected = pair.connected.lock().await.clone()?;
        connected.is_usable(epoch).then_some(connected)
    }

    /// Ensures the movers of `claim`, with everything they need, at `place`, and connects to them anew.
    ///
    /// # Errors
    /// When something cannot be made, does not run, or does not answer.
    pub async fn ensure(
        &self,
        claim: &Claim,
        before: &PreImage,
        place: &MoverPlace,
        owner: &OwnerReference,
        epoch: Epoch,
    ) -> Result<Connected, StepFailure> {
        let original = before.of(claim)?;
        let mut slot = self.pair(claim)?.connected.lock().await;
        let keys = self.keys(owner).await?;
        let keys = keys
            .get(&claim.claim)
            .ok_or_else(|| no_such_claim(&claim.claim))?;
        // Where a pod runs, the workload does, on its old volume.
        if place.node.is_some()
            && let Some(stranded) = self.stranded(claim, &before.template).await?
        {
            self.note_volume(claim, None);
            self.give_up(claim, &stranded, epoch).await?;
        }
        // Before another volume is made that nothing could be copied to.
        pods::startable(&self.cluster, claim.mover(Side::Source), &claim.claim).await?;
        let staging = &claim.staging;
        let claims_api = self.cluster.api::<PersistentVolumeClaim>();
        let wanted = claim::staging(
            staging,
            self.labels("staging"),
            &original.claim,
            &claim.to_class,
        );
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
            self.pod(MoverToMake {
                claim,
                side,
                size,
                before,
                place,
                owner,
                keys,
            })
        };
        let (source, destination) = tokio::try_join!(pod(Side::Source), pod(Side::Destination))?;
        let both = tokio::try_join!(
            self.greet(Side::Source, &source, keys, epoch),
            self.greet(Side::Destination, &destination, keys, epoch),
            self.pin_staging(staging, epoch),
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
        self.note_volume(claim, Some(pair.volume.clone()));
        *slot = Some(pair.clone());
        Ok(pair)
    }

    /// Ends the movers of `claim`, and waits until their pods are gone.
    ///
    /// # Errors
    /// When a pod cannot be deleted.
    pub async fn remove(&self, claim: &Claim) -> Result<(), StepFailure> {
        let (pair, grace) = self.close(claim, Stay::Ends).await?;
        drop(pair);
        let gone = async |side| pods::no_pod(&self.cluster, claim.mover(side), grace).await;
        tokio::try_join!(gone(Side::Source), gone(Side::Destination)).map(|_| ())
    }

    /// Ends the movers of `claim` and has their pods deleted, without waiting for those
    /// to be gone when both movers say that everything is closed. The destination's pod may be to
    /// stay as it is, with nothing in it that does anything.
    ///
    /// # Errors
    /// When a pod cannot be deleted.
    pub async fn dismiss(&self, claim: &Claim, destination: Stay) -> Result<(), StepFailure> {
        let (Some(pair), 0) = self.close(claim, destination).await? else {
            return self.remove(claim).await;
        };
        let delete = async |mover: &PodMover| {
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

    /// Ends the movers of `claim` as far as this coordinator is connected to them. How
    /// many seconds their pods need to end: none when both say that everything is closed and
    /// durable.
    async fn close(
        &self,
        claim: &Claim,
        destination: Stay,
    ) -> Result<(Option<Connected>, u32), StepFailure> {
        let pair = self.pair(claim)?.connected.lock().await.take();
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

    /// Takes the source mover of `claim` off its node at once: it only reads, and
    /// stands in the workload's way.
    ///
    /// # Errors
    /// When its pod cannot be deleted.
    pub async fn yield_node(&self, claim: &Claim) -> Result<(), StepFailure> {
        pods::no_pod(&self.cluster, claim.mover(Side::Source), 0).await
    }

    /// Deletes the keys and sessions.
    ///
    /// # Errors
    /// When one of them cannot be deleted.
    pub async fn remove_secrets(&self) -> Result<(), StepFailure> {
        let secrets = self.cluster.api::<Secret>();
        let mut names = vec![self.migration.names.keys()];
        for claim in &self.migration.claims {
            names
                .extend([Side::Source, Side::Destination].map(|side| claim.mover(side).to_owned()));
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
        let name = self.migration.names.journal(0);
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
    pub fn labels(&self, role: &str) -> BTreeMap<String, String> {
        self.migration.labels(role)
    }

    async fn pod(&self, wanted: MoverToMake<'_>) -> Result<PodFacts, StepFailure> {
        let MoverToMake {
            claim,
            side,
            size,
            before,
            place,
            owner,
            keys,
        } = wanted;
        let name = claim.mover(side);
        let mounted = match side {
            Side::Source => claim.claim.as_str(),
            Side::Destination => claim.staging.as_str(),
        };
        let pods = self.cluster.api::<Pod>();
        if let Some(found) = call(format!("read the pod {name}"), pods.get_opt(name)).await? {
            let facts = PodFacts::of(&found);
            let misplaced =
                side == Side::Source && place.node.is_some() && facts.node != place.node;
            let phase = found
                .status
                .as_ref()
                .and_then(|status| status.phase.as_deref());
            if facts.deleting || misplaced || matches!(phase, Some("Failed" | "Succeeded")) {
                pods::no_pod(&self.cluster, name, 10).await?;
            }
        }
        pods::startable(&self.cluster, name, mounted).await?;
        let run_as = self.migration.target.mover.run_as;
        let session = Session {
            // What a driver makes belongs to root, and its fsGroup opens it to the workload.
            foreign_root: run_as.is_some(),
            ..keys
                .session(self.migration.spec.uid, side)
                .map_err(|error| StepFailure::permanent(error.to_string()))?
        };
        let secret = secret(name, self.labels("session"), owner.clone(), &session)?;
        create::object(&self.cluster.api::<Secret>(), "secret", &secret).await?;
        let pod = MoverPod {
            name,
            side,
            claim: mounted,
            size,
            node: place.node.as_deref(),
            template: &before.template,
            labels: self.labels(mover_role(side)),
            owner: owner.clone(),
            image: &self.migration.target.mover.image,
            pull_secret: self.migration.target.mover.pull_secret.as_deref(),
            ipv6: place.ipv6,
            run_as,
            extra: &self.migration.target.mover.capabilities,
        };
        create::object(&pods, "pod", &pod.pod()).await?;
        pods::running(&self.cluster, name).await
    }

    async fn greet(
        &self,
        side: Side,
        pod: &PodFacts,
        keys: &Keys,
        epoch: Epoch,
    ) -> Result<PodMover, StepFailure> {
        let (client, welcome) = connect(&Who {
            cluster: &self.cluster,
            pod,
            side,
            keys,
            migration: self.migration.spec.uid,
            epoch,
        })
        .await?;
        Ok(PodMover {
            client,
            welcome,
            pod: pod.clone(),
            epoch,
        })
    }

    /// The keys of every pair; made and stored when there are none yet.
    async fn keys(&self, owner: &OwnerReference) -> Result<&BTreeMap<String, Keys>, StepFailure> {
        self.keys
            .get_or_try_init(|| async {
                let name = self.migration.names.keys();
                let bad = |_| StepFailure::permanent("The migration's keys could not be made");
                let mut data = BTreeMap::new();
                for claim in &self.migration.claims {
                    let keys = Keys::generate().map_err(bad)?;
                    let bytes = keys
                        .encode()
                        .map_err(|_| StepFailure::permanent("The keys could not be encoded"))?;
                    data.insert(claim.key.clone(), ByteString(bytes));
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
                let data = stored.data.unwrap_or_default();
                let each = self.migration.claims.iter().map(|claim| {
                    let stored = data.get(&claim.key);
                    let keys = stored.and_then(|bytes| Keys::decode(&bytes.0).ok());
                    let keys = keys.ok_or_else(|| {
                        StepFailure::permanent(format!("The secret {name} is damaged"))
                    })?;
                    Ok((claim.claim.clone(), keys))
                });
                each.collect()
            })
            .await
    }
}

/// What a mover's pod is made of.
struct MoverToMake<'a> {
    claim: &'a Claim,
    side: Side,
    /// Of the new volume, in bytes.
    size: u64,
    before: &'a PreImage,
    place: &'a MoverPlace,
    owner: &'a OwnerReference,
    keys: &'a Keys,
}

fn no_such_claim(name: &str) -> StepFailure {
    StepFailure::permanent(format!("The migration moves no claim {name}"))
}

fn secret(
    name: &str,
    labels: BTreeMap<String, String>,
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
