//! Stopping and starting a workload by its number of replicas.
//!
//! The number it had is stored on the workload itself, by the same call that sets it to 0: there
//! is no moment at which it is stopped and nobody knows what it was.

pub mod claim_templates;
mod decide;
pub mod pre_stop;

pub use decide::Stopped;

use std::time::Duration;

use ::kube::api::Resource;
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    core::v1::PodSpec,
};
use livmig_engine::{
    result::StepFailure,
    spec::{WorkloadKind, WorkloadRef},
};
use livmig_proto::ids::Epoch;
use serde_json::Value;

use self::decide::Scaled;
use super::api::{
    amend::amend,
    cluster::{Cluster, call},
    mark::{Mark, is_marked, refuse_if_stale},
    watch::await_object,
};

/// How long a workload may take until it is ready.
const READY_MAX: Duration = Duration::from_mins(10);

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

/// Whether a migration has asked the workload to stop, and not yet to start again. One that was made
/// anew meanwhile says nothing of that.
///
/// # Errors
/// When it cannot be read.
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

/// Asks for the replicas that there were, and waits until all of them are ready. No call to stop it
/// that was made before takes effect any more.
///
/// # Errors
/// When it does not carry the mark, cannot be changed, or does not become ready.
pub async fn start(
    cluster: &Cluster,
    workload: &WorkloadRef,
    mark: &Mark,
) -> Result<(), StepFailure> {
    for_kind!(start_of, cluster, workload, mark)
}

/// Takes everything of the migration off the workload, and leaves what is another migration's. One
/// that is still stopped by the migration is started.
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

/// Takes exactly this mark off the workload, where it says nothing else of the migration.
///
/// # Errors
/// When another coordinator has taken over, or it cannot be changed.
pub async fn retract(
    cluster: &Cluster,
    workload: &WorkloadRef,
    mark: &Mark,
) -> Result<(), StepFailure> {
    for_kind!(retract_of, cluster, workload, mark)
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
    Ok(current::<K>(cluster, workload).await?.is_some())
}

/// The workload, if it is still the one that was planned for.
async fn current<K: Scaled>(
    cluster: &Cluster,
    workload: &WorkloadRef,
) -> Result<Option<K>, StepFailure> {
    let api = cluster.api::<K>();
    let found = call(format!("read {workload}"), api.get_opt(&workload.name)).await?;
    Ok(found.filter(|object| object.meta().uid.as_ref() == Some(&workload.uid)))
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
        decide::stamped(object, workload, mark).map(Some)
    })
    .await
}

async fn stopped_of<K: Scaled>(
    cluster: &Cluster,
    workload: &WorkloadRef,
) -> Result<Option<Stopped>, StepFailure> {
    let object = current::<K>(cluster, workload).await?;
    Ok(object.and_then(|object| decide::asked_to_stop(&object)))
}

async fn stop_of<K: Scaled>(
    cluster: &Cluster,
    workload: &WorkloadRef,
    watched_from: &str,
    mark: &Mark,
) -> Result<(), StepFailure> {
    change::<K>(cluster, workload, mark.epoch, |object| {
        decide::stopped(object, workload, cluster.namespace(), watched_from, mark)
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
        let started = decide::started(object, workload, mark)?;
        wanted = started.replicas;
        Ok(Some(started.change))
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
        decide::cleared(object, workload, mark)
    })
    .await
}

async fn retract_of<K: Scaled>(
    cluster: &Cluster,
    workload: &WorkloadRef,
    mark: &Mark,
) -> Result<(), StepFailure> {
    change::<K>(cluster, workload, mark.epoch, |object| {
        Ok(decide::retracted(object, mark))
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::{
        api::uid::Uid,
        testing::{
            objects,
            server::{Course, MemoryServer},
        },
    };

    #[tokio::test]
    async fn a_stop_that_comes_late_finds_the_workload_started() {
        let server = MemoryServer::start().await;
        server.store(&objects::stateful_set("app"));
        server.store(&objects::deployment("app"));
        for (kind, path) in [
            (WorkloadKind::StatefulSet, "/statefulsets/app"),
            (WorkloadKind::Deployment, "/deployments/app"),
        ] {
            let workload = objects::workload(kind, "app");
            let mark = Mark {
                uid: Uid::new("m"),
                epoch: Epoch(1),
                by_hand: String::new(),
            };
            let cluster = server.cluster().await;
            stamp(&cluster, &workload, &mark).await.unwrap();

            let mut late = server.hold("PATCH", path);
            let stopping = tokio::spawn({
                let (cluster, workload, mark) = (cluster.clone(), workload.clone(), mark.clone());
                async move { stop(&cluster, &workload, "1", &mark).await }
            });
            late.arrived().await;
            // The driver has given it up; the server has not.
            stopping.abort();
            start(&cluster, &workload, &mark).await.unwrap();
            late.go(Course::Answered).await;
            clear(&cluster, &workload, &mark).await.unwrap();

            let after = server.get(path).unwrap();
            assert_eq!(after["spec"]["replicas"], 2, "{after}");
            assert_eq!(after["metadata"]["annotations"], json!({}), "{after}");
        }
    }
}
