//! The staging claim, which has the new volume provisioned, and the volume.

use std::{sync::PoisonError, time::Duration};

use ::kube::api::{DeleteParams, ListParams, Preconditions};
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, ResourceQuota};
use livmig_engine::result::StepFailure;
use livmig_proto::ids::Epoch;

use super::{PodMovers, Stay};
use crate::kube::{
    api::{cluster::call, create::absent_is_fine, watch::await_object},
    migration::Claim,
    objects::node,
    volumes::reclaim,
};

/// The access mode that admits one pod at a time.
const FOR_ONE_POD: &str = "ReadWriteOncePod";

/// How long the staging claim is waited for at the end.
const GONE_MAX: Duration = Duration::from_secs(30);

impl PodMovers {
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
        reclaim::pin(&api, &volume, &self.migration.mark(epoch)).await?;
        Ok(volume)
    }

    /// Has the staging claim of `claim` deleted, of which nothing is needed any more but the volume:
    /// that has to be kept.
    ///
    /// # Errors
    /// When the volume would go with it, or it cannot be deleted.
    pub async fn release_staging(&self, claim: &Claim) -> Result<(), StepFailure> {
        let name = &claim.staging;
        let claims = self.cluster.api::<PersistentVolumeClaim>();
        let Some(found) = call(format!("read the claim {name}"), claims.get_opt(name)).await?
        else {
            return Ok(());
        };
        let bound_to = found.spec.and_then(|spec| spec.volume_name);
        if let Some(volume) = bound_to.filter(|volume| !volume.is_empty()) {
            reclaim::ensure_kept(&self.cluster.cluster_api(), &volume).await?;
        }
        // A claim that is bound to a volume never leads to another: what was looked at goes.
        self.delete_staging(claim, found.metadata.uid).await
    }

    async fn delete_staging(&self, claim: &Claim, uid: Option<String>) -> Result<(), StepFailure> {
        let name = &claim.staging;
        let claims = self.cluster.api::<PersistentVolumeClaim>();
        let parameters = DeleteParams {
            preconditions: uid.map(|uid| Preconditions {
                uid: Some(uid),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        let what = format!("delete the claim {name}");
        let deleted = call(what, claims.delete(name, &parameters)).await;
        Ok(absent_is_fine(deleted.map(|_| ()))?)
    }

    /// Has the staging claim of `claim` deleted once its volume is the workload's, and waits until it
    /// is gone. Whoever else uses it keeps it; nothing depends on that.
    ///
    /// # Errors
    /// When it cannot be deleted or watched.
    pub async fn remove_staging(&self, claim: &Claim) -> Result<(), StepFailure> {
        self.delete_staging(claim, None).await?;
        let name = &claim.staging;
        let claims = self.cluster.api::<PersistentVolumeClaim>();
        let gone = await_object(&claims, "claim", name, |claim| {
            claim.is_none().then_some(())
        });
        if let Ok(gone) = tokio::time::timeout(GONE_MAX, gone).await {
            gone?;
        } else {
            tracing::warn!(claim = %name, "somebody still uses the staging claim");
        }
        Ok(())
    }

    /// Whether the destination's pod had better stay until the workload's has started. A node that
    /// has a volume mounted for one pod has it for the next at once, and otherwise unmounts and mounts
    /// it anew, which takes some 0.3 s of the downtime. Only where the volume can be used on one node
    /// alone: elsewhere it would keep the workload from starting on another. And only where no quota
    /// counts the staging claim, which stays as long as the pod, beside the one that the swap makes.
    ///
    /// # Errors
    /// When the volume or the nodes cannot be read.
    pub async fn stay(&self, claim: &Claim) -> Result<Stay, StepFailure> {
        let Some(name) = self.volume(claim) else {
            return Ok(Stay::Ends);
        };
        let quotas = self.cluster.api::<ResourceQuota>();
        let everything = ListParams::default();
        let (quotas, found) = tokio::join!(
            call("list the quotas", quotas.list(&everything)),
            self.volume_and_nodes(&name),
        );
        let (volume, nodes) = found?;
        // What cannot be read may be there.
        let unlimited = quotas.is_ok_and(|quotas| quotas.items.is_empty());
        let stays = unlimited && volume.is_some_and(|volume| is_for_one_node(&volume, &nodes));
        Ok(if stays { Stay::Mounted } else { Stay::Ends })
    }

    /// The new volume of `claim`, when its movers were connected before.
    pub fn volume(&self, claim: &Claim) -> Option<String> {
        let pair = self.pairs.get(&claim.claim)?;
        let known = pair.volume.lock().unwrap_or_else(PoisonError::into_inner);
        known.clone()
    }

    pub(super) fn note_volume(&self, claim: &Claim, volume: Option<String>) {
        if let Some(pair) = self.pairs.get(&claim.claim) {
            *pair.volume.lock().unwrap_or_else(PoisonError::into_inner) = volume;
        }
    }
}

/// Whether pods on one of `nodes` alone can use the volume, several of them at once.
fn is_for_one_node(volume: &PersistentVolume, nodes: &[Node]) -> bool {
    let spec = volume.spec.as_ref();
    let modes = spec.and_then(|spec| spec.access_modes.as_deref());
    let for_one_pod = modes.is_some_and(|modes| modes.iter().any(|mode| mode == FOR_ONE_POD));
    let reached = nodes
        .iter()
        .filter(|node| node::volume_reaches(volume, node));
    !for_one_pod && reached.count() == 1
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_volume_is_for_one_node_when_no_other_reaches_it() {
        let node = |name: &str| -> Node {
            serde_json::from_value(json!({"metadata": {"name": name, "labels": {"host": name}}}))
                .unwrap()
        };
        let nodes = [node("a"), node("b")];
        let volume = |hosts: &[&str], mode: &str| -> PersistentVolume {
            serde_json::from_value(json!({"spec": {
                "accessModes": [mode],
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                    {"key": "host", "operator": "In", "values": hosts}]}]}},
            }}))
            .unwrap()
        };
        let plain = "ReadWriteOnce";
        assert!(is_for_one_node(&volume(&["a"], plain), &nodes));
        assert!(!is_for_one_node(&volume(&["a", "b"], plain), &nodes));
        assert!(!is_for_one_node(&volume(&["a"], FOR_ONE_POD), &nodes));
        let anywhere = PersistentVolume::default();
        assert!(!is_for_one_node(&anywhere, &nodes));
        // A cluster of one node has no other to start on.
        assert!(is_for_one_node(&anywhere, &[node("a")]));
    }
}
