//! Stopping the workload, and the proof that nothing writes until COMMIT.

use std::sync::{PoisonError, atomic::Ordering};

use futures::future::try_join_all;
use livmig_engine::result::{Proof, StepFailure, StepOutcome, Verification};

use super::KubePlatform;
use crate::{
    failure::control as control_failure,
    kube::{
        consumers::{Consumers, Seen},
        exec, fence, lost_nodes, workload,
    },
    platform::Context,
};

impl KubePlatform {
    pub(super) async fn quiesce(&self, context: &Context) -> Result<StepOutcome, StepFailure> {
        let (_, stranded) = tokio::try_join!(self.take_charge(context.epoch), self.stranded())?;
        let consumers = self.consumers().await?;
        let (claims, uid) = (self.claims(), self.spec.uid.to_string());
        let seen = consumers.now();
        // While the workload still runs nothing is lost by giving up.
        self.refuse_unproven(&seen)?;
        if let Some(stranded) = stranded {
            return Err(stranded.refusal());
        }
        if let Some(command) = &self.target.pre_stop {
            let pods = seen.consumers(&claims, &uid);
            let runs = pods.iter().filter(|pod| pod.running && !pod.deleting);
            try_join_all(runs.map(|pod| exec::run(&self.cluster, &pod.name, command))).await?;
        }
        self.stopping.store(true, Ordering::SeqCst);
        // What is proven later is proven from here on, by a later coordinator too.
        let seen = consumers.now();
        let _ = self.gaps.set(seen.gaps);
        workload::stop(
            &self.cluster,
            &self.target.workload,
            &seen.version,
            context.epoch,
        )
        .await?;
        consumers
            .wait(|seen| seen.consumers(&claims, &uid).is_empty().then_some(()))
            .await
            .ok_or_else(|| StepFailure::transient("The watch of the pods has ended"))?;
        Ok(StepOutcome::Done)
    }

    pub(super) async fn fence(&self, context: &Context) -> Result<StepOutcome, StepFailure> {
        self.take_charge(context.epoch).await?;
        self.stopping.store(true, Ordering::SeqCst);
        let consumers = self.consumers().await?;
        let mark = self.fence_mark(context.epoch);
        let raised = self
            .target
            .claims
            .iter()
            .map(|claim| fence::ensure(&self.cluster, &claim.claim, &claim.claim_uid, &mark));
        let volumes: Vec<&str> = self
            .target
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
        let seen = consumers.now();
        let proof = self.prove_unused(&seen)?;
        // What they wrote the final pass still finds.
        let (claims, uid) = (self.claims(), self.spec.uid.to_string());
        let former = seen.former(&claims, &uid);
        *self.former.lock().unwrap_or_else(PoisonError::into_inner) =
            former.into_iter().map(|pod| pod.uid.clone()).collect();
        Ok(StepOutcome::Fenced { proof })
    }

    /// That nothing uses the claims and nothing did since the workload was asked to stop, as far
    /// as the watch of the pods tells.
    fn prove_unused(&self, seen: &Seen) -> Result<Proof, StepFailure> {
        let (claims, uid) = (self.claims(), self.spec.uid.to_string());
        if self.gaps.get() != Some(&seen.gaps) {
            return Err(StepFailure::permanent(
                "Whether every pod of the workload has ended cannot be told: the API server no \
                 longer knows which pods came and went since the workload was asked to stop",
            )
            .with_hint("nothing is wrong with the data; migrate again"));
        }
        self.refuse_unproven(seen)?;
        if let Some(pod) = seen.consumers(&claims, &uid).first() {
            return Err(used(&pod.name));
        }
        Ok(Proof {
            evidence: format!(
                "{} claims are being deleted and held by the fence; the watch of the pods of {} has \
                 no gap, saw {} pods that used them end with all their containers, and none since",
                claims.len(),
                self.target.namespace,
                seen.gone
                    .values()
                    .filter(|pod| claims.iter().any(|claim| pod.consumes(claim, &uid)))
                    .count(),
            ),
        })
    }

