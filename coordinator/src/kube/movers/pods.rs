//! The pods of movers, from the moment they may be made until they are gone.

use std::time::Duration;

use ::kube::api::{DeleteParams, Preconditions};
use k8s_openapi::api::core::v1::{ContainerStatus, PersistentVolumeClaim, Pod};
use livmig_engine::result::StepFailure;

use crate::kube::{
    api::{
        cluster::{Cluster, call},
        create::absent_is_fine,
        watch::await_object,
    },
    objects::pod::PodFacts,
};

/// How long a pod may take until it runs: its volume is provisioned and its image pulled.
const RUNNING_MAX: Duration = Duration::from_mins(5);

/// Fails when the mover's pod `name` is not there and none can start on `claim` any more: no pod is
/// scheduled that names a claim that is being deleted, whoever waits how long.
pub(super) async fn startable(
    cluster: &Cluster,
    name: &str,
    claim: &str,
) -> Result<(), StepFailure> {
    let (pods, claims) = (cluster.api::<Pod>(), cluster.api::<PersistentVolumeClaim>());
    let (pod, found) = tokio::try_join!(
        call(format!("read the pod {name}"), pods.get_opt(name)),
        call(format!("read the claim {claim}"), claims.get_opt(claim)),
    )?;
    match refusal(name, pod.as_ref(), claim, found.as_ref()) {
        Some(failure) => Err(failure),
        None => Ok(()),
    }
}

/// Why the pod `name` cannot come to run on `claim`, as far as that can be told.
fn refusal(
    name: &str,
    pod: Option<&Pod>,
    claim: &str,
    found: Option<&PersistentVolumeClaim>,
) -> Option<StepFailure> {
    let scheduled = pod
        .and_then(|pod| pod.spec.as_ref())
        .is_some_and(|spec| spec.node_name.is_some());
    let why = match found {
        None => "is gone",
        Some(claim) if claim.metadata.deletion_timestamp.is_some() => "is being deleted",
        Some(_) => return None,
    };
    (!scheduled).then(|| {
        StepFailure::permanent(format!(
            "The mover's pod {name} does not run any more, and none can start: the claim {claim} {why}"
        ))
        .with_hint("the data is on the old volume as it was; migrate again")
    })
}

/// Waits until the pod runs.
///
/// # Errors
/// When it cannot run, with what Kubernetes says of it.
pub(super) async fn running(cluster: &Cluster, name: &str) -> Result<PodFacts, StepFailure> {
    let pods = cluster.api::<Pod>();
    let mut last = String::new();
    let wait = await_object(&pods, "pod", name, |pod| match pod {
        None => Some(Err(StepFailure::transient(format!(
            "The mover's pod {name} is gone: somebody has deleted it"
        )))),
        Some(pod) => match state(pod) {
            PodState::Running => Some(Ok(PodFacts::of(pod))),
            PodState::Broken(why) => Some(Err(StepFailure::permanent(format!(
                "The mover's pod {name} cannot run: {why}"
            ))
            .with_hint(format!(
                "kubectl -n {} describe pod {name}",
                cluster.namespace()
            )))),
            PodState::Pending(why) => {
                last = why;
                None
            }
        },
    });
    match tokio::time::timeout(RUNNING_MAX, wait).await {
        Ok(ended) => ended?,
        Err(_) => Err(StepFailure::transient(format!(
            "The mover's pod {name} does not run after {} s: {last}",
            RUNNING_MAX.as_secs()
        ))
        .with_hint(format!(
            "kubectl -n {} describe pod {name}",
            cluster.namespace()
        ))),
    }
}

enum PodState {
    Running,
    Pending(String),
    Broken(String),
}

