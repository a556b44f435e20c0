//! The fence: our finalizer on a claim that is being deleted. Kubernetes itself then refuses new
//! consumers, and a claim that only our finalizer holds is used by nothing.

use ::kube::api::{DeleteParams, Preconditions};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use livmig_engine::result::StepFailure;
use serde_json::json;

use crate::kube::{
    api::{
        amend::{amend, patch},
        cluster::{Cluster, ClusterError, call},
        mark::{Mark, annotation, is_marked, refuse_if_stale},
        names::{BY_HAND, EPOCH, FENCE, MIGRATION},
        uid::Uid,
        watch::await_object,
    },
    objects::claim::is_fenced,
};
use livmig_proto::ids::Epoch;

/// Marks the claim `name`, if it still is the one with that UID: nobody raises the fence on a claim
/// that does not carry their mark, and changing it here voids what an earlier coordinator has read.
///
/// # Errors
/// When another coordinator has taken over, or it cannot be changed.
pub async fn prepare(
    cluster: &Cluster,
    name: &str,
    uid: &Uid<PersistentVolumeClaim>,
    mark: &Mark,
) -> Result<(), StepFailure> {
    let marks = json!({MIGRATION: mark.uid.as_str(), EPOCH: mark.epoch.0.to_string()});
    annotate(cluster, name, mark.epoch, |claim| {
        let planned = uid.is(claim.metadata.uid.as_deref());
        (planned && !is_marked(claim, &mark.uid, mark.epoch)).then(|| marks.clone())
    })
    .await
}

/// Takes the mark off the claim `name`, if it is the migration's and no fence is up.
///
/// # Errors
/// When another coordinator has taken over, or it cannot be changed.
pub async fn withdraw(cluster: &Cluster, name: &str, mark: &Mark) -> Result<(), StepFailure> {
    annotate(cluster, name, mark.epoch, |claim| {
        let ours = mark.uid.is(annotation(claim, MIGRATION));
        (ours && !is_fenced(claim)).then(|| json!({MIGRATION: null, EPOCH: null}))
    })
    .await
}

/// The same, but only where it is exactly this mark.
///
/// # Errors
/// When another coordinator has taken over, or it cannot be changed.
pub async fn retract(cluster: &Cluster, name: &str, mark: &Mark) -> Result<(), StepFailure> {
    annotate(cluster, name, mark.epoch, |claim| {
        let own = is_marked(claim, &mark.uid, mark.epoch);
        (own && !is_fenced(claim)).then(|| json!({MIGRATION: null, EPOCH: null}))
    })
    .await
}

/// Changes annotations of the claim `name` as `decide` says, if it is there.
async fn annotate(
    cluster: &Cluster,
    name: &str,
    epoch: Epoch,
    mut decide: impl FnMut(&PersistentVolumeClaim) -> Option<serde_json::Value>,
) -> Result<(), StepFailure> {
    let claims = cluster.api::<PersistentVolumeClaim>();
    let found = call(format!("read the claim {name}"), claims.get_opt(name)).await?;
    if found.is_none() {
        return Ok(());
    }
    amend(&claims, "claim", name, epoch, |claim| {
        Ok(decide(claim).map(|annotations| json!({"metadata": {"annotations": annotations}})))
    })
    .await
    .map(|_| ())
}

/// Raises the fence on the claim `name`, which carries the mark, whatever state it is in.
///
/// # Errors
/// When the claim is not the one that was planned for or not marked, or cannot be changed.
pub async fn ensure(
    cluster: &Cluster,
    name: &str,
    uid: &Uid<PersistentVolumeClaim>,
    mark: &Mark,
) -> Result<(), StepFailure> {
    raise_where(cluster, name, mark, |claim| {
        if !uid.is(claim.metadata.uid.as_deref()) {
            return Err(StepFailure::permanent(format!(
                "The claim {name} is not the one the migration was planned for: somebody has \
                 re-created it"
            )));
        }
        if !is_marked(claim, &mark.uid, mark.epoch) {
            return Err(StepFailure::permanent(format!(
                "The claim {name} does not carry this coordinator's mark any more: another one has \
                 taken over, or somebody has taken it off"
            ))
            .with_hint("livmig-coord get"));
        }
        Ok(())
    })
    .await
}

/// Raises the fence on the claim `name`, whoever made it, as long as it leads to `volume`.
///
/// # Errors
/// When another coordinator has taken over, or it cannot be changed.
pub async fn close(
    cluster: &Cluster,
    name: &str,
    volume: &str,
    mark: &Mark,
) -> Result<(), StepFailure> {
    raise_where(cluster, name, mark, |claim| {
        let spec = claim.spec.as_ref();
        if spec.and_then(|spec| spec.volume_name.as_deref()) == Some(volume) {
            return Ok(());
        }
        Err(StepFailure::transient(format!(
            "The claim {name} no longer leads to {volume}: somebody has made it anew"
        )))
    })
    .await
}

