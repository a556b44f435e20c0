//! The staging claim, which has the new volume provisioned, and the volume.

use std::{sync::PoisonError, time::Duration};

use ::kube::api::DeleteParams;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use livmig_engine::result::StepFailure;
use livmig_proto::ids::Epoch;

use super::{Movers, absent_is_fine};
use crate::kube::{cluster::call, volumes, watch::await_object};

/// How long the staging claim is waited for at the end.
const GONE_MAX: Duration = Duration::from_secs(30);

impl Movers {
    /// The new volume's name, once it is bound and pinned.
    pub(super) async fn pin_staging(
        &self,
        staging: &str,
        epoch: Epoch,
    ) -> Result<String, StepFailure> {
        let claims_api = self.cluster.api::<PersistentVolumeClaim>();
        let volume = await_object(&claims_api, "claim", staging, |claim| {
            let spec = claim?.spec.as_ref()?;
            spec.volume_name.clone().filter(|name| !name.is_empty())
        })
        .await?;
        let api = self.cluster.cluster_api::<PersistentVolume>();
        volumes::pin(&api, &volume, &self.spec.uid.to_string(), epoch).await?;
        Ok(volume)
    }

    /// Has the staging claim at `index` deleted, of which nothing is needed any more but the volume.
    ///
    /// # Errors
    /// When it cannot be deleted.
    pub async fn release_staging(&self, index: usize) -> Result<(), StepFailure> {
        let name = self.names.staging(index);
        let claims = self.cluster.api::<PersistentVolumeClaim>();
        let parameters = DeleteParams::default();
        let what = format!("delete the claim {name}");
        let deleted = call(what, claims.delete(&name, &parameters)).await;
        Ok(absent_is_fine(deleted.map(|_| ()))?)
    }

    /// The same, and waits until it is gone. Whoever else uses it keeps it; nothing depends on that.
    ///
    /// # Errors
    /// When it cannot be deleted or watched.
    pub async fn remove_staging(&self, index: usize) -> Result<(), StepFailure> {
        self.release_staging(index).await?;
        let name = self.names.staging(index);
        let claims = self.cluster.api::<PersistentVolumeClaim>();
        let gone = await_object(&claims, "claim", &name, |claim| {
            claim.is_none().then_some(())
        });
        if let Ok(gone) = tokio::time::timeout(GONE_MAX, gone).await {
            gone?;
        } else {
            tracing::warn!(claim = %name, "somebody still uses the staging claim");
        }
        Ok(())
    }

    /// The new volume of the claim at `index`, when its movers were connected before.
    pub fn volume(&self, index: usize) -> Option<String> {
        let known = self.volumes.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(index).cloned().flatten()
    }

    pub(super) fn note_volume(&self, index: usize, volume: Option<String>) {
        let mut known = self.volumes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = known.get_mut(index) {
            *slot = volume;
        }
    }
}