fn state(pod: &Pod) -> PodState {
    let status = pod.status.as_ref();
    let container: Option<&ContainerStatus> = status
        .and_then(|status| status.container_statuses.as_ref())
        .and_then(|containers| containers.first());
    let container_state = container.and_then(|container| container.state.as_ref());
    if pod.metadata.deletion_timestamp.is_some() {
        return PodState::Pending("it is being deleted".to_owned());
    }
    if container_state.is_some_and(|state| state.running.is_some()) {
        return PodState::Running;
    }
    let waiting = container_state.and_then(|state| state.waiting.as_ref());
    let reason = waiting
        .and_then(|waiting| waiting.reason.as_deref())
        .unwrap_or_default();
    let message = waiting
        .and_then(|waiting| waiting.message.as_deref())
        .unwrap_or_default();
    if matches!(
        reason,
        "ErrImagePull"
            | "ImagePullBackOff"
            | "InvalidImageName"
            | "ErrImageNeverPull"
            | "CreateContainerConfigError"
            | "CreateContainerError"
            | "CrashLoopBackOff"
    ) {
        let ended = container
            .and_then(|container| container.last_state.as_ref())
            .and_then(|last| last.terminated.as_ref())
            .and_then(|ended| ended.message.clone())
            .unwrap_or_default();
        return PodState::Broken(format!("{reason}: {message} {ended}").trim().to_owned());
    }
    let ended = container_state.and_then(|state| state.terminated.as_ref());
    if let Some(phase @ ("Failed" | "Succeeded")) =
        status.and_then(|status| status.phase.as_deref())
    {
        let message = ended
            .and_then(|ended| ended.message.clone())
            .unwrap_or_default();
        return PodState::Broken(
            format!("it has ended ({phase}) {message}")
                .trim()
                .to_owned(),
        );
    }
    let unscheduled = status
        .and_then(|status| status.conditions.as_ref())
        .into_iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
        .and_then(|condition| condition.message.clone());
    PodState::Pending(unscheduled.unwrap_or_else(|| format!("{reason} {message}")))
}

/// Deletes the pod `name` if it is there and waits until it is gone; at once when `grace` is 0.
pub(super) async fn no_pod(cluster: &Cluster, name: &str, grace: u32) -> Result<(), StepFailure> {
    let pods = cluster.api::<Pod>();
    let Some(found) = call(format!("read the pod {name}"), pods.get_opt(name)).await? else {
        return Ok(());
    };
    let uid = found.metadata.uid;
    delete_pod(cluster, name, uid.as_deref(), grace).await?;
    await_object(&pods, "pod", name, |pod| {
        pod.is_none_or(|pod| pod.metadata.uid != uid).then_some(())
    })
    .await?;
    Ok(())
}

/// Deletes the pod `name` with the UID `uid` if it is there; at once when `grace` is 0.
pub(super) async fn delete_pod(
    cluster: &Cluster,
    name: &str,
    uid: Option<&str>,
    grace: u32,
) -> Result<(), StepFailure> {
    let pods = cluster.api::<Pod>();
    let parameters = DeleteParams {
        grace_period_seconds: Some(grace),
        preconditions: Some(Preconditions {
            uid: uid.map(str::to_owned),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    let deleted = call(
        format!("delete the pod {name}"),
        pods.delete(name, &parameters),
    )
    .await;
    Ok(absent_is_fine(deleted.map(|_| ()))?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn behind_the_fence_a_missing_pod_fails_at_once_and_a_running_one_does_not() {
        let pod = |node: Option<&str>| -> Pod {
            serde_json::from_value(json!({"spec": {"containers": [], "nodeName": node}})).unwrap()
        };
        let claim = |dying: bool| -> PersistentVolumeClaim {
            let at = dying.then_some("2026-01-01T00:00:00Z");
            serde_json::from_value(json!({"metadata": {"deletionTimestamp": at}})).unwrap()
        };
        let refused = |pod: Option<&Pod>, claim| refusal("src", pod, "data", claim);
        let (dying, live) = (claim(true), claim(false));
        assert!(refused(None, Some(&dying)).is_some_and(|failure| {
            failure.message.contains("is being deleted")
                && failure.kind == livmig_engine::result::FailureKind::Permanent
        }));
        assert!(
            refused(Some(&pod(None)), Some(&dying)).is_some(),
            "unscheduled"
        );
        assert!(refused(None, None).is_some());
        assert!(refused(Some(&pod(Some("n"))), Some(&dying)).is_none());
        assert!(refused(None, Some(&live)).is_none());
    }
}
