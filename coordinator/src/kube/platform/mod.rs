//! The steps of a migration on a cluster. Every step may be repeated and may be cut off anywhere;
//! see [`crate::platform`] for the contract.
//!
//! | Step | File |
//! |---|---|
//! | Check | `check.rs` |
//! | Pass | `passes.rs`; over which way the movers meet: `reachability.rs` |
//! | Quiesce, Fence, Verify | `proof.rs`; what is true in between: `downtime.rs` |
//! | Swap | `swap.rs` |
//! | Unswap, Unfence | `rollback.rs`; how a person does it without livmig: `manual_recovery.rs` |
//! | Settle, StopMovers | `settle.rs` |
//! | StartMovers, Unquiesce, Restart | here |
//! | what each of them does first | `take_charge.rs` |

mod check;
mod downtime;
#[cfg(test)]
mod fixture;
mod manual_recovery;
mod passes;
mod proof;
mod reachability;
mod rollback;
mod settle;
mod swap;
mod take_charge;

use std::sync::{Arc, Mutex};

use futures::future::try_join_all;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use livmig_engine::{
    result::{MoverFacts, Probe, StepFailure, StepOutcome},
    step::Step,
};
use livmig_proto::{
    control::PassKind,
    ids::{Epoch, PassNumber},
};
use tokio::sync::{Mutex as AsyncMutex, OnceCell};

use self::downtime::{CurrentDowntime, Downtime};
use super::{
    api::{cluster::Cluster, mark::Mark},
    migration::{Claim, Migration},
    movers::{Connected, PodMovers, Stay, Stranded, drain::Guard},
    objects::claim::ClaimClass,
    store::pre_image::{self, PreImage},
    volumes::dry_run::DryRun,
    workload,
    writers::watch::Consumers,
};
use crate::platform::{Context, Platform};

/// The migration of a workload's claims.
pub struct KubePlatform {
    pub(in crate::kube) cluster: Cluster,
    pub(in crate::kube) migration: Arc<Migration>,
    pub(in crate::kube) movers: Arc<PodMovers>,
    before: OnceCell<(PreImage, OwnerReference)>,
    consumers: OnceCell<Arc<Consumers>>,
    guard: AsyncMutex<Option<Guard>>,
    /// The epoch that everything of others is stamped with.
    stamped: AsyncMutex<Option<Epoch>>,
    /// From when the workload is asked to stop until it runs again.
    downtime: CurrentDowntime,
    /// The ways between movers that something has come through.
    paths: Mutex<reachability::ProvenPaths>,
}

impl KubePlatform {
    /// The platform of `migration`.
    pub fn new(cluster: &Cluster, migration: Migration) -> Self {
        let cluster = cluster.in_namespace(&migration.target.namespace);
        let migration = Arc::new(migration);
        Self {
            movers: Arc::new(PodMovers::new(cluster.clone(), Arc::clone(&migration))),
            migration,
            before: OnceCell::new(),
            consumers: OnceCell::new(),
            guard: AsyncMutex::new(None),
            stamped: AsyncMutex::new(None),
            downtime: CurrentDowntime::default(),
            paths: Mutex::default(),
            cluster,
        }
    }

    pub(in crate::kube) async fn before(&self) -> Result<&(PreImage, OwnerReference), StepFailure> {
        self.before
            .get_or_try_init(|| async {
                let owner = self.movers.owner().await?;
                let image =
                    pre_image::ensure(&self.cluster, &self.migration, owner.clone()).await?;
                Ok((image, owner))
            })
            .await
    }

    /// The watch of the namespace's pods: from the first call on, or from when the workload was
    /// asked to stop where an earlier coordinator has asked it.
    async fn consumers(&self) -> Result<&Arc<Consumers>, StepFailure> {
        self.consumers
            .get_or_try_init(|| async {
                let pods = self.cluster.api();
                let stopped =
                    workload::stopped(&self.cluster, &self.migration.target.workload).await?;
                let consumers = match stopped {
                    None => Consumers::watch(pods).await?,
                    Some(stopped) => {
                        // What was missed before is missed; from there on nothing may be.
                        self.downtime.begin(0);
                        Consumers::take_up(pods, stopped.watched_from.as_deref()).await?
                    }
                };
                Ok(Arc::new(consumers))
            })
            .await
    }

