//! The end of a migration, either way: what only it needed goes, what others own is given back.

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use livmig_engine::result::{StepFailure, StepOutcome};

use super::KubePlatform;
use super::manual_recovery;
use crate::{
    kube::{
        api::cluster::call,
        api::uid::Uid,
        volumes::{fence, reclaim},
        workload::{self, claim_templates},
    },
    platform::Context,
};

impl KubePlatform {
    /// Removes the movers and what they talk by.
    async fn end_movers(&self, context: &Context) -> Result<(), StepFailure> {
        self.refuse_replaced(context.epoch).await?;
        self.remove_movers().await?;
        self.movers.remove_secrets().await?;
        self.movers.close_network().await?;
        Ok(())
    }

    /// After the workload runs on its new volumes.
    pub(super) async fn settle(&self, context: &Context) -> Result<StepOutcome, StepFailure> {
        self.end_movers(context).await?;
        let claims = self.migration.claims.iter();
        try_join_all(claims.map(|claim| self.movers.remove_staging(claim))).await?;
        let api = self.cluster.cluster_api::<PersistentVolume>();
        let claims = self.cluster.api::<PersistentVolumeClaim>();
        let mark = self.mark(context.epoch);
        let (api, claims, mark) = (&api, &claims, &mark);
        let each = self.migration.claims.iter().map(|claim| async move {
            let what = format!("read the claim {}", claim.claim);
            let found = call(what, claims.get(&claim.claim)).await?;
            let volume = found
                .spec
                .and_then(|spec| spec.volume_name)
                .unwrap_or_default();
            let uid = Uid::new(&found.metadata.uid.unwrap_or_default());
            if volume != claim.volume && !volume.is_empty() {
                reclaim::unpin_bound(api, &volume, &uid, mark).await?;
            }
            let left = manual_recovery::left(&self.migration.target, &claim.claim);
            reclaim::note(api, &claim.volume, &left, mark).await
        });
        try_join_all(each).await?;
        // Made anew, the workload has another UID: whoever comes here again is past this.
        let current = workload::is_current(&self.cluster, &self.migration.target.workload).await?;
        if current || !self.migration.target.update_template {
            workload::clear(&self.cluster, &self.migration.target.workload, mark).await?;
        }
        let owner = self.movers.owner().await?;
        let (stored, labels) = (
            self.migration.names.template(),
            self.movers.labels("template"),
        );
        let (cluster, target, epoch) = (&self.cluster, &self.migration.target, context.epoch);
        claim_templates::update(cluster, target, &stored, labels, owner, epoch).await?;
        Ok(StepOutcome::Done)
    }

    /// After the workload runs on its old volumes, or was never stopped.
    pub(super) async fn clear(&self, context: &Context) -> Result<StepOutcome, StepFailure> {
        self.end_movers(context).await?;
        let api = self.cluster.cluster_api::<PersistentVolume>();
        let claims = self.cluster.api::<PersistentVolumeClaim>();
        let mark = self.mark(context.epoch);
        let (api, claims, mark) = (&api, &claims, &mark);
        let each = self.migration.claims.iter().map(|claim| async move {
            fence::withdraw(&self.cluster, &claim.claim, mark).await?;
            let what = format!("read the claim {}", claim.claim);
            let Some(found) = call(what, claims.get_opt(&claim.claim)).await? else {
                return Ok(());
            };
            let uid = Uid::new(&found.metadata.uid.unwrap_or_default());
            reclaim::unpin_bound(api, &claim.volume, &uid, mark).await
        });
        try_join_all::<_>(each).await?;
        // One that was deleted or made anew carries nothing of ours.
        if workload::is_current(&self.cluster, &self.migration.target.workload).await? {
            workload::clear(&self.cluster, &self.migration.target.workload, mark).await?;
        }
        Ok(StepOutcome::Done)
    }
}
