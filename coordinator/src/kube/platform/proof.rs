//! Stopping the workload, and the proof that nothing writes until COMMIT.

use std::time::Duration;

use futures::future::try_join_all;
use livmig_engine::result::{Proof, StepFailure, StepOutcome, Verification};
use livmig_proto::ids::Epoch;

use super::{KubePlatform, downtime::Downtime};
use crate::{
    kube::{
        volumes::{fence, reclaim},
        workload::{self, pre_stop},
        writers::{
            lost_nodes,
            watch::{Consumers, NodeLocal, PodsSeen, WatchedClaims},
        },
    },
    platform::Context,
};

/// How long a node may take to unmount what a pod that has ended used, until somebody is told.
const GOING_MAX: Duration = Duration::from_mins(1);

impl KubePlatform {
    pub(super) async fn quiesce(&self, context: &Context) -> Result<StepOutcome, StepFailure> {
        let (_, stranded) = tokio::try_join!(self.take_charge(context.epoch), self.stranded())?;
        let consumers = self.consumers().await?;
        let claims = WatchedClaims::all(&self.migration);
        let seen = consumers.now();
        // While the workload still runs nothing is lost by giving up.
        self.refuse_unproven(&seen)?;
        if let Some(stranded) = stranded {
            return Err(stranded.refusal());
        }
        self.ensure_kept().await?;
        if let Some(command) = &self.migration.target.pre_stop {
            let pods = seen.consumers(&claims);
            let runs = pods.iter().filter(|pod| pod.running && !pod.deleting);
            try_join_all(runs.map(|pod| pre_stop::run(&self.cluster, &pod.name, command))).await?;
        }
        // What is proven later is proven from here on, by a later coordinator too.
        let seen = consumers.now();
        self.downtime.begin(seen.gaps);
        workload::stop(
            &self.cluster,
            &self.migration.target.workload,
            &seen.version,
            &self.mark(context.epoch),
        )
        .await?;
        let node_local = self.node_local(context.epoch).await;
        consumers
            .wait(|seen| {
                let writers = seen.possible_writers(&claims, &node_local);
                writers.is_empty().then_some(())
            })
            .await
            .ok_or_else(watch_ended)?;
        Ok(StepOutcome::Done)
    }

    /// Fails when a volume, old or new, would go with a claim that is let go on the way: it was pinned
    /// when the migration began, and that may be long ago.
    async fn ensure_kept(&self) -> Result<(), StepFailure> {
        let volumes = &self.cluster.cluster_api();
        let kept = self.migration.claims.iter().map(async |claim| {
            let new = self.movers.volume(claim);
            let both = new.into_iter().chain([claim.volume.clone()]);
            try_join_all(both.map(async |name| reclaim::ensure_kept(volumes, &name).await)).await
        });
        try_join_all(kept).await.map(|_| ())
    }

    /// The claims whose volumes are file systems of one kernel, as far as their movers are connected
    /// to this coordinator.
    async fn node_local(&self, epoch: Epoch) -> NodeLocal {
        let mut node_local = NodeLocal::default();
        for claim in &self.migration.claims {
            let Some(pair) = self.movers.connected(claim, epoch).await else {
                continue;
            };
            if let Some(node) = &pair.source.pod.node {
                let file_system = &pair.source.welcome.root.filesystem;
                node_local.note(&claim.claim, node, file_system);
            }
        }
        node_local
    }

    pub(super) async fn fence(
        &self,
        downtime: &Downtime,
        context: &Context,
    ) -> Result<StepOutcome, StepFailure> {
        let consumers = self.consumers().await?;
        let mark = self.fence_mark(context.epoch);
        let raised = self
            .migration
            .claims
            .iter()
            .map(|claim| fence::ensure(&self.cluster, &claim.claim, &claim.uid, &mark));
        let volumes: Vec<&str> = self
            .migration
            .claims
            .iter()
            .map(|claim| claim.volume.as_str())
            .collect();
        let (_, lost) = tokio::try_join!(
            try_join_all(raised),
            lost_nodes::attached_to(&self.cluster, &volumes),
        )?;
        if let Some(lost) = lost.first() {
            return Err(lost.refusal());
        }
        let node_local = self.node_local(context.epoch).await;
        let seen = self.await_the_over(consumers, &node_local).await?;
        let proof = self.prove_unwritten(downtime, &seen, &node_local)?;
        // What they wrote the final pass still finds.
        let claims = WatchedClaims::all(&self.migration);
        let users = seen.consumers(&claims).into_iter();
        let former = seen.former(&claims).into_iter().chain(users);
        downtime.note_former(former.map(|pod| pod.uid.clone()));
        Ok(StepOutcome::Fenced { proof })
    }

