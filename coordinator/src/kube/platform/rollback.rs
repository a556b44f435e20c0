//! The way back: binding the claims' names to their old volumes, unless what runs or ran on a new
//! one has written what the old one lacks.

use std::{collections::BTreeSet, time::Duration};

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use livmig_engine::result::{StepFailure, StepOutcome};
use livmig_proto::ids::Epoch;

use super::KubePlatform;
use crate::{
    kube::{
        api::cluster::call,
        objects::claim::is_fenced,
        volumes::{fence, rebind::Direction},
        workload,
        writers::watch::{Consumers, PodsSeen, WatchedClaims},
    },
    platform::Context,
};

/// How long what uses a claim that is being deleted may take to end until somebody is told.
const FREE_MAX: Duration = Duration::from_mins(1);

impl KubePlatform {
    /// Binds every claim's name to its old volume, wherever a swap or a fence was left.
    pub(super) async fn rebind_back(&self, context: &Context) -> Result<StepOutcome, StepFailure> {
        let is_current = self.take_charge_to_go_back(context.epoch).await?;
        let consumers = self.consumers().await?;
        let claims = self.claims_as_they_are().await?;
        let moved: Vec<&There> = claims.iter().filter(|there| there.is_moved()).collect();
        if moved.is_empty() {
            self.free_dying(&claims, is_current, context.epoch).await?;
        } else {
            // Whoever runs on a new volume is not stopped by a way back.
            self.close(consumers, &moved, context.epoch).await?;
        }
        // What holds a claim keeps its name from being freed.
        self.yield_sources().await?;
        self.rebind_all(Direction::Back, context).await?;
        Ok(StepOutcome::Done)
    }

    /// The claims that are there.
    async fn claims_as_they_are(&self) -> Result<Vec<There>, StepFailure> {
        let api = &self.cluster.api::<PersistentVolumeClaim>();
        let claims = self.migration.claims.iter().map(async |target| {
            let what = format!("read the claim {}", target.claim);
            let (found, new) = tokio::try_join!(
                async { Ok(call(what, api.get_opt(&target.claim)).await?) },
                self.new_volume(target)
            )?;
            Ok::<_, StepFailure>(found.map(|claim| There {
                name: target.claim.clone(),
                old: target.volume.clone(),
                new,
                claim,
            }))
        });
        Ok(try_join_all(claims).await?.into_iter().flatten().collect())
    }

    /// Sees to it that nothing has used the claims that lead to other volumes than the old ones, and
    /// that nothing can use the new ones any more: what was written there, the old ones lack.
    async fn close(
        &self,
        consumers: &Consumers,
        moved: &[&There],
        epoch: Epoch,
    ) -> Result<(), StepFailure> {
        let names = moved.iter().map(|there| there.name.clone()).collect();
        let claims = WatchedClaims::only(names, &self.migration);
        let before = consumers.now();
        // Those that the workload had before it was stopped wrote to the old volumes.
        let downtime = self.downtime.get();
        let mut known = before.first.clone();
        known.extend(downtime.iter().flat_map(|downtime| downtime.former()));
        let missed = downtime.map(|downtime| downtime.gaps()) != Some(before.gaps);
        refuse_started(&claims, &before, missed, &known)?;

        let mark = &self.fence_mark(epoch);
        let fenced = moved.iter().filter(|there| there.can_be_fenced());
        let fenced = fenced.map(async |there| {
            fence::close(&self.cluster, &there.name, there.volume(), mark).await?;
            fence::await_sole_holder(&self.cluster, &there.name).await
        });
        tokio::time::timeout(FREE_MAX, try_join_all(fenced))
            .await
            .map_err(|_| {
                StepFailure::transient(format!(
                    "The claim {} is being deleted, and something still uses it",
                    claims.names.join(" or ")
                ))
                .with_hint(format!(
                    "find what uses it: kubectl -n {} describe pvc",
                    self.cluster.namespace()
                ))
            })??;

        // The fence lets nobody in; until it was up, somebody may have come and gone.
        let since = Consumers::take_up(self.cluster.api(), Some(&before.version)).await?;
        let since = since.now();
        refuse_started(&claims, &since, since.gaps > 0, &known)
    }

    /// Sees to it that nothing uses a claim that is being deleted: it cannot be given back before.
    /// Somebody may have started the workload while the fence went up. It runs, on its old volume,
    /// and has to stop once more; those who started it get it back.
    async fn free_dying(
        &self,
        claims: &[There],
        is_current: bool,
        epoch: Epoch,
    ) -> Result<(), StepFailure> {
        let dying = claims.iter().filter(|there| there.is_dying());
        let dying = dying.map(|there| there.name.clone()).collect();
        let dying = WatchedClaims::only(dying, &self.migration);
        let consumers = self.consumers().await?;
        let user = |seen: &PodsSeen| {
            let users = seen.consumers(&dying);
            let on_node = users.into_iter().find(|pod| pod.node.is_some());
            on_node.map(|pod| pod.name.clone())
        };
        if user(&consumers.now()).is_none() {
            return Ok(());
        }
        // Another workload of the name is not ours to stop.
        if is_current {
            let version = consumers.now().version;
            let mark = self.mark(epoch);
            workload::stop(
                &self.cluster,
                &self.migration.target.workload,
                &version,
                &mark,
            )
            .await?;
        }
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
}

/// Fails when a pod that is not `known` has used one of the `claims`, or when that cannot be
/// told because something was `missed`.
fn refuse_started(
    claims: &WatchedClaims,
    seen: &PodsSeen,
    missed: bool,
    known: &BTreeSet<String>,
) -> Result<(), StepFailure> {
    let named = claims.names.join(" or ");
    let what = match seen.stranger(claims, known) {
        Some(pod) => format!(
            "The pod {} runs or ran on the new volume of {named}: what it has written there, \
             the old one lacks",
            pod.name
        ),
        None if missed => format!(
            "Whether something has run on the new volume of {named} cannot be told: the API \
             server no longer knows which pods came and went"
        ),
        None => return Ok(()),
    };
    Err(StepFailure::undecided(what)
        .with_hint("decide which volume holds what counts; resume goes forward"))
}

/// A claim of the workload that is there.
struct There {
    name: String,
    /// The volumes that its name may lead to.
    old: String,
    new: Option<String>,
    claim: PersistentVolumeClaim,
}

impl There {
    /// The volume that it leads to; empty for none.
    fn volume(&self) -> &str {
        let spec = self.claim.spec.as_ref();
        spec.and_then(|spec| spec.volume_name.as_deref())
            .unwrap_or_default()
    }

    /// Whether it leads to another volume than the old one.
    fn is_moved(&self) -> bool {
        !self.volume().is_empty() && self.volume() != self.old
    }

    fn is_dying(&self) -> bool {
        self.claim.metadata.deletion_timestamp.is_some()
    }

    /// Whether it leads to the new volume and a fence can be raised on it: none can on what somebody
    /// else has deleted, and what leads elsewhere is not the migration's to delete.
    fn can_be_fenced(&self) -> bool {
        let is_new = self.new.as_deref() == Some(self.volume());
        is_new && (!self.is_dying() || is_fenced(&self.claim))
    }
}
