//! How a workload changes when it is marked, stopped, started or given back: merge patches of it as
//! it was read; none where it stays as it is. Pure.

use std::fmt::Debug;

use ::kube::api::Resource;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{Deployment, StatefulSet},
        core::v1::PodTemplateSpec,
    },
};
use livmig_engine::{result::StepFailure, spec::WorkloadRef};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::kube::api::{
    mark::{Mark, annotation, is_marked},
    names::{BY_HAND, EPOCH, MIGRATION, REPLICAS, STARTED, WATCHED_FROM},
};

/// What both kinds have.
pub(super) trait Scaled:
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

/// Both kinds have the same fields under different types.
macro_rules! scaled {
    ($kind:ty) => {
        impl Scaled for $kind {
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
    };
}

scaled!(StatefulSet);
scaled!(Deployment);

/// It carries the mark.
///
/// # Errors
/// When another migration is at work on it.
pub(super) fn stamped<K: Scaled>(
    object: &K,
    workload: &WorkloadRef,
    mark: &Mark,
) -> Result<Value, StepFailure> {
    if annotation(object, MIGRATION).is_some_and(|other| other != mark.uid.as_str()) {
        return Err(
            StepFailure::permanent(format!("Another migration is at work on {workload}"))
                .with_hint("livmig-coord get"),
        );
    }
    Ok(json!({"metadata": {"annotations": {
        MIGRATION: mark.uid.as_str(),
        EPOCH: mark.epoch.0.to_string(),
    }}}))
}

/// A workload that a migration has asked to stop.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stopped {
    /// The version of the namespace's pods from which on its end was watched.
    pub watched_from: Option<String>,
}

/// Whether a migration has asked it to stop, and not yet to start again.
pub(super) fn asked_to_stop<K: Scaled>(object: &K) -> Option<Stopped> {
    annotation(object, REPLICAS).map(|_| Stopped {
        watched_from: annotation(object, WATCHED_FROM).map(ToOwned::to_owned),
    })
}

/// It has no replicas, and says how many there were, unless it was asked to stop before.
///
/// # Errors
/// When it does not carry the mark.
pub(super) fn stopped<K: Scaled>(
    object: &K,
    workload: &WorkloadRef,
    namespace: &str,
    watched_from: &str,
    mark: &Mark,
) -> Result<Option<Value>, StepFailure> {
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
                BY_HAND: format!("kubectl -n {namespace} scale {workload} --replicas={replicas}"),
            }},
            "spec": {"replicas": 0},
        })),
    })
}

/// How a workload is started.
#[derive(Debug)]
pub(super) struct Started {
    /// The replicas it has then.
    pub(super) replicas: i32,
    /// What changes for it.
    pub(super) change: Value,
}

/// It has the replicas that there were, and says nothing of a stop.
///
/// Something always changes. A call to stop it of which no answer came may still be on its way when
/// nothing is to be seen of it, and takes effect unless the version it names is gone.
///
/// # Errors
/// When it does not carry the mark, or is stopped and does not tell how many replicas there were.
pub(super) fn started<K: Scaled>(
    object: &K,
    workload: &WorkloadRef,
    mark: &Mark,
) -> Result<Started, StepFailure> {
    expect_marked(object, workload, mark)?;
    let missing = missing(object, workload)?;
    let times = annotation(object, STARTED).and_then(|text| text.parse::<u64>().ok());
    Ok(Started {
        replicas: missing.unwrap_or(object.replicas()),
        change: json!({
            "metadata": {"annotations": {
                REPLICAS: null, WATCHED_FROM: null, BY_HAND: null,
                STARTED: times.unwrap_or(0).saturating_add(1).to_string(),
            }},
            "spec": asking_for(missing),
        }),
    })
}

/// It says nothing of the migration, if it is this one's. One that is stopped all the same is
/// started: nobody could tell any more how many replicas there were.
///
/// # Errors
/// When it is stopped and does not tell.
pub(super) fn cleared<K: Scaled>(
    object: &K,
    workload: &WorkloadRef,
    mark: &Mark,
) -> Result<Option<Value>, StepFailure> {
    if !mark.uid.is(annotation(object, MIGRATION)) {
        return Ok(None);
    }
    let missing = missing(object, workload)?;
    Ok(Some(json!({
        "metadata": {"annotations": {
            MIGRATION: null, EPOCH: null,
            REPLICAS: null, WATCHED_FROM: null, BY_HAND: null, STARTED: null,
        }},
        "spec": asking_for(missing),
    })))
}

/// The replicas that a workload is to have again that a migration has stopped. Where it has some,
/// somebody else asks for them by now, and theirs to decide is how many.
fn missing<K: Scaled>(object: &K, workload: &WorkloadRef) -> Result<Option<i32>, StepFailure> {
    match annotation(object, REPLICAS) {
        Some(stored) if object.replicas() == 0 => match stored.parse() {
            Ok(replicas) => Ok(Some(replicas)),
            Err(_) => Err(StepFailure::permanent(format!(
                "{workload} is stopped, and its annotation {REPLICAS} does not say how many \
                 replicas there were, but {stored:?}"
            ))
            .with_hint(format!(
                "start it: kubectl scale {workload} --replicas=N, in its namespace"
            ))),
        },
        _ => Ok(None),
    }
}