    /// The downtime, for the steps that there are only in it. They are in charge then.
    async fn downtime(&self, epoch: Epoch) -> Result<Arc<Downtime>, StepFailure> {
        // First: a workload that somebody has made anew says that better than its missing mark.
        self.take_charge(epoch).await?;
        // Where an earlier coordinator has begun it, the watch takes it up.
        self.consumers().await?;
        self.downtime.get().ok_or_else(|| {
            StepFailure::permanent(
                "Whether every pod of the workload has ended cannot be told: nothing says any more \
                 that the workload was asked to stop",
            )
            .with_hint("nothing is wrong with the data; migrate again")
        })
    }

    /// What everything of others says of itself.
    pub(in crate::kube) fn mark(&self, epoch: Epoch) -> Mark {
        self.migration.mark(epoch)
    }

    /// What a fenced claim says of itself.
    fn fence_mark(&self, epoch: Epoch) -> Mark {
        Mark {
            by_hand: manual_recovery::fence(&self.migration),
            ..self.mark(epoch)
        }
    }

    async fn start_movers(&self, context: &Context) -> Result<StepOutcome, StepFailure> {
        let (_, owner) = self.take_charge(context.epoch).await?;
        self.movers.open_network(owner).await?;
        let pairs = self.pairs(context).await?;
        self.try_claims(&pairs).await?;
        let movers = pairs
            .iter()
            .zip(&self.migration.claims)
            .flat_map(|(pair, claim)| {
                let facts = |storage: &str, welcome: &livmig_proto::control::Welcome| MoverFacts {
                    volume: claim.name(),
                    welcome: welcome.clone(),
                    storage: Some(storage.to_owned()),
                };
                [
                    facts(&claim.volume, &pair.source.welcome),
                    facts(&pair.volume, &pair.destination.welcome),
                ]
            })
            .collect();
        Ok(StepOutcome::Movers { movers })
    }

    /// Tries how the claims will be made anew, now that their volumes are known, and how they would be
    /// on the way back.
    async fn try_claims(&self, pairs: &[Connected]) -> Result<(), StepFailure> {
        let (before, _) = self.before().await?;
        let claims = pairs.iter().zip(&self.migration.claims);
        let all = claims.map(async |(pair, claim)| {
            let original = &before.of(claim)?.claim;
            let trial = |which, volume, class| DryRun {
                name: &claim.dry_run,
                original,
                volume,
                which,
                class,
            };
            let forward = trial("new", &pair.volume, self.class_after_the_swap());
            let back = trial("old", &claim.volume, ClaimClass::OfVolume);
            tokio::try_join!(forward.run(&self.cluster), back.run(&self.cluster))
        });
        try_join_all(all).await.map(|_| ())
    }

    /// Every pair of movers, in the order of the claims.
    async fn pairs(&self, context: &Context) -> Result<Vec<Connected>, StepFailure> {
        let epoch = context.epoch;
        let (before, owner) = self.take_charge(epoch).await?;
        let consumers = self.consumers().await?;
        let template = &before.template;
        let ensured = self.migration.claims.iter().map(async |claim| {
            if let Some(pair) = self.movers.connected(claim, epoch).await
                && (self.downtime.get().is_some()
                    || self.movers.stranded(claim, template).await?.is_none())
            {
                return Ok(pair);
            }
            let place = self.place(claim, consumers).await?;
            // A large future; callers hold a pointer to it.
            Box::pin(self.movers.ensure(claim, before, &place, owner, epoch)).await
        });
        let pairs = try_join_all(ensured).await?;
        let mut guard = self.guard.lock().await;
        if guard.is_none() {
            *guard = Some(Guard::new(
                Arc::clone(consumers),
                Arc::clone(&self.movers),
                Arc::clone(&self.migration),
                {
                    let downtime = self.downtime.clone();
                    move || downtime.get().is_some()
                },
            ));
        }
        Ok(pairs)
    }

    /// A new volume that the workload could not start on, while the workload still runs.
    async fn stranded(&self) -> Result<Option<Stranded>, StepFailure> {
        if self.downtime.get().is_some() {
            return Ok(None);
        }
        let (before, _) = self.before().await?;
        let claims = self.migration.claims.iter();
        let all = claims.map(|claim| self.movers.stranded(claim, &before.template));
        Ok(try_join_all(all).await?.into_iter().flatten().next())
    }

    pub(in crate::kube) async fn remove_movers(&self) -> Result<(), StepFailure> {
        *self.guard.lock().await = None;
        let claims = self.migration.claims.iter();
        let all = claims.map(|claim| self.movers.remove(claim));
        try_join_all(all).await.map(|_| ())
    }