    /// The same, and that nothing has used them since the fence was proven: a pod that has come and
    /// gone behind it may have written what neither the final pass nor the comparison has read.
    fn prove_undisturbed(&self, seen: &Seen) -> Result<Proof, StepFailure> {
        let (claims, uid) = (self.claims(), self.spec.uid.to_string());
        let known = self.former.lock().unwrap_or_else(PoisonError::into_inner);
        let former = seen.former(&claims, &uid);
        if let Some(pod) = former.iter().find(|pod| !known.contains(&pod.uid)) {
            return Err(used(&pod.name));
        }
        self.prove_unused(seen)
    }

    /// Waits until nothing but the fence holds the claims, and the watch of the pods has come as
    /// far. Fails as soon as another pod uses one: it could hold the claim for ever.
    async fn await_sole_holders(&self, consumers: &Consumers) -> Result<(), StepFailure> {
        let (claims, uid) = (self.claims(), self.spec.uid.to_string());
        let alone = claims
            .iter()
            .map(|claim| fence::await_sole_holder(&self.cluster, claim));
        let user = consumers.wait(|seen| {
            let users = seen.consumers(&claims, &uid);
            users.first().map(|pod| pod.name.clone())
        });
        tokio::select! {
            alone = try_join_all(alone) => alone.map(|_| ())?,
            Some(pod) = user => return Err(used(&pod)),
        }
        // Whoever used them before the movers went is seen by then.
        consumers
            .wait(|seen| seen.own_are_gone(&claims, &uid).then_some(()))
            .await
            .ok_or_else(|| StepFailure::transient("The watch of the pods has ended"))
    }

    /// Fails when a pod was deleted by force: what it writes from now on, no copy would hold.
    /// Kubernetes starts another one in its place all the same, so going back is always allowed.
    fn refuse_unproven(&self, seen: &Seen) -> Result<(), StepFailure> {
        let (claims, uid) = (self.claims(), self.spec.uid.to_string());
        let Some(pod) = seen.went_unproven(&claims, &uid).into_iter().next() else {
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

    pub(super) async fn verify(&self, context: &Context) -> Result<StepOutcome, StepFailure> {
        let level = self.spec.options.verify;
        let pairs = self.pairs(context).await?;
        let compared = pairs
            .iter()
            .zip(&self.target.claims)
            .map(async |(pair, claim)| {
                let sink = context.progress.clone();
                let mut report = |progress| sink.report(progress);
                let mut silent = |_| ();
                let (source, destination) = tokio::try_join!(
                    pair.source.client.manifest(level, &mut report),
                    pair.destination.client.manifest(level, &mut silent),
                )
                .map_err(|error| control_failure(&error, "The two ends could not be compared"))?;
                let on_device = self
                    .last_final
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .iter()
                    .any(|pass| pass.volume == claim.name() && pass.report.verified_on_device);
                Ok::<_, StepFailure>(Verification {
                    volume: claim.name(),
                    level,
                    on_device,
                    entries: destination.entries,
                    bytes: destination.bytes,
                    digest_source: source.digest,
                    digest_destination: destination.digest,
                })
            });
        let compared = try_join_all(compared).await?;
        let consumers = self.consumers().await?;
        let mut proof = self.prove_undisturbed(&consumers.now())?;
        if compared.iter().all(Verification::equal) {
            // Kubernetes' own proof comes last: with the movers gone, only the fence holds a claim.
            self.dismiss_movers().await?;
            let indices = 0..self.target.claims.len();
            // The swap will need its name for nothing, and its going takes a while. Without the
            // movers it is of no use to whoever goes back either: the volume is kept.
            let staging = indices.map(|index| self.movers.release_staging(index));
            tokio::try_join!(self.await_sole_holders(consumers), try_join_all(staging))?;
            proof = self.prove_undisturbed(&consumers.now())?;
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

/// Somebody else's pod in the way.
fn used(pod: &str) -> StepFailure {
    StepFailure::permanent(format!(
        "The pod {pod} uses a claim of the migration although the workload was stopped"
    ))
    .with_hint("find out what started it; then migrate again")
}
