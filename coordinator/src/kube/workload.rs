//! Stopping and starting a workload by its number of replicas.
//!
//! The number it had is stored on the workload itself, by the same call that sets it to 0: there
//! is no moment at which it is stopped and nobody knows what it was.

use std::{fmt::Debug, time::Duration};

use ::kube::api::Resource;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{Deployment, StatefulSet},
        core::v1::{PodSpec, PodTemplateSpec},
    },
};
use livmig_engine::{
    result::StepFailure,
    spec::{WorkloadKind, WorkloadRef},
};
use livmig_proto::ids::Epoch;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    amend::{amend, annotation, is_marked, refuse_if_stale},
    cluster::{Cluster, call},
    fence::Mark,
    names::{BY_HAND, EPOCH, MIGRATION, REPLICAS, WATCHED_FROM},
    watch::await_object,
};

/// How long a workload may take until it is ready.
const READY_MAX: Duration = Duration::from_mins(10);

/// What both kinds have.
trait Scaled:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// The replicas asked for.
    fn replicas(&self) -> i32;
    /// The replicas that are ready, once the controller has seen the last change.
    fn ready(&self) -> Option<i32>;
    /// The pods it makes.
    fn pods(&self) -> Option<&PodTemplateSpec>;
}

impl Scaled for StatefulSet {
    fn replicas(&self) -> i32 {
        self.spec
            .as_ref()
            .and_then(|spec| spec.replicas)
            .unwrap_or(1)
    }

    fn ready(&self) -> Option<i32> {
        let status = self.status.as_ref()?;
        (status.observed_generation? >= self.metadata.generation?)
            .then(|| status.ready_replicas.unwrap_or(0))
    }

    fn pods(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref().map(|spec| &spec.template)
    }
}

impl Scaled for Deployment {
    fn replicas(&self) -> i32 {
        self.spec
            .as_ref()
            .and_then(|spec| spec.replicas)
            .unwrap_or(1)
    }

    fn ready(&self) -> Option<i32> {
        let status = self.status.as_ref()?;
        (status.observed_generation? >= self.metadata.generation?)
            .then(|| status.ready_replicas.unwrap_or(0))
    }

    fn pods(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref().map(|spec| &spec.template)
    }
}

/// Calls the function for the workload's kind.
macro_rules! for_kind {
    ($function:ident, $cluster:expr, $workload:expr $(, $argument:expr)*) => {
        match $workload.kind {
            WorkloadKind::StatefulSet => {
                $function::<StatefulSet>($cluster, $workload $(, $argument)*).await
            }
            WorkloadKind::Deployment => {
                $function::<Deployment>($cluster, $workload $(, $argument)*).await
            }
        }
    };
}

/// The pods that the workload makes.
///
/// # Errors
/// When it cannot be read, or is another one than was planned for.
pub async fn template(cluster: &Cluster, workload: &WorkloadRef) -> Result<PodSpec, StepFailure> {
    for_kind!(template_of, cluster, workload)
}

/// How many replicas the workload is asked to have now.
///
/// # Errors
/// When it cannot be read, or is another one than was planned for.
pub async fn replicas(cluster: &Cluster, workload: &WorkloadRef) -> Result<i32, StepFailure> {
    for_kind!(replicas_of, cluster, workload)
}

/// Whether the workload is still the one that was planned for.
///
/// # Errors
/// When it cannot be read.
pub async fn is_current(cluster: &Cluster, workload: &WorkloadRef) -> Result<bool, StepFailure> {
    for_kind!(is_current_of, cluster, workload)
}

/// Writes on the workload which migration is at work, under which epoch.
///
/// # Errors
/// When another coordinator has taken over, another migration is at work, or it cannot be changed.
pub async fn stamp(
    cluster: &Cluster,
    workload: &WorkloadRef,
    mark: &Mark,
) -> Result<(), StepFailure> {
    for_kind!(stamp_of, cluster, workload, mark)
}

/// Whether the workload carries exactly this mark.
///
/// # Errors
/// When it carries that of a later coordinator, cannot be read, or is another one than was planned
/// for.
pub async fn carries(
    cluster: &Cluster,
    workload: &WorkloadRef,
    mark: &Mark,
) -> Result<bool, StepFailure> {
    for_kind!(carries_of, cluster, workload, mark)
}

/// A workload that a migration has asked to stop.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stopped {
    /// The version of the namespace's pods from which on its end was watched.
    pub watched_from: Option<String>,
}

/// Whether a migration has asked the workload to stop, and not yet to start again.
///
/// # Errors
/// When it cannot be read, or is another one than was planned for.
pub async fn stopped(
    cluster: &Cluster,
    workload: &WorkloadRef,
) -> Result<Option<Stopped>, StepFailure> {
    for_kind!(stopped_of, cluster, workload)
}