/// The change of the workload's `spec`: none where nothing is missing.
fn asking_for(missing: Option<i32>) -> Value {
    missing.map_or_else(|| json!({}), |replicas| json!({"replicas": replicas}))
}

/// It does not carry the mark any more. One that says more keeps it: whoever has taken over sees to
/// the rest, and takes off all of it then.
pub(super) fn retracted<K: Scaled>(object: &K, mark: &Mark) -> Option<Value> {
    let own = is_marked(object, &mark.uid, mark.epoch);
    let rests = [REPLICAS, STARTED].map(|key| annotation(object, key).is_some());
    (own && rests == [false; 2])
        .then(|| json!({"metadata": {"annotations": {MIGRATION: null, EPOCH: null}}}))
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
    use livmig_proto::ids::Epoch;

    use super::*;
    use crate::kube::api::uid::Uid;

    fn workload() -> WorkloadRef {
        serde_json::from_value(json!({"kind": "StatefulSet", "name": "app", "uid": "u"})).unwrap()
    }

    fn mark() -> Mark {
        Mark {
            uid: Uid::new("m"),
            epoch: Epoch(2),
            by_hand: String::new(),
        }
    }

    #[test]
    fn a_workload_that_was_given_back_or_taken_by_another_is_not_changed() {
        let expected = |annotations: Value| {
            let object: StatefulSet =
                serde_json::from_value(json!({"metadata": {"annotations": annotations}})).unwrap();
            expect_marked(&object, &workload(), &mark()).is_ok()
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

    #[test]
    fn a_mark_is_retracted_by_its_own_coordinator_and_where_nothing_rests_on_it() {
        let retracted = |annotations: Value| {
            let object: StatefulSet =
                serde_json::from_value(json!({"metadata": {"annotations": annotations}})).unwrap();
            retracted(&object, &mark()).is_some()
        };
        assert!(retracted(json!({MIGRATION: "m", EPOCH: "2"})));
        for left in [
            json!({MIGRATION: "m", EPOCH: "1"}),
            json!({MIGRATION: "m", EPOCH: "3"}),
            json!({MIGRATION: "n", EPOCH: "2"}),
            json!({MIGRATION: "m", EPOCH: "2", REPLICAS: "3"}),
            json!({MIGRATION: "m", EPOCH: "2", STARTED: "1"}),
        ] {
            assert!(!retracted(left.clone()), "{left}");
        }
    }

    /// A set with the mark and `annotations`, and so many replicas.
    fn marked(replicas: i32, annotations: &Value) -> StatefulSet {
        let mut all = json!({MIGRATION: "m", EPOCH: "2"});
        let more = annotations.as_object().unwrap().clone();
        all.as_object_mut().unwrap().extend(more);
        serde_json::from_value(json!({
            "metadata": {"annotations": all},
            "spec": {"replicas": replicas, "serviceName": "app", "selector": {}, "template": {}},
        }))
        .unwrap()
    }

    #[test]
    fn a_start_voids_a_late_stop_also_where_nothing_is_stopped() {
        for (before, after) in [(json!({}), "1"), (json!({STARTED: "1"}), "2")] {
            let started = started(&marked(3, &before), &workload(), &mark()).unwrap();
            assert_eq!(started.replicas, 3);
            assert_eq!(started.change["metadata"]["annotations"][STARTED], after);
            // How many it has is not this coordinator's to say.
            assert_eq!(started.change["spec"], json!({}));
        }
        let stopped = marked(0, &json!({REPLICAS: "3"}));
        let started = started(&stopped, &workload(), &mark()).unwrap();
        assert_eq!(
            (started.replicas, &started.change["spec"]["replicas"]),
            (3, &json!(3))
        );
    }

    #[test]
    fn a_workload_that_is_stopped_is_started_as_it_is_cleared() {
        let cleared = |replicas: i32, annotations: Value| {
            let object = marked(replicas, &annotations);
            cleared(&object, &workload(), &mark()).map(Option::unwrap)
        };
        assert_eq!(
            cleared(0, json!({REPLICAS: "3"})).unwrap()["spec"],
            json!({"replicas": 3})
        );
        // Somebody else has started it, or has stopped it.
        assert_eq!(
            cleared(1, json!({REPLICAS: "3"})).unwrap()["spec"],
            json!({})
        );
        assert_eq!(cleared(0, json!({})).unwrap()["spec"], json!({}));
        let failure = cleared(0, json!({REPLICAS: "three"})).unwrap_err();
        assert!(failure.message.contains("three"), "{failure}");
    }
}
