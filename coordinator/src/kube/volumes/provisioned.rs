//! Which volume was provisioned for a claim.

use ::kube::api::ListParams;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use livmig_engine::result::StepFailure;

use crate::kube::{
    api::{
        cluster::{Cluster, call},
        names::MIGRATION,
    },
    migration::{Claim, Migration},
};

/// The volume that was provisioned for `claim`: the staging claim's, or, once that is
/// gone, the one that carries the migration's mark and is for the claim's name.
///
/// # Errors
/// When claims or volumes cannot be read.
pub async fn volume(
    cluster: &Cluster,
    migration: &Migration,
    claim: &Claim,
) -> Result<Option<String>, StepFailure> {
    let staging = &claim.staging;
    let claims = cluster.api::<PersistentVolumeClaim>();
    let what = format!("read the claim {staging}");
    if let Some(found) = call(what, claims.get_opt(staging)).await?
        && let Some(volume) = found.spec.and_then(|spec| spec.volume_name)
        && !volume.is_empty()
    {
        return Ok(Some(volume));
    }
    let volumes = cluster.cluster_api::<PersistentVolume>();
    let list = call("list the volumes", volumes.list(&ListParams::default())).await?;
    Ok(list.items.into_iter().find_map(|volume| {
        let mark = volume
            .metadata
            .annotations
            .as_ref()
            .and_then(|annotations| annotations.get(MIGRATION));
        let is_marked = migration.uid.is(mark.map(String::as_str));
        let name = volume.metadata.name?;
        let reference = volume.spec?.claim_ref?;
        let named = reference.name.as_deref();
        let ours = reference.namespace.as_deref() == Some(cluster.namespace())
            && (named == Some(claim.claim.as_str()) || named == Some(staging.as_str()));
        (is_marked && ours && name != claim.volume).then_some(name)
    }))
}
