//! Binding a claim's name to one of two volumes, from whatever state is found.

mod decide;

pub use self::decide::{Direction, Goal, Move, Observed, Watched, decide};
use self::decide::{of_claim, of_volume};

use std::time::Duration;

use ::kube::api::{DeleteParams, PostParams, Preconditions};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use livmig_engine::result::StepFailure;
use livmig_proto::ids::Epoch;
use serde_json::json;

use super::fence;
use crate::kube::{
    api::{
        amend::patch,
        cluster::{Cluster, ClusterError, call},
        mark::{Mark, refuse_if_foreign, refuse_if_stale},
        names::FIELD_MANAGER,
        watch::{PAUSE, await_telling_change},
    },
    objects::claim::{ClaimClass, rebound},
};

/// How long nothing may change while something is waited for.
const STANDSTILL_MAX: Duration = Duration::from_mins(1);

/// Moves after which something is wrong: each of the eight is needed once or twice.
const MOVES_MAX: usize = 200;

/// One claim's name and the two volumes it can lead to.
#[derive(Clone)]
pub struct Rebind<'a> {
    /// Where.
    pub cluster: &'a Cluster,
    /// The claim as it was before the migration.
    pub original: &'a PersistentVolumeClaim,
    /// The staging claim's name.
    pub staging: &'a str,
    /// The volume that is wanted, by name.
    pub wanted: &'a str,
    /// The other one, by name; none when it was never made.
    pub other: Option<&'a str>,
    /// Whether it is the migration's way, or the way back.
    pub direction: Direction,
    /// How the claim tells its class.
    pub class: ClaimClass,
    /// Who asks.
    pub epoch: Epoch,
    /// What a claim that has to be fenced on the way is annotated with.
    pub mark: &'a Mark,
}

