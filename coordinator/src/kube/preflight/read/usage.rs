//! What the claims hold, as the kubelets see it.

use std::collections::{BTreeMap, BTreeSet};

use ::kube::core::Request;
use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize;
use tokio::task::JoinSet;

use super::fetch::reachable;
use crate::kube::{
    api::cluster::{Cluster, ClusterError, call},
    preflight::snapshot::{Unread, Usage},
};

/// A kubelet's summary, as far as it is used.
#[derive(Deserialize)]
struct Summary {
    #[serde(default)]
    pods: Vec<PodStats>,
}

#[derive(Deserialize)]
struct PodStats {
    #[serde(default)]
    volume: Vec<VolumeStats>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VolumeStats {
    pvc_ref: Option<ClaimRef>,
    capacity_bytes: Option<u64>,
    used_bytes: Option<u64>,
    inodes_used: Option<u64>,
}

#[derive(Deserialize)]
struct ClaimRef {
    name: String,
    namespace: String,
}

/// What the claims of `pods` hold, by claim, and the nodes that would not say. A node that cannot
/// be asked is no failure: the first pass sees what there is.
pub(crate) async fn of(
    cluster: &Cluster,
    pods: &[Pod],
) -> Result<(BTreeMap<String, Usage>, Vec<Unread>), ClusterError> {
    let nodes: BTreeSet<String> = pods
        .iter()
        .filter(|pod| names_a_claim(pod))
        .filter_map(|pod| pod.spec.as_ref()?.node_name.clone())
        .collect();
    let mut asked = JoinSet::new();
    for node in nodes {
        let cluster = cluster.clone();
        asked.spawn(async move {
            let answer = summary(&cluster, &node).await;
            (node, answer)
        });
    }
    let mut usage = BTreeMap::new();
    let mut unread = Vec::new();
    while let Some(answer) = asked.join_next().await {
        let Ok((node, answer)) = answer else {
            continue;
        };
        let what = format!("node/{node} (stats)");
        match answer {
            Ok(summary) => usage.extend(by_claim(summary, cluster.namespace())),
            Err(
                error @ (ClusterError::Refused { code: 500.., .. } | ClusterError::Silent { .. }),
            ) => unread.push(Unread {
                what,
                why: error.to_string(),
            }),
            Err(error) => unread.extend(reachable::<()>(Err(error), what)?.err()),
        }
    }
    unread.sort_by(|a, b| a.what.cmp(&b.what));
    Ok((usage, unread))
}

async fn summary(cluster: &Cluster, node: &str) -> Result<Summary, ClusterError> {
    let what = format!("read how much volumes on node {node} hold");
    let client = cluster.client();
    let answer = async {
        let request = Request::new("/api/v1/nodes")
            .get_subresource("proxy/stats/summary", node)
            .map_err(::kube::Error::BuildRequest)?;
        client.request(request).await
    };
    call(what, answer).await
}

fn names_a_claim(pod: &Pod) -> bool {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
    volumes
        .into_iter()
        .flatten()
        .any(|volume| volume.persistent_volume_claim.is_some())
}

fn by_claim(summary: Summary, namespace: &str) -> BTreeMap<String, Usage> {
    summary
        .pods
        .into_iter()
        .flat_map(|pod| pod.volume)
        .filter_map(|volume| {
            let claim = volume.pvc_ref?;
            if claim.namespace != namespace {
                return None;
            }
            let usage = Usage {
                capacity: volume.capacity_bytes?,
                used: volume.used_bytes?,
                inodes: volume.inodes_used,
            };
            Some((claim.name, usage))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_summary_is_read_for_the_claims_of_one_namespace() {
        let volume = |claim: &str, namespace: &str| {
            json!({"name": "v", "capacityBytes": 100, "usedBytes": 7, "inodesUsed": 3,
                   "pvcRef": {"name": claim, "namespace": namespace}})
        };
        let summary = json!({"node": {}, "pods": [
            {"podRef": {}, "volume": [
                volume("data-db-0", "shop"),
                volume("data-db-0", "other"),
                {"name": "token", "usedBytes": 1},
                {"name": "new", "pvcRef": {"name": "unknown", "namespace": "shop"}},
            ]},
            {"podRef": {}},
        ]});
        let usage = by_claim(serde_json::from_value(summary).unwrap(), "shop");
        assert_eq!(usage.len(), 1);
        assert_eq!(
            usage["data-db-0"],
            Usage {
                capacity: 100,
                used: 7,
                inodes: Some(3)
            }
        );
    }
}
