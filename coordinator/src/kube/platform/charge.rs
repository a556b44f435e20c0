//! Taking charge: everything of others carries this coordinator's mark before any of it is changed.

use futures::future::try_join_all;
use k8s_openapi::{
    api::core::v1::PersistentVolume, apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use livmig_engine::result::StepFailure;
use livmig_proto::ids::Epoch;

use super::KubePlatform;
use crate::kube::{fence, journal, pre_image::PreImage, volumes, workload};

impl KubePlatform {
    /// Before anything of others is changed: what it was is stored, what must not be lost is
    /// pinned, and everything carries this coordinator's epoch.
    pub(super) async fn take_charge(
        &self,
        epoch: Epoch,
    ) -> Result<&(PreImage, OwnerReference), StepFailure> {
        let before = self.before().await?;
        let mut stamped = self.stamped.lock().await;
        let (workload, mark) = (&self.target.workload, self.mark(epoch));
        if *stamped == Some(epoch) && workload::carries(&self.cluster, workload, &mark).await? {
            return Ok(before);
        }
        // What carries no mark may have been given back by a coordinator that came and went.
        self.refuse_replaced(epoch).await?;
        workload::stamp(&self.cluster, workload, &mark).await?;
        let api = self.cluster.cluster_api::<PersistentVolume>();
        let (api, mark) = (&api, &mark);
        let each = self.target.claims.iter().map(|claim| async move {
            tokio::try_join!(
                volumes::pin(api, &claim.volume, &mark.uid, epoch),
                fence::prepare(&self.cluster, &claim.claim, &claim.claim_uid, mark),
            )
        });
        try_join_all(each).await?;
        *stamped = Some(epoch);
        Ok(before)
    }

    /// Fails when another coordinator has taken over. It says so in the journal first, and marks and
    /// what a migration makes may be gone again since.
    pub(in crate::kube) async fn refuse_replaced(&self, epoch: Epoch) -> Result<(), StepFailure> {
        let last = journal::last_epoch(&self.cluster, &self.names).await;
        let last = last.map_err(|error| StepFailure::transient(error.to_string()))?;
        if last == Some(epoch) {
            return Ok(());
        }
        Err(StepFailure::permanent(
            "Another coordinator has taken over: the journal goes on without this one",
        )
        .with_hint("livmig-coord get"))
    }
}