impl Rebind<'_> {
    /// Does what is left to do until the claim is bound to the wanted volume.
    ///
    /// # Errors
    /// When somebody else's doing stands in the way, nothing happens any more, or the API server
    /// cannot be asked.
    pub async fn run(&self) -> Result<(), StepFailure> {
        let claim = self.original.metadata.name.clone().unwrap_or_default();
        let goal = Goal {
            namespace: self.cluster.namespace(),
            claim: &claim,
            staging: self.staging,
            other: self.other.unwrap_or_default(),
            direction: self.direction,
        };
        let mut known = None;
        let mut over_quota = None;
        for _ in 0..MOVES_MAX {
            let mut state = match known.take() {
                Some(state) => state,
                None => match Box::pin(self.look(&claim)).await? {
                    Some(state) => state,
                    None => return Err(self.lost(&claim)),
                },
            };
            let next = decide(goal, state.observed());
            tracing::debug!(%claim, wanted = self.wanted, ?next, "rebind");
            match Box::pin(self.perform(&claim, &mut state, next)).await {
                Ok(Then::Done) => return Ok(()),
                Ok(Then::GoOn) => known = Some(state),
                Ok(Then::Look) => {}
                // The fenced claim and the staging one are going, or only just gone.
                Err(Obstacle::Cluster(error)) if error.is_over_quota() => {
                    over_quota = Some(error);
                    tokio::time::sleep(PAUSE).await;
                }
                // Somebody was faster: look again.
                Err(Obstacle::Cluster(error)) if error.is_conflict() || error.is_not_found() => {}
                Err(Obstacle::Cluster(error)) => return Err(error.into()),
                Err(Obstacle::Failure(failure)) => return Err(failure),
            }
        }
        if let Some(error) = over_quota {
            return Err(error.into());
        }
        Err(StepFailure::transient(format!(
            "The claim {claim} could not be bound to {}: others keep changing it",
            self.wanted
        )))
    }

    /// The volume that is wanted is not there any more.
    fn lost(&self, claim: &str) -> StepFailure {
        let volume = self.wanted;
        match self.direction {
            Direction::Forward => StepFailure::permanent(format!(
                "The new volume {volume} of the claim {claim} is gone: somebody has deleted it"
            ))
            .with_hint("the data is on the old volume as it was; migrate again"),
            Direction::Back => StepFailure::undecided(format!(
                "The old volume {volume} of the claim {claim} is gone: somebody has deleted it"
            ))
            .with_hint(format!(
                "its reclaim policy was Retain, so what it held may still be in the storage; \
                 create a PersistentVolume {volume} for it from the ConfigMap whose name ends in \
                 -before, then resume"
            )),
        }
    }

    /// A volume would be lost on the way.
    fn unkept(&self, claim: &str, why: &str) -> StepFailure {
        let volume = self.wanted;
        let what = format!("The claim {claim} cannot be bound to {volume}: {why}");
        match self.direction {
            Direction::Forward => StepFailure::permanent(what).with_hint(
                "the data is on the old volume as it was; find out what changes the volumes, then \
                 migrate again",
            ),
            Direction::Back => StepFailure::undecided(what).with_hint(format!(
                "keep its storage: kubectl patch pv {volume} --type=merge -p \
                 '{{\"spec\":{{\"persistentVolumeReclaimPolicy\":\"Retain\"}}}}'; make sure that it is \
                 still there; if {volume} is being deleted, let it go, without its finalizers, and \
                 create it anew from the ConfigMap whose name ends in -before; then resume"
            )),
        }
    }

    /// What is there now; none when the volume that is wanted is not.
    async fn look(&self, claim: &str) -> Result<Option<Box<ReadObjects>>, ClusterError> {
        let claims = self.cluster.api::<PersistentVolumeClaim>();
        let volumes = self.cluster.cluster_api::<PersistentVolume>();
        let read = |name: &str| format!("read the volume {name}");
        let (claim, staging, wanted, other) = tokio::try_join!(
            call(format!("read the claim {claim}"), claims.get_opt(claim)),
            call(
                format!("read the claim {}", self.staging),
                claims.get_opt(self.staging)
            ),
            call(read(self.wanted), volumes.get_opt(self.wanted)),
            async {
                match self.other {
                    Some(other) => call(read(other), volumes.get_opt(other)).await,
                    None => Ok(None),
                }
            },
        )?;
        Ok(wanted.map(|wanted| {
            Box::new(ReadObjects {
                claim,
                staging,
                wanted,
                other,
            })
        }))
    }

    /// Makes one move, and notes in `state` what the server says it has become of the object: each
    /// move is made on that object as it was read, and fails when somebody else has changed it.
    async fn perform(
        &self,
        claim: &str,
        state: &mut ReadObjects,
        next: Move,
    ) -> Result<Then, Obstacle> {
        let claims = self.cluster.api::<PersistentVolumeClaim>();
        let volumes = self.cluster.cluster_api::<PersistentVolume>();
        for object in std::iter::once(&state.wanted).chain(&state.other) {
            let name = object.metadata.name.as_deref().unwrap_or_default();
            refuse_if_stale(object, "volume", name, self.epoch)?;
            refuse_if_foreign(object, "volume", name, &self.mark.uid)?;
        }
        if let Some(object) = &state.claim {
            refuse_if_stale(object, "claim", claim, self.epoch)?;
            refuse_if_foreign(object, "claim", claim, &self.mark.uid)?;
        }
        match next {
            Move::Done => return Ok(Then::Done),
            Move::Blocked(why) => {
                return Err(StepFailure::undecided(format!(
                    "The claim {claim} cannot be bound to {}: {why}",
                    self.wanted
                ))
                .with_hint(format!(
                    "look at it: kubectl -n {} describe pvc {claim}",
                    self.cluster.namespace()
                ))
                .into());
            }
            Move::Unkept(why) => return Err(self.unkept(claim, &why).into()),
            Move::Wait(watched) => return self.wait(claim, state, watched).await,
            Move::DeleteStaging => {
                if let Some(staging) = &state.staging {
                    state.staging = delete(&claims, self.staging, staging).await?;
                }
            }
            Move::Reserve => {
                let change = reference(self.cluster.namespace(), claim);
                state.wanted =
                    patch(&volumes, "volume", self.wanted, &state.wanted, change).await?;
            }
            Move::Park => {
                if let (Some(name), Some(other)) = (self.other, &state.other) {
                    let change = reference(self.cluster.namespace(), self.staging);
                    state.other = Some(patch(&volumes, "volume", name, other, change).await?);
                }
            }
            Move::Fence => {
                if let Some(object) = &state.claim {
                    fence::raise(self.cluster, claim, object, self.mark).await?;
                }
                return Ok(Then::Look);
            }
            Move::Lift => {
                if let Some(object) = &state.claim {
                    let change = fence::lifted(object);
                    let lifted = patch(&claims, "claim", claim, object, change).await?;
                    state.claim = still_there(lifted);
                }
            }
            Move::Create => {
                let object = rebound(self.original, &state.wanted, self.class);
                let parameters = PostParams {
                    field_manager: Some(FIELD_MANAGER.to_owned()),
                    ..PostParams::default()
                };
                let what = format!("create the claim {claim}");
                state.claim = Some(call(what, claims.create(&parameters, &object)).await?);
            }
        }
        Ok(Then::GoOn)
    }

    async fn wait(
        &self,
        claim: &str,
        state: &mut ReadObjects,
        watched: Watched,
    ) -> Result<Then, Obstacle> {
        let claims = self.cluster.api::<PersistentVolumeClaim>();
        let volumes = self.cluster.cluster_api::<PersistentVolume>();
        let change = async {
            match watched {
                Watched::Claim => {
                    let read = state.claim.as_ref();
                    let change = await_telling_change(&claims, "claim", claim, read, of_claim);
                    state.claim = change.await?;
                    // Whether it is bound, both say together.
                    let what = format!("read the volume {}", self.wanted);
                    let volume = call(what, volumes.get_opt(self.wanted)).await?;
                    Ok(volume.map(|wanted| state.wanted = wanted))
                }
                Watched::Wanted => {
                    let (name, read) = (self.wanted, Some(&state.wanted));
                    let change = await_telling_change(&volumes, "volume", name, read, of_volume);
                    Ok(change.await?.map(|wanted| state.wanted = wanted))
                }
            }
        };
        match tokio::time::timeout(STANDSTILL_MAX, change).await {
            Ok(Ok(Some(()))) => Ok(Then::GoOn),
            Ok(Ok(None)) => Ok(Then::Look),
            Ok(Err(error)) => Err(Obstacle::Cluster(error)),
            Err(_) => Err(StepFailure::transient(format!(
                "The claim {claim} is on its way to the volume {} and nothing has happened for {} s",
                self.wanted,
                STANDSTILL_MAX.as_secs()
            ))
            .with_hint(format!(
                "is the controller manager running? kubectl -n {} describe pvc {claim}",
                self.cluster.namespace()
            ))
            .into()),
        }
    }
}

