//! Volumes that must not be deleted: their reclaim policy, pinned and given back.

use ::kube::Api;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use livmig_engine::{result::StepFailure, spec::MigrationSpec};
use serde_json::{Value, json};

use crate::kube::api::{
    amend::amend,
    cluster::call,
    mark::{Mark, annotation, is_marked},
    names::{BY_HAND, EPOCH, MIGRATION, RECLAIM},
    uid::Uid,
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
    mark: &Mark,
) -> Result<(), StepFailure> {
    let pinned = amend(volumes, "volume", name, mark.epoch, |volume| {
        if annotation(volume, MIGRATION).is_some_and(|other| other != mark.uid.as_str())
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
                MIGRATION: mark.uid.as_str(),
                EPOCH: mark.epoch.0.to_string(),
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

/// Gives a volume its own policy back, if it carries the mark of the migration and the claim
/// `claim` is bound to it: a volume that is not bound would be deleted at once.
///
/// # Errors
/// When another coordinator has taken over, or it cannot be changed.
pub async fn unpin_bound(
    volumes: &Api<PersistentVolume>,
    name: &str,
    claim: &Uid<PersistentVolumeClaim>,
    mark: &Mark,
) -> Result<(), StepFailure> {
    amend(volumes, "volume", name, mark.epoch, |volume| {
        Ok(unpinned(volume, claim, &mark.uid))
    })
    .await
    .map(|_| ())
}

/// The same, but only where the volume carries exactly this mark.
///
/// # Errors
/// When another coordinator has taken over, or it cannot be changed.
pub async fn retract(
    volumes: &Api<PersistentVolume>,
    name: &str,
    claim: &Uid<PersistentVolumeClaim>,
    mark: &Mark,
) -> Result<(), StepFailure> {
    amend(volumes, "volume", name, mark.epoch, |volume| {
        let own = is_marked(volume, &mark.uid, mark.epoch);
        Ok(unpinned(volume, claim, &mark.uid).filter(|_| own))
    })
    .await
    .map(|_| ())
}

/// The change by which a volume gets its own policy back; none when it is not this migration's to
/// give back. Epochs alone do not tell that: those of two migrations have nothing to do with each
/// other, and a coordinator that stood still may find the pin of the next migration.
fn unpinned(
    volume: &PersistentVolume,
    claim: &Uid<PersistentVolumeClaim>,
    migration: &Uid<MigrationSpec>,
) -> Option<Value> {
    let own = annotation(volume, RECLAIM)?;
    let ours = migration.is(annotation(volume, MIGRATION));
    let status = volume.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref());
    let bound = phase == Some("Bound") && is_for(volume, claim);
    (ours && bound).then(|| {
        json!({
            "metadata": unmarked(),
            "spec": {"persistentVolumeReclaimPolicy": own},
        })
    })
}

/// Lets a volume go that holds nothing but a copy, as long as it is that of the staging claim
/// `staging`: it is deleted with its claim, and nothing of it speaks of the migration
/// any more. One that was never marked was never pinned, and goes as its class says.
///
/// # Errors
/// When the volume is no longer the staging claim's, another coordinator has taken over, or it
/// cannot be changed.
pub async fn give_up(
    volumes: &Api<PersistentVolume>,
    name: &str,
    staging: &Uid<PersistentVolumeClaim>,
    mark: &Mark,
) -> Result<(), StepFailure> {
    amend(volumes, "volume", name, mark.epoch, |volume| {
        given_up(volume, name, staging, &mark.uid)
    })
    .await
    .map(|_| ())
}

/// The change by which a copy is let go. A coordinator that stood still may find the volume that
/// the workload runs on by now: what another one has completed carries no mark any more.
fn given_up(
    volume: &PersistentVolume,
    name: &str,
    staging: &Uid<PersistentVolumeClaim>,
    migration: &Uid<MigrationSpec>,
) -> Result<Option<Value>, StepFailure> {
    let mark = annotation(volume, MIGRATION);
    if !is_for(volume, staging) || mark.is_some_and(|mark| mark != migration.as_str()) {
        return Err(StepFailure::permanent(format!(
            "The new volume {name} was to be given up and is no longer the staging claim's: another \
             coordinator has taken over, or somebody has bound it elsewhere"
        ))
        .with_hint(format!(
            "livmig-coord get; look at the volume: kubectl describe pv {name}"
        )));
    }
    Ok(mark.map(|_| {
        json!({
            "metadata": unmarked(),
            "spec": {"persistentVolumeReclaimPolicy": "Delete"},
        })
    }))
}

/// Says on a volume that the workload has left, and that carries the mark of the migration, how a
/// person goes back to it.
///
/// # Errors
/// When another coordinator has taken over, or it cannot be changed.
pub async fn note(
    volumes: &Api<PersistentVolume>,
    name: &str,
    text: &str,
    mark: &Mark,
) -> Result<(), StepFailure> {
    amend(volumes, "volume", name, mark.epoch, |volume| {
        let ours = mark.uid.is(annotation(volume, MIGRATION));
        Ok(ours.then(|| json!({"metadata": {"annotations": {BY_HAND: text}}})))
    })
    .await
    .map(|_| ())
}

/// The change of a volume's metadata that takes everything off it that speaks of a migration.
pub fn unmarked() -> Value {
    json!({"annotations": {MIGRATION: null, EPOCH: null, RECLAIM: null, BY_HAND: null}})
}

/// Whether the volume, and what it holds, outlives a claim that lets it go.
pub fn is_retained(volume: &PersistentVolume) -> bool {
    policy(volume) == RETAIN
}

/// Why the volume would not be kept once the claim that is bound to it goes, if so: its policy was
/// pinned long before that, and others may have changed it since.
pub fn unkept(volume: &PersistentVolume) -> Option<String> {
    if volume.metadata.deletion_timestamp.is_some() {
        return Some("it is being deleted: somebody has asked for that".to_owned());
    }
    (!is_retained(volume)).then(|| {
        format!(
            "its reclaim policy is {} and no longer {RETAIN}: somebody has set it back",
            policy(volume)
        )
    })
}

/// Fails unless the volume `name` is kept when the claim that is bound to it goes.
///
/// # Errors
/// When it would not be kept, is not there, or cannot be read.
pub async fn ensure_kept(volumes: &Api<PersistentVolume>, name: &str) -> Result<(), StepFailure> {
    let what = format!("read the volume {name}");
    let why = match call(what, volumes.get_opt(name)).await? {
        Some(volume) => unkept(&volume),
        None => Some("it is gone: somebody has deleted it".to_owned()),
    };
    why.map_or(Ok(()), |why| {
        Err(StepFailure::permanent(format!(
            "The volume {name} would not outlast the migration: {why}"
        ))
        .with_hint(format!(
            "find out what changes it: kubectl get pv {name} -o yaml --show-managed-fields; then \
             migrate again"
        )))
    })
}

fn policy(volume: &PersistentVolume) -> &str {
    volume
        .spec
        .as_ref()
        .and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref())
        .unwrap_or_default()
}

/// Whether the volume is for the very claim with this UID.
fn is_for(volume: &PersistentVolume, claim: &Uid<PersistentVolumeClaim>) -> bool {
    let spec = volume.spec.as_ref();
    let reference = spec.and_then(|spec| spec.claim_ref.as_ref());
    claim.is(reference.and_then(|reference| reference.uid.as_deref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pinned(migration: Option<&str>, claim_uid: &str) -> PersistentVolume {
        let marks = migration.map(|uid| json!({MIGRATION: uid, EPOCH: "1", RECLAIM: "Delete"}));
        serde_json::from_value(json!({
            "metadata": {"name": "pv-a", "annotations": marks},
            "spec": {"persistentVolumeReclaimPolicy": RETAIN,
                "claimRef": {"namespace": "shop", "name": "c", "uid": claim_uid}},
            "status": {"phase": "Bound"},
        }))
        .unwrap()
    }

    #[test]
    fn a_coordinator_that_wakes_late_leaves_the_pin_of_the_next_migration() {
        let given =
            |mark, claim| unpinned(&pinned(mark, claim), &Uid::new("c"), &Uid::new("first"));
        let change = given(Some("first"), "c").unwrap();
        assert_eq!(change["spec"]["persistentVolumeReclaimPolicy"], "Delete");
        assert_eq!(given(Some("second"), "c"), None);
        assert_eq!(given(None, "c"), None);
        assert_eq!(given(Some("first"), "d"), None);
    }

    #[test]
    fn only_a_copy_of_the_staging_claim_is_given_up() {
        let given = |mark, claim| {
            let (staging, migration) = (Uid::new("stage"), Uid::new("first"));
            given_up(&pinned(mark, claim), "pv-a", &staging, &migration)
        };
        let change = given(Some("first"), "stage").unwrap().unwrap();
        assert_eq!(change["spec"]["persistentVolumeReclaimPolicy"], "Delete");
        // Completed by another coordinator, and the workload runs on it.
        for mark in [None, Some("first"), Some("second")] {
            let refused = given(mark, "data").unwrap_err();
            assert!(refused.message.contains("pv-a"), "{refused}");
        }
        assert!(given(Some("second"), "stage").is_err());
        assert_eq!(
            given(None, "stage").unwrap(),
            None,
            "goes as its class says"
        );
    }

    #[test]
    fn a_volume_is_kept_while_its_policy_holds_and_nobody_deletes_it() {
        let mut volume = pinned(Some("first"), "c");
        assert_eq!(unkept(&volume), None);
        volume.metadata.deletion_timestamp =
            serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        assert!(unkept(&volume).is_some_and(|why| why.contains("being deleted")));
        volume.metadata.deletion_timestamp = None;
        if let Some(spec) = &mut volume.spec {
            spec.persistent_volume_reclaim_policy = Some("Delete".to_owned());
        }
        assert!(unkept(&volume).is_some_and(|why| why.contains("policy is Delete")));
    }
}