    /// Waits until every pod that is over is gone, unless what it wrote can be seen already.
    async fn await_the_over(
        &self,
        consumers: &Consumers,
        node_local: &NodeLocal,
    ) -> Result<PodsSeen, StepFailure> {
        let claims = WatchedClaims::all(&self.migration);
        let gone = consumers.wait(|seen| {
            let writers = seen.possible_writers(&claims, node_local);
            let going = writers.iter().any(|pod| pod.is_over());
            (!going).then(|| seen.clone())
        });
        match tokio::time::timeout(GOING_MAX, gone).await {
            Ok(seen) => seen.ok_or_else(watch_ended),
            Err(_) => Err(StepFailure::transient(format!(
                "A pod of the workload has ended and is not gone after {} s",
                GOING_MAX.as_secs()
            ))
            .with_hint(format!(
                "kubectl -n {} describe pods",
                self.cluster.namespace()
            ))),
        }
    }

    /// That nothing writes to the claims and nothing has used them since the workload was asked to
    /// stop but its own pods, as far as the watch of the pods tells.
    fn prove_unwritten(
        &self,
        downtime: &Downtime,
        seen: &PodsSeen,
        node_local: &NodeLocal,
    ) -> Result<Proof, StepFailure> {
        let claims = WatchedClaims::all(&self.migration);
        if downtime.gaps() != seen.gaps {
            return Err(StepFailure::permanent(
                "Whether every pod of the workload has ended cannot be told: the API server no \
                 longer knows which pods came and went since the workload was asked to stop",
            )
            .with_hint("nothing is wrong with the data; migrate again"));
        }
        self.refuse_unproven(seen)?;
        let writers = seen.possible_writers(&claims, node_local);
        if let Some(pod) = writers.first() {
            return Err(used(&pod.name));
        }
        let over = seen.consumers(&claims).len();
        Ok(Proof {
            evidence: format!(
                "{} claims are being deleted and held by the fence; the watch of the pods of {} has \
                 no gap, saw {} pods that used them end with all their containers, and none since",
                claims.names.len(),
                self.migration.target.namespace,
                seen.gone
                    .values()
                    .filter(|pod| claims.are_used_by(pod))
                    .count()
                    + over,
            ),
        })
    }

    /// The same, and that nothing has used them since the fence was proven: a pod that has come and
    /// gone behind it may have written what neither the final pass nor the comparison has read.
    fn prove_undisturbed(
        &self,
        downtime: &Downtime,
        seen: &PodsSeen,
        node_local: &NodeLocal,
    ) -> Result<Proof, StepFailure> {
        let claims = WatchedClaims::all(&self.migration);
        let known = downtime.former();
        let former = seen.former(&claims);
        if let Some(pod) = former.iter().find(|pod| !known.contains(&pod.uid)) {
            return Err(used(&pod.name));
        }
        self.prove_unwritten(downtime, seen, node_local)
    }

    /// Waits until nothing but the fence holds the claims, and the watch of the pods has come as
    /// far. Fails as soon as a pod uses one that is not over: it could hold the claim for ever.
    async fn await_sole_holders(
        &self,
        consumers: &Consumers,
        node_local: &NodeLocal,
    ) -> Result<(), StepFailure> {
        let claims = WatchedClaims::all(&self.migration);
        let alone = claims
            .names
            .iter()
            .map(|claim| fence::await_sole_holder(&self.cluster, claim));
        let user = consumers.wait(|seen| {
            let users = seen.possible_writers(&claims, node_local);
            users.first().map(|pod| pod.name.clone())
        });
        tokio::select! {
            alone = try_join_all(alone) => alone.map(|_| ())?,
            Some(pod) = user => return Err(used(&pod)),
        }
        // Whoever used them before the movers went is seen by then.
        consumers
            .wait(|seen| {
                let users = seen.possible_writers(&claims, node_local);
                let gone =
                    seen.own_are_gone(&claims) && seen.consumers(&claims).len() == users.len();
                gone.then_some(())
            })
            .await
            .ok_or_else(watch_ended)
    }

