//! Nodes that nothing is heard of and that a volume is still attached to: whatever ran there may run
//! on, also when its pods are gone from the API.

use std::collections::BTreeSet;

use ::kube::api::ListParams;
use futures::future::try_join_all;
use k8s_openapi::api::{core::v1::Node, storage::v1::VolumeAttachment};
use livmig_engine::result::StepFailure;

use crate::kube::{
    api::cluster::{Cluster, call},
    objects::node::is_ready,
};

/// A volume on a node that nothing is heard of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Lost {
    volume: String,
    node: String,
}

impl Lost {
    /// Why nothing is proven about the volume.
    pub(crate) fn refusal(&self) -> StepFailure {
        let Self { volume, node } = self;
        StepFailure::permanent(format!(
            "The volume {volume} is attached to node {node}, which is not ready: something there \
             may still write"
        ))
        .with_hint(format!(
            "bring the node back, or make sure that it is off and remove it (kubectl describe node \
             {node}); then migrate again"
        ))
    }
}

/// Which of `volumes` are attached to nodes that are not ready. A driver without attachments tells
/// nothing.
///
/// # Errors
/// When attachments or nodes cannot be read.
pub(crate) async fn attached_to(
    cluster: &Cluster,
    volumes: &[&str],
) -> Result<Vec<Lost>, StepFailure> {
    let attachments = cluster.cluster_api::<VolumeAttachment>();
    let everything = ListParams::default();
    let listed = call("list volumeattachments", attachments.list(&everything)).await?;
    let attached = attached(&listed.items, volumes);
    let names: BTreeSet<&str> = attached.iter().map(|lost| lost.node.as_str()).collect();
    let nodes = cluster.cluster_api::<Node>();
    let read = names
        .into_iter()
        .map(|name| call(format!("read the node {name}"), nodes.get_opt(name)));
    let ready: BTreeSet<String> = try_join_all(read)
        .await?
        .into_iter()
        .flatten()
        .filter(is_ready)
        .filter_map(|node| node.metadata.name)
        .collect();
    let lost = attached.into_iter();
    Ok(lost.filter(|lost| !ready.contains(&lost.node)).collect())
}

fn attached(attachments: &[VolumeAttachment], volumes: &[&str]) -> Vec<Lost> {
    attachments
        .iter()
        .filter_map(|attachment| {
            let volume = attachment.spec.source.persistent_volume_name.as_deref()?;
            volumes.contains(&volume).then(|| Lost {
                volume: volume.to_owned(),
                node: attachment.spec.node_name.clone(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_migrations_volumes_count() {
        let attachment = |volume: &str| -> VolumeAttachment {
            serde_json::from_value(json!({
                "metadata": {"name": volume},
                "spec": {"attacher": "a", "nodeName": "n",
                         "source": {"persistentVolumeName": volume}},
            }))
            .unwrap()
        };
        let found = attached(&[attachment("pv-a"), attachment("pv-b")], &["pv-b"]);
        assert_eq!(found.len(), 1);
        assert!(found[0].refusal().message.contains("pv-b"));
    }
}