/// What to do after a move.
enum Then {
    /// Nothing is left to do.
    Done,
    /// Decide on what is known.
    GoOn,
    /// Look again first.
    Look,
}

/// What was read.
struct ReadObjects {
    claim: Option<PersistentVolumeClaim>,
    staging: Option<PersistentVolumeClaim>,
    wanted: PersistentVolume,
    other: Option<PersistentVolume>,
}

impl ReadObjects {
    fn observed(&self) -> Observed<'_> {
        Observed {
            claim: self.claim.as_ref(),
            staging: self.staging.as_ref(),
            wanted: &self.wanted,
            other: self.other.as_ref(),
        }
    }
}

/// Why a move was not made.
enum Obstacle {
    Cluster(ClusterError),
    Failure(StepFailure),
}

impl From<ClusterError> for Obstacle {
    fn from(error: ClusterError) -> Self {
        Self::Cluster(error)
    }
}

impl From<StepFailure> for Obstacle {
    fn from(failure: StepFailure) -> Self {
        Self::Failure(failure)
    }
}

/// The change that reserves a volume for a name, whoever makes the claim.
fn reference(namespace: &str, claim: &str) -> serde_json::Value {
    json!({
        "metadata": {"annotations": {"pv.kubernetes.io/bound-by-controller": null}},
        "spec": {"claimRef": {
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "namespace": namespace, "name": claim,
            "uid": null, "resourceVersion": null,
        }},
    })
}

/// Deletes exactly the claim that was read; what is left of it until nothing holds it any more.
async fn delete(
    claims: &::kube::Api<PersistentVolumeClaim>,
    name: &str,
    read: &PersistentVolumeClaim,
) -> Result<Option<PersistentVolumeClaim>, ClusterError> {
    let parameters = DeleteParams {
        preconditions: Some(Preconditions {
            uid: read.metadata.uid.clone(),
            resource_version: read.metadata.resource_version.clone(),
        }),
        ..DeleteParams::default()
    };
    let deleted = call(
        format!("delete the claim {name}"),
        claims.delete(name, &parameters),
    )
    .await?;
    Ok(deleted.left().filter(is_held))
}

/// The claim that a change has left behind; none when it was deleted before and nothing holds it any
/// more.
fn still_there(claim: PersistentVolumeClaim) -> Option<PersistentVolumeClaim> {
    let dying = claim.metadata.deletion_timestamp.is_some();
    (!dying || is_held(&claim)).then_some(claim)
}

fn is_held(claim: &PersistentVolumeClaim) -> bool {
    let holders = claim.metadata.finalizers.as_ref();
    holders.is_some_and(|holders| !holders.is_empty())
}