/// Raises the fence on the claim `name` as it is, if that is as `expect` wants it.
async fn raise_where(
    cluster: &Cluster,
    name: &str,
    mark: &Mark,
    expect: impl Fn(&PersistentVolumeClaim) -> Result<(), StepFailure>,
) -> Result<(), StepFailure> {
    let claims = cluster.api::<PersistentVolumeClaim>();
    loop {
        let claim = call(format!("read the claim {name}"), claims.get(name)).await?;
        refuse_if_stale(&claim, "claim", name, mark.epoch)?;
        expect(&claim)?;
        match raise(cluster, name, &claim, mark).await {
            // Changed in between: look again.
            Err(error) if error.is_conflict() => {}
            raised => return Ok(raised?),
        }
    }
}

/// Raises the fence on the claim as it was read.
///
/// # Errors
/// A conflict when it has changed since.
pub async fn raise(
    cluster: &Cluster,
    name: &str,
    read: &PersistentVolumeClaim,
    mark: &Mark,
) -> Result<(), ClusterError> {
    let claims = cluster.api::<PersistentVolumeClaim>();
    let mut finalizers = read.metadata.finalizers.clone().unwrap_or_default();
    let held = is_fenced(read);
    let dying = read.metadata.deletion_timestamp.is_some();
    let epoch = mark.epoch.0.to_string();
    // One that an earlier coordinator has raised is stamped anew, so that its calls fail.
    let claim = if held && annotation(read, EPOCH) == Some(&epoch) {
        read.clone()
    } else {
        if !held {
            finalizers.push(FENCE.to_owned());
        }
        let change = json!({"metadata": {
            "finalizers": finalizers,
            "annotations": {
                MIGRATION: mark.uid.as_str(),
                EPOCH: epoch,
                BY_HAND: mark.by_hand,
            },
        }});
        patch(&claims, "claim", name, read, change).await?
    };
    if dying {
        return Ok(());
    }
    let parameters = DeleteParams {
        preconditions: Some(Preconditions {
            uid: claim.metadata.uid.clone(),
            resource_version: claim.metadata.resource_version.clone(),
        }),
        ..DeleteParams::default()
    };
    call(
        format!("fence the claim {name}"),
        claims.delete(name, &parameters),
    )
    .await
    .map(|_| ())
}

/// The change that takes the fence off `claim`, with what it said of itself, and leaves what others
/// hold it by.
pub fn lifted(claim: &PersistentVolumeClaim) -> serde_json::Value {
    let mut finalizers = claim.metadata.finalizers.clone().unwrap_or_default();
    finalizers.retain(|finalizer| finalizer != FENCE);
    json!({"metadata": {
        "finalizers": finalizers,
        "annotations": {MIGRATION: null, EPOCH: null, BY_HAND: null},
    }})
}

/// Waits until nothing but the fence holds the claim: then nothing uses it and nothing can.
///
/// # Errors
/// When the claim is gone, or cannot be watched.
pub async fn await_sole_holder(cluster: &Cluster, name: &str) -> Result<(), StepFailure> {
    let claims = cluster.api::<PersistentVolumeClaim>();
    let alone = await_object(&claims, "claim", name, sole_holder).await?;
    if alone {
        Ok(())
    } else {
        Err(StepFailure::permanent(format!(
            "The fence on the claim {name} is gone: somebody has lifted it"
        )))
    }
}

/// Whether only the fence holds the claim; none while something else still does.
fn sole_holder(claim: Option<&PersistentVolumeClaim>) -> Option<bool> {
    let Some(claim) = claim else {
        return Some(false);
    };
    let finalizers = claim.metadata.finalizers.as_deref().unwrap_or_default();
    let held = is_fenced(claim);
    if claim.metadata.deletion_timestamp.is_none() || !held {
        // Made anew, or opened by somebody: it never becomes ours again by waiting.
        return Some(false);
    }
    (finalizers.len() == 1).then_some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_that_is_no_longer_fenced_is_not_waited_for() {
        let claim = |dying: bool, finalizers: &[&str]| -> PersistentVolumeClaim {
            let at = dying.then_some("2026-01-01T00:00:00Z");
            serde_json::from_value(json!({"metadata": {
                "deletionTimestamp": at, "finalizers": finalizers,
            }}))
            .unwrap()
        };
        let protection = "kubernetes.io/pvc-protection";
        assert_eq!(sole_holder(None), Some(false));
        assert_eq!(sole_holder(Some(&claim(false, &[protection]))), Some(false));
        assert_eq!(sole_holder(Some(&claim(true, &[protection]))), Some(false));
        assert_eq!(sole_holder(Some(&claim(true, &[protection, FENCE]))), None);
        assert_eq!(sole_holder(Some(&claim(true, &[FENCE]))), Some(true));
    }
}
