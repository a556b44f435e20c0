//! Letting the volumes go that a migration which has ended leaves behind: only what nobody uses.
//!
//! What a claim is bound to is written on the volume, and the change rests on the volume as it was
//! read. The claims are looked at beside it, for those that name a volume and wait for it.

use ::kube::api::ListParams;
use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim};
use livmig_engine::{result::StepFailure, spec::MigrationSpec};
use livmig_proto::ids::Epoch;
use serde_json::{Value, json};

use crate::kube::{
    api::{
        amend::amend,
        cluster::{Cluster, ClusterError, call},
        mark::annotation,
        names::MIGRATION,
        uid::Uid,
    },
    migration::Migration,
    volumes::reclaim::{self, is_retained},
};

/// Which of the two volumes of a claim.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Whose {
    /// The old one, which the workload has left.
    Old,
    /// The copy that a migration which came to nothing has made.
    Copy,
}

/// A volume that may go, and what of it is the migration's own.
#[derive(Clone, Copy, Debug)]
pub struct LeftVolume<'a> {
    /// The migration's name.
    pub migration: &'a str,
    /// Its UID.
    pub uid: &'a Uid<MigrationSpec>,
    /// The volume's name.
    pub volume: &'a str,
    /// The name of its staging claim.
    pub staging: &'a str,
    /// Which one it is.
    pub whose: Whose,
}

/// Fails when one of the old volumes is in use: before anything is removed.
///
/// # Errors
/// When one is, or it cannot be told.
pub async fn ensure_unused(cluster: &Cluster, migration: &Migration) -> Result<(), StepFailure> {
    let volumes = cluster.cluster_api::<PersistentVolume>();
    let claims = claims(cluster).await?;
    for claim in &migration.claims {
        let left = LeftVolume {
            migration: migration.spec.name.as_str(),
            uid: &migration.uid,
            volume: &claim.volume,
            staging: &claim.staging,
            whose: Whose::Old,
        };
        let what = format!("read the volume {}", left.volume);
        let found = call(what, volumes.get_opt(left.volume)).await?;
        let used = found.and_then(|volume| used(&volume, &claims, cluster.namespace(), left));
        if let Some(why) = used {
            return Err(refusal(left, &why));
        }
    }
    Ok(())
}

/// Lets a volume go the way of its class: with the policy Delete its provisioner deletes it. Why a
/// copy is in use and was left as it is, if so.
///
/// # Errors
/// When an old volume is in use or not the migration's any more, or it cannot be changed.
pub async fn release(
    cluster: &Cluster,
    left: LeftVolume<'_>,
    epoch: Epoch,
) -> Result<Option<String>, StepFailure> {
    let name = left.volume;
    let volumes = cluster.cluster_api::<PersistentVolume>();
    let what = format!("read the volume {name}");
    if call(what, volumes.get_opt(name)).await?.is_none() {
        return Ok(None);
    }
    let claims = claims(cluster).await?;
    let mut kept = None;
    amend(&volumes, "volume", name, epoch, |volume| {
        kept = used(volume, &claims, cluster.namespace(), left);
        match (&kept, left.whose) {
            (Some(why), Whose::Old) => Err(refusal(left, why)),
            (Some(_), Whose::Copy) => Ok(None),
            (None, _) => going(volume, left),
        }
    })
    .await?;
    Ok(kept)
}

async fn claims(cluster: &Cluster) -> Result<Vec<PersistentVolumeClaim>, ClusterError> {
    let claims = cluster.api::<PersistentVolumeClaim>();
    let everything = ListParams::default();
    let list = call("list the claims", claims.list(&everything)).await?;
    Ok(list.items)
}

fn refusal(left: LeftVolume<'_>, why: &str) -> StepFailure {
    let (volume, name) = (left.volume, left.migration);
    StepFailure::permanent(format!("The old volume {volume} is in use: {why}")).with_hint(format!(
        "livmig-coord cleanup {name} forgets the migration and leaves the volume as it is; to have it \
         deleted, first see to it that no claim is bound to it or names it"
    ))
}

