//! Stopping the workload, and the proof that nothing writes until COMMIT.

use std::sync::{PoisonError, atomic::Ordering};

use futures::future::try_join_all;
use livmig_engine::result::{Proof, StepFailure, StepOutcome, Verification};

use super::KubePlatform;
use crate::{
    failure::control as control_failure,
    kube::{consumers::Consumers, exec, fence, workload},
    platform::Context,
};

impl KubePlatform {
    pub(super) async fn quiesce(&self, context: &Context) -> Result<StepOutcome, StepFailure> {
        self.take_charge(context.epoch).await?;
        let consumers = self.consumers().await?;
        let (claims, uid) = (self.claims(), self.spec.uid.to_string());
        if let Some(command) = &self.target.pre_stop {
            let seen = consumers.now();
            let pods = seen.consumers(&claims, &uid);
            let runs = pods.iter().filter(|pod| pod.running && !pod.deleting);
            try_join_all(runs.map(|pod| exec::run(&self.cluster, &pod.name, command))).await?;
        }
        self.stopping.store(true, Ordering::SeqCst);
        self.note_gaps(consumers.now().gaps);
        workload::stop(&self.cluster, &self.target.workload, context.epoch).await?;
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
        self.note_gaps(consumers.now().gaps);
        let mark = self.fence_mark(context.epoch);
        let raised = self
            .target
            .claims
            .iter()
            .map(|claim| fence::ensure(&self.cluster, &claim.claim, &claim.claim_uid, &mark));
        try_join_all(raised).await?;
        let proof = self.prove_unused(consumers)?;
        Ok(StepOutcome::Fenced { proof })
    }

    /// That nothing uses the claims, as far as the watch of the pods tells.
    fn prove_unused(&self, consumers: &Consumers) -> Result<Proof, StepFailure> {
        let (claims, uid) = (self.claims(), self.spec.uid.to_string());
        let seen = consumers.now();
        let gaps = *self.gaps.lock().unwrap_or_else(PoisonError::into_inner);
        if gaps != Some(seen.gaps) {
            // The next look begins anew.
            self.note_gaps(seen.gaps);
            return Err(StepFailure::transient(
                "The watch of the pods had a gap, so a pod may have come and gone unseen",
            ));
        }
        if let Some(pod) = seen.went_unproven(&claims, &uid).first() {
            return Err(StepFailure::undecided(format!(
                "The pod {} was deleted by force: its containers may still run and write on node {}",
                pod.name,
                pod.node.as_deref().unwrap_or("?")
            ))
            .with_hint(
                "make sure that nothing of the pod runs on that node any more (or that the node is \
                 off); then resume",
            ));
        }
        let users = seen.consumers(&claims, &uid);
        if let Some(pod) = users.first() {
            return Err(StepFailure::permanent(format!(
                "The pod {} uses a claim of the migration although the workload was stopped",
                pod.name
            ))
            .with_hint("find out what started it; then migrate again"));
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

    fn note_gaps(&self, count: u64) {
        *self.gaps.lock().unwrap_or_else(PoisonError::into_inner) = Some(count);
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
        let mut proof = self.prove_unused(consumers)?;
        if compared.iter().all(Verification::equal) {
            // Kubernetes' own proof comes last: with the movers gone, only the fence holds a claim.
            self.remove_movers().await?;
            let alone = self
                .target
                .claims
                .iter()
                .map(|claim| fence::await_sole_holder(&self.cluster, &claim.claim));
            try_join_all(alone).await?;
            proof = self.prove_unused(consumers)?;
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