    /// Fails when a pod was deleted by force: what it writes from now on, no copy would hold.
    /// Kubernetes starts another one in its place all the same, so going back is always allowed.
    fn refuse_unproven(&self, seen: &PodsSeen) -> Result<(), StepFailure> {
        let claims = WatchedClaims::all(&self.migration);
        let Some(pod) = seen.went_unproven(&claims).into_iter().next() else {
            return Ok(());
        };
        let node = pod.node.as_deref().unwrap_or("?");
        Err(StepFailure::permanent(format!(
            "The pod {} was deleted by force: its containers may still run and write on node {node}",
            pod.name
        ))
        .with_hint(format!(
            "make sure that nothing of the pod runs on {node} any more (or that the node is off); \
             then migrate again"
        )))
    }

    pub(super) async fn verify(
        &self,
        downtime: &Downtime,
        context: &Context,
    ) -> Result<StepOutcome, StepFailure> {
        let pairs = self.pairs(context).await?;
        let options = &self.migration.spec.options;
        let last = downtime.final_pass();
        let compared = pairs
            .iter()
            .zip(&self.migration.claims)
            .map(async |(pair, claim)| {
                let ends = pair.ends();
                ends.compare(claim.name(), options, &last, context).await
            });
        let stay = self.migration.claims.iter();
        let stay = stay.map(|claim| self.movers.stay(claim));
        let (compared, stay) = tokio::try_join!(try_join_all(compared), try_join_all(stay))?;
        let consumers = self.consumers().await?;
        let node_local = self.node_local(context.epoch).await;
        let mut proof = self.prove_undisturbed(downtime, &consumers.now(), &node_local)?;
        if compared.iter().all(Verification::equal) {
            // Kubernetes' own proof comes last: with the movers gone, only the fence holds a claim.
            self.dismiss_movers(&stay).await?;
            // The swap will need its name for nothing, and its going takes a while. Without the
            // movers it is of no use to whoever goes back either: the volume is kept.
            let staging = self.migration.claims.iter();
            let staging = staging.map(|claim| self.movers.release_staging(claim));
            let alone = self.await_sole_holders(consumers, &node_local);
            tokio::try_join!(alone, try_join_all(staging))?;
            // Nothing counts as over any more: all of it is gone.
            proof = self.prove_undisturbed(downtime, &consumers.now(), &NodeLocal::default())?;
            proof
                .evidence
                .push_str("; no finalizer but the fence is left on any of them");
        }
        Ok(StepOutcome::Verified {
            volumes: compared,
            proof,
        })
    }
}

fn watch_ended() -> StepFailure {
    StepFailure::transient("The watch of the pods has ended")
}

/// Somebody else's pod in the way.
fn used(pod: &str) -> StepFailure {
    StepFailure::permanent(format!(
        "The pod {pod} uses a claim of the migration although the workload was stopped"
    ))
    .with_hint("find out what started it; then migrate again")
}

#[cfg(test)]
mod tests {
    use livmig_engine::{result::FailureKind, step::Step};
    use serde_json::json;

    use super::{
        super::fixture::{begun, context, platform, theirs},
        *,
    };
    use crate::{
        kube::testing::objects::{self, with},
        platform::Platform as _,
    };

    #[tokio::test]
    async fn a_claim_that_was_made_anew_in_the_downtime_is_not_fenced() {
        let server = begun().await;
        let platform = platform(&server).await;
        platform.take_charge(Epoch(1)).await.unwrap();
        // As the stop does it.
        platform.downtime.begin(0);
        let anew = json!({"metadata": {"uid": "another"}});
        server.store(&with(&objects::claim("data-app-0", "pv-a"), anew));
        let before = theirs(&server);
        let fenced = platform.perform(Step::Fence, &context()).await;
        let failure = fenced.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Permanent, "{failure}");
        let words = "claim data-app-0 is not the one the migration was planned for";
        assert!(failure.message.contains(words), "{failure}");
        assert_eq!(theirs(&server), before);
    }
}