/// Who uses the volume, if anybody does or is about to. The staging claim of a copy does not count:
/// it goes with it.
fn used(
    volume: &PersistentVolume,
    claims: &[PersistentVolumeClaim],
    namespace: &str,
    left: LeftVolume<'_>,
) -> Option<String> {
    let staging = |name: Option<&str>| name == Some(left.staging);
    let own = |name: Option<&str>| left.whose == Whose::Copy && staging(name);
    let names_it = claims.iter().find(|claim| {
        volume_of(claim) == Some(left.volume) && !own(claim.metadata.name.as_deref())
    });
    if let Some(claim) = names_it {
        let claim = claim.metadata.name.as_deref().unwrap_or_default();
        return Some(format!("the claim {namespace}/{claim} names it"));
    }
    let Some(reference) = reference(volume) else {
        return Some("it is reserved for no claim, and any that comes may get it".to_owned());
    };
    let name = reference.name.as_deref();
    let at = format!(
        "{}/{}",
        reference.namespace.as_deref().unwrap_or_default(),
        name.unwrap_or_default()
    );
    if reference.namespace.as_deref() != Some(namespace) {
        return Some(format!("it is for the claim {at}"));
    }
    let Some(uid) = holder(reference) else {
        // Parked for the staging claim is how a migration leaves what it does not need.
        let there = claims
            .iter()
            .find(|claim| claim.metadata.name.as_deref() == name);
        let elsewhere = there.is_some_and(|claim| volume_of(claim).is_some());
        let free = match left.whose {
            Whose::Old => staging(name) && (there.is_none() || elsewhere),
            Whose::Copy => staging(name) || elsewhere,
        };
        return (!free).then(|| format!("it is reserved for the claim {at}"));
    };
    let lives = claims
        .iter()
        .any(|claim| claim.metadata.uid.as_deref() == Some(uid));
    ((lives || phase(volume) == Some("Bound")) && !own(name))
        .then(|| format!("it is bound to the claim {at}"))
}

/// The change by which an unused volume goes; none when it goes already.
fn going(volume: &PersistentVolume, left: LeftVolume<'_>) -> Result<Option<Value>, StepFailure> {
    let holder = reference(volume).and_then(holder);
    match annotation(volume, MIGRATION) {
        mark if left.uid.is(mark) => {}
        // A copy that was provisioned and never pinned goes with its claim, as its class says.
        None if left.whose == Whose::Copy => return Ok(None),
        // What an earlier try has let go may linger until its provisioner has deleted it.
        None if !is_retained(volume)
            && (matches!(phase(volume), Some("Released" | "Failed")) || left.uid.is(holder)) =>
        {
            return Ok(None);
        }
        _ => {
            return Err(StepFailure::permanent(format!(
                "The volume {} does not carry this migration's mark any more",
                left.volume
            ))
            .with_hint(format!(
                "livmig-coord cleanup {} forgets the migration and leaves the volume as it is",
                left.migration
            )));
        }
    }
    // Kubernetes reclaims what a certain claim has left, and keeps for ever what is reserved for a
    // name: no claim has this UID.
    let spec = if holder.is_none() {
        json!({
            "persistentVolumeReclaimPolicy": "Delete",
            "claimRef": {"uid": left.uid.as_str()},
        })
    } else {
        json!({"persistentVolumeReclaimPolicy": "Delete"})
    };
    Ok(Some(json!({
        "metadata": reclaim::unmarked(),
        "spec": spec,
    })))
}

fn reference(volume: &PersistentVolume) -> Option<&ObjectReference> {
    volume.spec.as_ref()?.claim_ref.as_ref()
}

/// The UID of the very claim that a volume is for; none when it waits for whichever claim gets the
/// name.
fn holder(reference: &ObjectReference) -> Option<&str> {
    reference.uid.as_deref().filter(|uid| !uid.is_empty())
}

fn phase(volume: &PersistentVolume) -> Option<&str> {
    volume.status.as_ref()?.phase.as_deref()
}

/// The volume that a claim is bound to or asks for.
fn volume_of(claim: &PersistentVolumeClaim) -> Option<&str> {
    let name = claim.spec.as_ref()?.volume_name.as_deref()?;
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests;
