//! The movers' own network policies: made before the movers, gone after them.

use ::kube::api::{DeleteParams, ListParams};
use futures::future::try_join_all;
use k8s_openapi::{
    api::networking::v1::NetworkPolicy, apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use livmig_engine::result::StepFailure;
use livmig_proto::control::Side;

use super::PodMovers;
use crate::kube::{
    api::{
        cluster::{ClusterError, call},
        create::{self, absent_is_fine},
        names::MIGRATION,
    },
    objects::network_policy::{self, Network},
};

impl PodMovers {
    /// Lets the movers meet where the namespace has network policies.
    ///
    /// # Errors
    /// When a policy is needed and cannot be made.
    pub async fn open_network(&self, owner: &OwnerReference) -> Result<(), StepFailure> {
        let policies = self.policies(&ListParams::default()).await?;
        if Network::of(&policies) == Network::Open {
            return Ok(());
        }
        let api = self.cluster.api::<NetworkPolicy>();
        let (api, uid) = (&api, &self.migration.uid);
        let both = [Side::Source, Side::Destination].map(|side| async move {
            let name = self.migration.names.network(side);
            let labels = self.labels("network");
            let policy = network_policy::policy(&name, side, uid, labels, owner.clone());
            create::object(api, "network policy", &policy).await
        });
        try_join_all(both).await.map(|_| ())
    }

    /// Deletes the policies, where there are any.
    ///
    /// # Errors
    /// When one of them cannot be deleted.
    pub async fn close_network(&self) -> Result<(), StepFailure> {
        let ours = ListParams::default().labels(&format!("{MIGRATION}={}", self.migration.uid));
        let policies = self.policies(&ours).await?;
        let api = self.cluster.api::<NetworkPolicy>();
        let parameters = DeleteParams::default();
        let (api, parameters) = (&api, &parameters);
        try_join_all(policies.iter().map(|policy| async move {
            let name = policy.metadata.name.as_deref().unwrap_or_default();
            let deleted = call(
                format!("delete the network policy {name}"),
                api.delete(name, parameters),
            )
            .await;
            absent_is_fine(deleted.map(|_| ()))
        }))
        .await?;
        Ok(())
    }

    /// The policies of the namespace. Where they may not be seen there are none to go by; if one
    /// keeps the movers from meeting after all, the first pass says so.
    async fn policies(&self, which: &ListParams) -> Result<Vec<NetworkPolicy>, ClusterError> {
        let api = self.cluster.api::<NetworkPolicy>();
        match call("list the network policies", api.list(which)).await {
            Ok(list) => Ok(list.items),
            Err(error) if error.is_lack_of_rights() || error.is_not_found() => {
                tracing::warn!(%error, "the movers get no network policies");
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }
}