    /// Ends the movers and has their pods deleted, without waiting for them to be gone, but for
    /// those of destinations that are to `stay`.
    async fn dismiss_movers(&self, stay: &[Stay]) -> Result<(), StepFailure> {
        *self.guard.lock().await = None;
        let all = self.migration.claims.iter().zip(stay);
        try_join_all(all.map(|(claim, stay)| self.movers.dismiss(claim, *stay)))
            .await
            .map(|_| ())
    }

    /// Takes every source mover off its node: no claim is held by one any more, and no pod of the
    /// workload waits for a volume that is attached elsewhere.
    pub(in crate::kube) async fn yield_sources(&self) -> Result<(), StepFailure> {
        *self.guard.lock().await = None;
        let claims = self.migration.claims.iter();
        let all = claims.map(|claim| self.movers.yield_node(claim));
        try_join_all(all).await.map(|_| ())
    }

    /// Starts the workload on its new volumes.
    async fn start_workload(&self, context: &Context) -> Result<StepOutcome, StepFailure> {
        self.take_charge(context.epoch).await?;
        self.start_as_it_was(context).await
    }

    /// Starts the workload on its old volumes, unless somebody has made it anew: then it is theirs.
    async fn restart_workload(&self, context: &Context) -> Result<StepOutcome, StepFailure> {
        if self.take_charge_to_go_back(context.epoch).await? {
            return self.start_as_it_was(context).await;
        }
        self.yield_sources().await?;
        Ok(StepOutcome::Done)
    }

    async fn start_as_it_was(&self, context: &Context) -> Result<StepOutcome, StepFailure> {
        self.yield_sources().await?;
        let mark = self.mark(context.epoch);
        workload::start(&self.cluster, &self.migration.target.workload, &mark).await?;
        self.downtime.end();
        Ok(StepOutcome::Done)
    }

    /// The node and address family of a claim's user.
    async fn place(
        &self,
        claim: &Claim,
        consumers: &Consumers,
    ) -> Result<super::movers::placement::MoverPlace, StepFailure> {
        if self.downtime.get().is_some() {
            // Its pods are going: the movers that are there stay where they are.
            return Ok(super::movers::placement::anywhere(consumers));
        }
        super::movers::placement::find(&self.cluster, &self.migration, claim, consumers).await
    }
}

impl Platform for KubePlatform {
    async fn perform(&self, step: Step, context: &Context) -> Result<StepOutcome, StepFailure> {
        match step {
            Step::Check => check::check(&self.cluster, &self.migration.spec).await,
            Step::StartMovers => self.start_movers(context).await,
            Step::Pass { number, kind } => match kind {
                PassKind::Live => self.live_pass(number, context).await,
                PassKind::Final => {
                    let downtime = self.downtime(context.epoch).await?;
                    self.final_pass(&downtime, number, context).await
                }
            },
            Step::Quiesce => Box::pin(self.quiesce(context)).await,
            Step::Fence => {
                let downtime = self.downtime(context.epoch).await?;
                self.fence(&downtime, context).await
            }
            Step::Verify => {
                let downtime = self.downtime(context.epoch).await?;
                self.verify(&downtime, context).await
            }
            Step::Swap => self.swap(context).await,
            Step::Unquiesce => self.start_workload(context).await,
            Step::Restart => self.restart_workload(context).await,
            Step::Settle => self.settle(context).await,
            Step::Unswap | Step::Unfence => self.rebind_back(context).await,
            Step::StopMovers => self.clear(context).await,
        }
    }

    async fn probe(&self, step: Step, context: &Context) -> Result<Probe, StepFailure> {
        let Step::Pass { number, .. } = step else {
            // Performing a step that was done costs a look at what is there.
            return Ok(Probe::NotDone);
        };
        // A live pass whose outcome nobody recorded: still under way, or its report still there?
        let pairs = self.pairs(context).await?;
        for pair in &pairs {
            let welcome = &pair.source.welcome;
            if ![welcome.running, welcome.reported].contains(&Some(number)) {
                return Ok(Probe::NotDone);
            }
        }
        let outcome = self.live_pass(number, context).await?;
        Ok(Probe::Done { outcome })
    }

    async fn stop_pass(&self, pass: PassNumber, context: &Context) -> Result<(), StepFailure> {
        self.stop_pass_everywhere(pass, context.epoch).await
    }
}