/// Asks for no replicas, and stores how many there were and that its end is `watched_from` that
/// version of the namespace's pods on, unless it was asked to stop before.
///
/// # Errors
/// When it does not carry the mark, or cannot be changed.
pub async fn stop(
    cluster: &Cluster,
    workload: &WorkloadRef,
    watched_from: &str,
    mark: &Mark,
) -> Result<(), StepFailure> {
    for_kind!(stop_of, cluster, workload, watched_from, mark)
}

/// Asks for the replicas that there were, and waits until all of them are ready.
///
/// # Errors
/// When it was asked to stop and does not carry the mark, cannot be changed, or does not become
/// ready.
pub async fn start(
    cluster: &Cluster,
    workload: &WorkloadRef,
    mark: &Mark,
) -> Result<(), StepFailure> {
    for_kind!(start_of, cluster, workload, mark)
}

/// Takes everything of the migration off the workload, and leaves what is another migration's.
///
/// # Errors
/// When another coordinator has taken over, or it cannot be changed.
pub async fn clear(
    cluster: &Cluster,
    workload: &WorkloadRef,
    mark: &Mark,
) -> Result<(), StepFailure> {
    for_kind!(clear_of, cluster, workload, mark)
}

async fn template_of<K: Scaled>(
    cluster: &Cluster,
    workload: &WorkloadRef,
) -> Result<PodSpec, StepFailure> {
    let object = read::<K>(cluster, workload).await?;
    Ok(object
        .pods()
        .and_then(|template| template.spec.clone())
        .unwrap_or_default())
}

async fn replicas_of<K: Scaled>(
    cluster: &Cluster,
    workload: &WorkloadRef,
) -> Result<i32, StepFailure> {
    Ok(read::<K>(cluster, workload).await?.replicas())
}

async fn is_current_of<K: Scaled>(
    cluster: &Cluster,
    workload: &WorkloadRef,
) -> Result<bool, StepFailure> {
    let api = cluster.api::<K>();
    let found = call(format!("read {workload}"), api.get_opt(&workload.name)).await?;
    Ok(found.is_some_and(|object| object.meta().uid.as_ref() == Some(&workload.uid)))
}

async fn read<K: Scaled>(cluster: &Cluster, workload: &WorkloadRef) -> Result<K, StepFailure> {
    let object = call(
        format!("read {workload}"),
        cluster.api::<K>().get(&workload.name),
    )
    .await?;
    expect(&object, workload)?;
    Ok(object)
}

async fn carries_of<K: Scaled>(
    cluster: &Cluster,
    workload: &WorkloadRef,
    mark: &Mark,
) -> Result<bool, StepFailure> {
    let object = read::<K>(cluster, workload).await?;
    let kind = workload.kind.resource();
    refuse_if_stale(&object, kind, &workload.name, mark.epoch)?;
    Ok(is_marked(&object, &mark.uid, mark.epoch))
}

async fn stamp_of<K: Scaled>(
    cluster: &Cluster,
    workload: &WorkloadRef,
    mark: &Mark,
) -> Result<(), StepFailure> {
    change::<K>(cluster, workload, mark.epoch, |object| {
        if annotation(object, MIGRATION).is_some_and(|other| other != mark.uid) {
            return Err(StepFailure::permanent(format!(
                "Another migration is at work on {workload}"
            ))
            .with_hint("livmig-coord get"));
        }
        Ok(Some(json!({"metadata": {"annotations": {
            MIGRATION: mark.uid,
            EPOCH: mark.epoch.0.to_string(),
        }}})))
    })
    .await
}

async fn stopped_of<K: Scaled>(
    cluster: &Cluster,
    workload: &WorkloadRef,
) -> Result<Option<Stopped>, StepFailure> {
    let object = read::<K>(cluster, workload).await?;
    Ok(annotation(&object, REPLICAS).map(|_| Stopped {
        watched_from: annotation(&object, WATCHED_FROM).map(ToOwned::to_owned),
    }))
}

async fn stop_of<K: Scaled>(
    cluster: &Cluster,
    workload: &WorkloadRef,
    watched_from: &str,
    mark: &Mark,
) -> Result<(), StepFailure> {
    change::<K>(cluster, workload, mark.epoch, |object| {
        expect_marked(object, workload, mark)?;
        let replicas = object.replicas();
        let stored = annotation(object, REPLICAS).is_some();
        let first = annotation(object, WATCHED_FROM).filter(|_| stored);
        Ok(match (replicas, stored) {
            (0, true) => None,
            // Somebody has scaled it up since: what they want now is what it gets again.
            _ => Some(json!({
                "metadata": {"annotations": {
                    REPLICAS: replicas.to_string(),
                    WATCHED_FROM: first.unwrap_or(watched_from),
                    BY_HAND: format!("kubectl -n {} scale {workload} --replicas={replicas}",
                        cluster.namespace()),
                }},
                "spec": {"replicas": 0},
            })),
        })
    })
    .await
}

