//! Binding the claims' names, forward and back.

use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use livmig_engine::result::{StepFailure, StepOutcome};
use livmig_proto::ids::Epoch;

use super::KubePlatform;
use crate::{
    kube::{
        claims::ClaimClass,
        cluster::call,
        consumers::Seen,
        rebind::{Direction, Rebind},
        settle, workload,
    },
    platform::Context,
};

/// How long what uses a claim that is being deleted may take to end until somebody is told.
const FREE_MAX: Duration = Duration::from_mins(1);

impl KubePlatform {
    /// Binds every claim's name to its new volume.
    pub(super) async fn swap(&self, context: &Context) -> Result<StepOutcome, StepFailure> {
        self.take_charge(context.epoch).await?;
        self.rebind_all(Direction::Forward, context).await?;
        Ok(StepOutcome::Done)
    }

    /// Binds every claim's name to its old volume, wherever a swap or a fence was left.
    pub(super) async fn rebind_back(&self, context: &Context) -> Result<StepOutcome, StepFailure> {
        self.take_charge(context.epoch).await?;
        self.refuse_started().await?;
        self.free_dying(context.epoch).await?;
        // What holds a claim keeps its name from being freed.
        self.yield_sources().await?;
        self.rebind_all(Direction::Back, context).await?;
        Ok(StepOutcome::Done)
    }

    /// Fails when something runs on a claim that is bound to its new volume: what it writes there
    /// the old one lacks.
    async fn refuse_started(&self) -> Result<(), StepFailure> {
        let consumers = self.consumers().await?;
        let api = self.cluster.api::<PersistentVolumeClaim>();
        for (index, claim) in self.target.claims.iter().enumerate() {
            let what = format!("read the claim {}", claim.claim);
            let Some(found) = call(what, api.get_opt(&claim.claim)).await? else {
                continue;
            };
            let bound = found
                .spec
                .as_ref()
                .and_then(|spec| spec.volume_name.as_deref());
            if bound == Some(claim.volume.as_str()) || bound.is_none_or(str::is_empty) {
                continue;
            }
            let uid = self.spec.uid.to_string();
            let seen = consumers.now();
            let users = seen.consumers(std::slice::from_ref(&claim.claim), &uid);
            if let Some(pod) = users.iter().find(|pod| pod.node.is_some()) {
                return Err(StepFailure::undecided(format!(
                    "The pod {} already runs on the new volume of {} (volume {index}): what it has \
                     written there, the old one lacks",
                    pod.name, claim.claim
                ))
                .with_hint("decide which volume holds what counts; resume goes forward"));
            }
        }
        Ok(())
    }

    /// How the claims tell their class once they are bound to their new volumes.
    pub(super) fn class_after_the_swap(&self) -> ClaimClass {
        if self.target.keep_claim_spec {
            ClaimClass::Kept
        } else {
            ClaimClass::OfVolume
        }
    }

    /// Sees to it that nothing uses a claim that is being deleted: it cannot be given back before.
    /// Somebody may have started the workload while the fence went up. It runs, on its old volume,
    /// and has to stop once more; those who started it get it back.
    async fn free_dying(&self, epoch: Epoch) -> Result<(), StepFailure> {
        let api = self.cluster.api::<PersistentVolumeClaim>();
        let mut dying = Vec::new();
        for claim in &self.target.claims {
            let what = format!("read the claim {}", claim.claim);
            let Some(found) = call(what, api.get_opt(&claim.claim)).await? else {
                continue;
            };
            let bound = found.spec.and_then(|spec| spec.volume_name);
            if bound.is_some_and(|volume| volume != claim.volume) {
                // Whoever runs on a new volume is not stopped by a way back.
                return Ok(());
            }
            if found.metadata.deletion_timestamp.is_some() {
                dying.push(claim.claim.clone());
            }
        }
        let consumers = self.consumers().await?;
        let uid = self.spec.uid.to_string();
        let user = |seen: &Seen| {
            let users = seen.consumers(&dying, &uid);
            let on_node = users.into_iter().find(|pod| pod.node.is_some());
            on_node.map(|pod| pod.name.clone())
        };
        if user(&consumers.now()).is_none() {
            return Ok(());
        }
        let version = consumers.now().version;
        let mark = self.mark(epoch);
        workload::stop(&self.cluster, &self.target.workload, &version, &mark).await?;
        let free = consumers.wait(|seen| user(seen).is_none().then_some(()));
        if tokio::time::timeout(FREE_MAX, free).await.is_ok() {
            return Ok(());
        }
        let pod = user(&consumers.now()).unwrap_or_default();
        Err(StepFailure::transient(format!(
            "The pod {pod} still uses a claim that is being deleted, which can be given back only \
             when nothing uses it"
        ))
        .with_hint(format!(
            "stop it: kubectl -n {} delete pod {pod}",
            self.cluster.namespace()
        )))
    }

    async fn rebind_all(&self, direction: Direction, context: &Context) -> Result<(), StepFailure> {
        let (before, _) = self.before().await?;
        let mark = self.fence_mark(context.epoch);
        let mark = &mark;
        let all = self
            .target
            .claims
            .iter()
            .zip(&before.claims)
            .enumerate()
            .map(async |(index, (claim, original))| {
                let staging = self.names.staging(index);
                let new = match self.movers.volume(index) {
                    Some(volume) => Some(volume),
                    None => settle::new_volume(&self.cluster, &self.spec, index, claim).await?,
                };
                let old = claim.volume.as_str();
                let (wanted, other) = match (direction, new.as_deref()) {
                    (Direction::Forward, Some(new)) => (new, Some(old)),
                    (Direction::Forward, None) => {
                        return Err(StepFailure::permanent(format!(
                            "The new volume of the claim {} is gone: somebody has deleted it",
                            claim.claim
                        ))
                        .with_hint("the data is on the old volume as it was; migrate again"));
                    }
                    // Also when there is no new one: a fence may be up all the same.
                    (Direction::Back, new) => (old, new),
                };
                Rebind {
                    cluster: &self.cluster,
                    original,
                    staging: &staging,
                    wanted,
                    other,
                    direction,
                    class: match direction {
                        Direction::Forward => self.class_after_the_swap(),
                        Direction::Back => ClaimClass::OfVolume,
                    },
                    epoch: context.epoch,
                    mark,
                }
                .run()
                .await
            });
        join_all(all)
            .await
            .into_iter()
            .collect::<Result<Vec<()>, StepFailure>>()
            .map(|_| ())
    }
}
