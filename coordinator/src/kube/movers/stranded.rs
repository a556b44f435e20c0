//! New volumes that the workload could never use: made on a node that takes no pods any more, such
//! as one that is being drained.
//!
//! They are given up before anything is stopped, and made anew where the workload runs now: they
//! hold nothing but a copy.

use ::kube::api::{DeleteParams, ListParams, Preconditions};
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, PodSpec};
use livmig_engine::result::StepFailure;
use livmig_proto::{control::Side, ids::Epoch};

use super::{PodMovers, pods::no_pod};
use crate::kube::{
    api::{
        cluster::{ClusterError, call},
        create::absent_is_fine,
        uid::Uid,
        watch::await_object,
    },
    migration::Claim,
    objects::node,
    volumes::reclaim,
};

/// A new volume that no pod of the workload can come to.
#[derive(Clone, Debug)]
pub struct Stranded {
    claim: PersistentVolumeClaim,
    volume: String,
}

impl Stranded {
    /// Why a pass into it counts for nothing.
    pub fn superseded(&self) -> StepFailure {
        StepFailure::transient(format!(
            "The new volume {} can only be used on nodes that take no pods any more, and is made \
             anew elsewhere",
            self.volume
        ))
    }

    /// Why the workload must not be stopped for it.
    pub fn refusal(&self) -> StepFailure {
        StepFailure::permanent(format!(
            "The new volume {} can only be used on nodes that take no pods now: the workload could \
             not start on it",
            self.volume
        ))
        .with_hint("kubectl get nodes; uncordon the node, or drain it whole; then migrate again")
    }
}

impl PodMovers {
    /// The new volume of `claim`, if it is where no pod made from `template` can run.
    ///
    /// # Errors
    /// When the claim, its volume or the nodes cannot be read.
    pub async fn stranded(
        &self,
        claim: &Claim,
        template: &PodSpec,
    ) -> Result<Option<Stranded>, StepFailure> {
        let name = &claim.staging;
        let claims = self.cluster.api::<PersistentVolumeClaim>();
        let what = format!("read the claim {name}");
        let Some(claim) = call(what, claims.get_opt(name)).await? else {
            return Ok(None);
        };
        let bound = claim
            .spec
            .as_ref()
            .and_then(|spec| spec.volume_name.clone());
        let Some(volume) = bound.filter(|name| !name.is_empty()) else {
            return Ok(None);
        };
        let (found, nodes) = self.volume_and_nodes(&volume).await?;
        let lost = found.is_some_and(|volume| !is_usable(&volume, template, &nodes));
        Ok(lost.then_some(Stranded { claim, volume }))
    }

    /// The volume `name`, if it is there, and the nodes that it may be for.
    pub(super) async fn volume_and_nodes(
        &self,
        name: &str,
    ) -> Result<(Option<PersistentVolume>, Vec<Node>), ClusterError> {
        let volumes = self.cluster.cluster_api::<PersistentVolume>();
        let nodes = self.cluster.cluster_api::<Node>();
        let everything = ListParams::default();
        let (volume, nodes) = tokio::try_join!(
            call(format!("read the volume {name}"), volumes.get_opt(name)),
            call("list nodes", nodes.list(&everything)),
        )?;
        Ok((volume, nodes.items))
    }

    /// Deletes a stranded volume with its claim and its mover.
    ///
    /// # Errors
    /// When another coordinator has taken over, or something cannot be deleted.
    pub(super) async fn give_up(
        &self,
        of: &Claim,
        stranded: &Stranded,
        epoch: Epoch,
    ) -> Result<(), StepFailure> {
        let Stranded { claim, volume } = stranded;
        tracing::warn!(
            %volume,
            "the new volume is where no pod can run any more; it is made anew elsewhere"
        );
        no_pod(&self.cluster, of.mover(Side::Destination), 0).await?;
        // Without its marks it is never taken for the one that is made next.
        let volumes = self.cluster.cluster_api::<PersistentVolume>();
        let uid = claim.metadata.uid.clone();
        let staging = Uid::new(uid.as_deref().unwrap_or_default());
        let mark = self.migration.mark(epoch);
        reclaim::give_up(&volumes, volume, &staging, &mark).await?;
        let claims = self.cluster.api::<PersistentVolumeClaim>();
        let name = claim.metadata.name.clone().unwrap_or_default();
        let parameters = DeleteParams {
            preconditions: Some(Preconditions {
                uid: uid.clone(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        let what = format!("delete the claim {name}");
        let deleted = call(what, claims.delete(&name, &parameters)).await;
        absent_is_fine(deleted.map(|_| ()))?;
        await_object(&claims, "claim", &name, |claim| {
            claim
                .is_none_or(|claim| claim.metadata.uid != uid)
                .then_some(())
        })
        .await?;
        Ok(())
    }
}

/// Whether a pod made from `template` could use the volume on one of `nodes`.
fn is_usable(volume: &PersistentVolume, template: &PodSpec, nodes: &[Node]) -> bool {
    nodes.iter().any(|node| {
        node::takes_pods(node)
            && node::volume_reaches(volume, node)
            && node::pod_may_run(template, node)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_volume_on_a_cordoned_node_alone_is_of_no_use() {
        let node = |name: &str, cordoned: bool| -> Node {
            serde_json::from_value(json!({
                "metadata": {"name": name, "labels": {"host": name}},
                "spec": {"unschedulable": cordoned},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]},
            }))
            .unwrap()
        };
        let volume: PersistentVolume =
            serde_json::from_value(json!({"spec": {"nodeAffinity": {"required": {
                "nodeSelectorTerms": [{"matchExpressions": [
                    {"key": "host", "operator": "In", "values": ["a"]}]}]}}}}))
            .unwrap();
        let template = PodSpec::default();
        let other = node("b", false);
        assert!(is_usable(
            &volume,
            &template,
            &[node("a", false), other.clone()]
        ));
        assert!(!is_usable(
            &volume,
            &template,
            &[node("a", true), other.clone()]
        ));
        assert!(!is_usable(&volume, &template, std::slice::from_ref(&other)));
        assert!(is_usable(&PersistentVolume::default(), &template, &[other]));
    }
}