async fn start_of<K: Scaled>(
    cluster: &Cluster,
    workload: &WorkloadRef,
    mark: &Mark,
) -> Result<(), StepFailure> {
    let mut wanted = 0;
    change::<K>(cluster, workload, mark.epoch, |object| {
        let stored = annotation(object, REPLICAS).and_then(|text| text.parse::<i32>().ok());
        if stored.is_some() {
            expect_marked(object, workload, mark)?;
        }
        // More than none is what somebody else asks for by now, and theirs to decide.
        wanted = match (object.replicas(), stored) {
            (0, Some(stored)) => stored,
            (asked, _) => asked,
        };
        Ok(stored.map(|_| {
            json!({
                "metadata": {"annotations": {
                    REPLICAS: null, WATCHED_FROM: null, BY_HAND: null,
                }},
                "spec": {"replicas": wanted},
            })
        }))
    })
    .await?;
    let api = cluster.api::<K>();
    let ready = await_object(
        &api,
        workload.kind.resource(),
        &workload.name,
        |object| match object {
            None => Some(false),
            Some(object) => (object.ready()? >= object.replicas()).then_some(true),
        },
    );
    match tokio::time::timeout(READY_MAX, ready).await {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => Err(StepFailure::undecided(format!(
            "{workload} is gone: somebody has deleted it"
        ))),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(StepFailure::transient(format!(
            "{workload} was asked for {wanted} replicas and is not ready after {} s",
            READY_MAX.as_secs()
        ))
        .with_hint(format!(
            "look at its pods: kubectl -n {} describe pods",
            cluster.namespace()
        ))),
    }
}

async fn clear_of<K: Scaled>(
    cluster: &Cluster,
    workload: &WorkloadRef,
    mark: &Mark,
) -> Result<(), StepFailure> {
    change::<K>(cluster, workload, mark.epoch, |object| {
        let marked = annotation(object, MIGRATION) == Some(mark.uid.as_str());
        Ok(marked.then(|| {
            json!({"metadata": {"annotations": {
                MIGRATION: null, EPOCH: null,
                REPLICAS: null, WATCHED_FROM: null, BY_HAND: null,
            }}})
        }))
    })
    .await
}

async fn change<K: Scaled>(
    cluster: &Cluster,
    workload: &WorkloadRef,
    epoch: Epoch,
    mut decide: impl FnMut(&K) -> Result<Option<Value>, StepFailure> + Send,
) -> Result<(), StepFailure> {
    let kind = workload.kind.resource();
    amend(&cluster.api::<K>(), kind, &workload.name, epoch, |object| {
        expect(object, workload)?;
        decide(object)
    })
    .await
    .map(|_| ())
}

/// Fails unless `object` is the one that was planned for.
fn expect<K: Resource>(object: &K, workload: &WorkloadRef) -> Result<(), StepFailure> {
    if object.meta().uid.as_ref() == Some(&workload.uid) {
        return Ok(());
    }
    Err(StepFailure::undecided(format!(
        "{workload} is not the one the migration was planned for: somebody has re-created it"
    )))
}

/// Fails unless `object` carries the mark. A coordinator that stood still may find it free of any:
/// another one has taken over and brought everything to its end since.
fn expect_marked<K: Resource>(
    object: &K,
    workload: &WorkloadRef,
    mark: &Mark,
) -> Result<(), StepFailure> {
    if is_marked(object, &mark.uid, mark.epoch) {
        return Ok(());
    }
    Err(StepFailure::transient(format!(
        "{workload} does not carry this coordinator's mark any more: another one has taken over, or \
         somebody has taken it off"
    ))
    .with_hint("livmig-coord get"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_that_was_given_back_or_taken_by_another_is_not_changed() {
        let workload: WorkloadRef =
            serde_json::from_value(json!({"kind": "StatefulSet", "name": "app", "uid": "u"}))
                .unwrap();
        let mark = Mark {
            uid: "m".to_owned(),
            epoch: Epoch(2),
            by_hand: String::new(),
        };
        let expected = |annotations: Value| {
            let object: StatefulSet =
                serde_json::from_value(json!({"metadata": {"annotations": annotations}})).unwrap();
            expect_marked(&object, &workload, &mark).is_ok()
        };
        assert!(expected(json!({MIGRATION: "m", EPOCH: "2"})));
        for others in [
            json!({}),
            json!({MIGRATION: "m"}),
            json!({MIGRATION: "m", EPOCH: "1"}),
            json!({MIGRATION: "m", EPOCH: "3"}),
            json!({MIGRATION: "n", EPOCH: "2"}),
        ] {
            assert!(!expected(others.clone()), "{others}");
        }
    }
}
