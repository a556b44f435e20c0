//! Volumes that must not be deleted: their reclaim policy, pinned and given back.

use ::kube::Api;
use k8s_openapi::api::core::v1::PersistentVolume;
use livmig_engine::result::StepFailure;
use livmig_proto::ids::Epoch;
use serde_json::{Value, json};

use super::{
    amend::{amend, annotation},
    names::{BY_HAND, EPOCH, MIGRATION, RECLAIM},
};

/// The policy under which a volume outlives its claim.
const RETAIN: &str = "Retain";

/// Pins the volume: it outlives its claim, and tells by whose wish and what it was before.
///
/// # Errors
/// When another migration is at work on it, another coordinator has taken over, or it cannot be
/// changed.
pub async fn pin(
    volumes: &Api<PersistentVolume>,
    name: &str,
    migration: &str,
    epoch: Epoch,
) -> Result<(), StepFailure> {
    let pinned = amend(volumes, "volume", name, epoch, |volume| {
        if annotation(volume, MIGRATION).is_some_and(|other| other != migration)
            && annotation(volume, EPOCH).is_some()
        {
            return Err(StepFailure::permanent(format!(
                "Another migration is at work on the volume {name}"
            ))
            .with_hint("livmig-coord get"));
        }
        let policy = policy(volume);
        let stored = annotation(volume, RECLAIM).unwrap_or(policy);
        Ok(Some(json!({
            "metadata": {"annotations": {
                MIGRATION: migration,
                EPOCH: epoch.0.to_string(),
                RECLAIM: stored,
            }},
            "spec": {"persistentVolumeReclaimPolicy": RETAIN},
        })))
    })
    .await?;
    // Read back from what the server stored: a webhook may have had other ideas.
    if policy(&pinned) == RETAIN {
        Ok(())
    } else {
        Err(StepFailure::permanent(format!(
            "The reclaim policy of the volume {name} does not stay {RETAIN}: something else sets it \
             back"
        )))
    }
}

/// Gives a volume its own policy back, if the claim `uid` is bound to it: a volume that is not
/// bound would be deleted at once.
///
/// # Errors
/// When another coordinator has taken over, or it cannot be changed.
pub async fn unpin_bound(
    volumes: &Api<PersistentVolume>,
    name: &str,
    claim_uid: &str,
    epoch: Epoch,
) -> Result<(), StepFailure> {
    amend(volumes, "volume", name, epoch, |volume| {
        let Some(own) = annotation(volume, RECLAIM) else {
            return Ok(None);
        };
        let spec = volume.spec.as_ref();
        let bound = spec
            .and_then(|spec| spec.claim_ref.as_ref())
            .and_then(|claim| claim.uid.as_deref())
            == Some(claim_uid);
        let phase = volume
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        Ok((bound && phase == Some("Bound")).then(|| {
            json!({
                "metadata": unmarked(),
                "spec": {"persistentVolumeReclaimPolicy": own},
            })
        }))
    })
    .await
    .map(|_| ())
}

/// Lets a volume go that holds nothing but a copy: it is deleted with its claim, and nothing of it
/// speaks of the migration any more.
///
/// # Errors
/// When another coordinator has taken over, or it cannot be changed.
pub async fn give_up(
    volumes: &Api<PersistentVolume>,
    name: &str,
    epoch: Epoch,
) -> Result<(), StepFailure> {
    amend(volumes, "volume", name, epoch, |_| {
        Ok(Some(json!({
            "metadata": unmarked(),
            "spec": {"persistentVolumeReclaimPolicy": "Delete"},
        })))
    })
    .await
    .map(|_| ())
}

/// Says on a volume that the workload has left how a person goes back to it.
///
/// # Errors
/// When another coordinator has taken over, or it cannot be changed.
pub async fn note(
    volumes: &Api<PersistentVolume>,
    name: &str,
    text: &str,
    epoch: Epoch,
) -> Result<(), StepFailure> {
    amend(volumes, "volume", name, epoch, |_| {
        Ok(Some(json!({"metadata": {"annotations": {BY_HAND: text}}})))
    })
    .await
    .map(|_| ())
}

/// The change of a volume's metadata that takes everything off it that speaks of a migration.
pub fn unmarked() -> Value {
    json!({"annotations": {MIGRATION: null, EPOCH: null, RECLAIM: null, BY_HAND: null}})
}

fn policy(volume: &PersistentVolume) -> &str {
    volume
        .spec
        .as_ref()
        .and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref())
        .unwrap_or_default()
}
