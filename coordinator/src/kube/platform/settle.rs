//! The end of a migration, either way: what only it needed goes, what others own is given back.

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use livmig_engine::result::{StepFailure, StepOutcome};

use super::KubePlatform;
use super::manual_recovery;
use crate::{
    kube::{
        api::cluster::call,
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
        let indices = 0..self.target.claims.len();
        try_join_all(indices.map(|index| self.movers.remove_staging(index))).await?;
        let api = self.cluster.cluster_api::<PersistentVolume>();
        let claims = self.cluster.api::<PersistentVolumeClaim>();
        let mark = self.mark(context.epoch);
        let (api, claims, mark) = (&api, &claims, &mark);
        let each = self.target.claims.iter().map(|claim| async move {
            let what = format!("read the claim {}", claim.claim);
            let found = call(what, claims.get(&claim.claim)).await?;
            let volume = found
                .spec
                .and_then(|spec| spec.volume_name)
                .unwrap_or_default();
            let uid = found.metadata.uid.unwrap_or_default();
            if volume != claim.volume && !volume.is_empty() {
                reclaim::unpin_bound(api, &volume, &uid, &mark.uid, mark.epoch).await?;
            }
            let left = manual_recovery::left(&self.target, &claim.claim);
            reclaim::note(api, &claim.volume, &left, &mark.uid, mark.epoch).await
        });
        try_join_all(each).await?;
        // Made anew, the workload has another UID: whoever comes here again is past this.
        let current = workload::is_current(&self.cluster, &self.target.workload).await?;
        if current || !self.target.update_template {
            workload::clear(&self.cluster, &self.target.workload, mark).await?;
        }
        let owner = self.movers.owner().await?;
        let (stored, labels) = (self.names.template(), self.movers.labels("template"));
        let (cluster, target, epoch) = (&self.cluster, &self.target, context.epoch);
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
        let each = self.target.claims.iter().map(|claim| async move {
            fence::withdraw(&self.cluster, &claim.claim, mark).await?;
            let what = format!("read the claim {}", claim.claim);
            let Some(found) = call(what, claims.get_opt(&claim.claim)).await? else {
                return Ok(());
            };
            let uid = found.metadata.uid.unwrap_or_default();
            reclaim::unpin_bound(api, &claim.volume, &uid, &mark.uid, mark.epoch).await
        });
        try_join_all::<_>(each).await?;
        // One that was deleted or made anew carries nothing of ours.
        if workload::is_current(&self.cluster, &self.target.workload).await? {
            workload::clear(&self.cluster, &self.target.workload, mark).await?;
        }
        Ok(StepOutcome::Done)
    }
}
