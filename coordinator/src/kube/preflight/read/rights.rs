//! Asks the API server which of the rights that a migration needs are missing.

use ::kube::api::{Api, PostParams};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use tokio::task::JoinSet;

use super::fetch::reachable;
use crate::kube::{
    api::cluster::{Cluster, ClusterError, call},
    objects::network_policy::Network,
    preflight::{
        request::MigrationRequest,
        rights::{Right, needed},
    },
};

/// The rights of `needed` that the user lacks, in its order; none when the server would not say.
pub(crate) async fn lacking(
    cluster: &Cluster,
    wish: &MigrationRequest,
    network: Network,
) -> Result<Option<Vec<Right>>, ClusterError> {
    let mut asked = JoinSet::new();
    for (index, right) in needed(wish, network).into_iter().enumerate() {
        let cluster = cluster.clone();
        asked.spawn(async move { (index, right, allowed(&cluster, &right).await) });
    }
    let mut lacking = Vec::new();
    while let Some(answer) = asked.join_next().await {
        let Ok((index, right, allowed)) = answer else {
            return Ok(None);
        };
        match reachable(allowed, String::new())? {
            Ok(true) => {}
            Ok(false) => lacking.push((index, right)),
            Err(_) => return Ok(None),
        }
    }
    lacking.sort_by_key(|(index, _)| *index);
    Ok(Some(lacking.into_iter().map(|(_, right)| right).collect()))
}

async fn allowed(cluster: &Cluster, right: &Right) -> Result<bool, ClusterError> {
    let text = |word: &str| (!word.is_empty()).then(|| word.to_owned());
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                verb: text(right.verb),
                group: text(right.group),
                resource: text(right.resource),
                subresource: text(right.subresource),
                namespace: right.namespaced.then(|| cluster.namespace().to_owned()),
                ..ResourceAttributes::default()
            }),
            non_resource_attributes: None,
        },
        ..SelfSubjectAccessReview::default()
    };
    let api: Api<SelfSubjectAccessReview> = Api::all(cluster.client());
    let answer = call(format!("ask for the right to {right}"), async {
        api.create(&PostParams::default(), &review).await
    });
    Ok(answer.await?.status.is_some_and(|status| status.allowed))
}
