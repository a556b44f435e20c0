//! A watch of the namespace's pods without a gap: who uses a claim, and how each that did went.
//!
//! What was seen is a value ([`Seen`]); the task only feeds it. A watch that breaks is taken up
//! from the version it had come to, which loses nothing; only when the server no longer knows that
//! version is there a gap, and it is counted.

use std::collections::BTreeMap;

use ::kube::{
    Api,
    api::{ListParams, Resource as _, WatchEvent, WatchParams},
};
use futures::{StreamExt as _, pin_mut};
use k8s_openapi::api::core::v1::Pod;
use tokio::{sync::watch, task::AbortHandle};

use super::{
    cluster::{ClusterError, call},
    pods::PodFacts,
};

/// What the watch has seen.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Seen {
    /// The pods that exist, by UID.
    pub pods: BTreeMap<String, PodFacts>,
    /// The pods that were seen to go, as they were last.
    pub gone: BTreeMap<String, PodFacts>,
    /// How often something may have been missed.
    pub gaps: u64,
}

impl Seen {
    /// The pods that name one of `claims` and are not the migration's own.
    pub fn consumers<'a>(&'a self, claims: &'a [String], uid: &'a str) -> Vec<&'a PodFacts> {
        self.pods
            .values()
            .filter(|pod| claims.iter().any(|claim| pod.consumes(claim, uid)))
            .collect()
    }

    /// Pods that named one of `claims` and went although something in them may still run: they
    /// were deleted by force.
    pub fn went_unproven<'a>(&'a self, claims: &'a [String], uid: &'a str) -> Vec<&'a PodFacts> {
        self.gone
            .values()
            .filter(|pod| claims.iter().any(|claim| pod.consumes(claim, uid)))
            .filter(|pod| !pod.ended)
            .collect()
    }

    fn list(&mut self, pods: &[Pod], gap: bool) {
        if gap {
            self.gaps += 1;
        }
        self.pods = pods
            .iter()
            .map(PodFacts::of)
            .map(|pod| (pod.uid.clone(), pod))
            .collect();
    }

    fn note(&mut self, pod: &Pod) {
        let facts = PodFacts::of(pod);
        self.pods.insert(facts.uid.clone(), facts);
    }

    fn forget(&mut self, pod: &Pod) {
        let facts = PodFacts::of(pod);
        self.pods.remove(&facts.uid);
        self.gone.insert(facts.uid.clone(), facts);
    }
}

/// The watch, until it is dropped.
#[derive(Debug)]
pub struct Consumers {
    seen: watch::Receiver<Seen>,
    task: AbortHandle,
}

impl Consumers {
    /// Lists the pods and watches them from that version on.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn watch(pods: Api<Pod>) -> Result<Self, ClusterError> {
        let (seeing, seen) = watch::channel(Seen::default());
        let version = list(&pods, &seeing, false).await?;
        let task = tokio::spawn(follow(pods, seeing, version)).abort_handle();
        Ok(Self { seen, task })
    }

    /// What was seen up to now.
    pub fn now(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Waits until `wanted` finds what it looks for.
    pub async fn wait<T>(&self, mut wanted: impl FnMut(&Seen) -> Option<T>) -> Option<T> {
        let mut seen = self.seen.clone();
        loop {
            if let Some(found) = wanted(&seen.borrow_and_update()) {
                return Some(found);
            }
            // The task never ends by itself.
            seen.changed().await.ok()?;
        }
    }
}

impl Drop for Consumers {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn list(
    pods: &Api<Pod>,
    seeing: &watch::Sender<Seen>,
    gap: bool,
) -> Result<String, ClusterError> {
    let list = call("list the pods", pods.list(&ListParams::default())).await?;
    seeing.send_modify(|seen| seen.list(&list.items, gap));
    Ok(list.metadata.resource_version.unwrap_or_default())
}

/// Follows the pods for ever.
async fn follow(pods: Api<Pod>, seeing: watch::Sender<Seen>, mut version: String) {
    loop {
        if !follow_once(&pods, &seeing, &mut version).await {
            // What went in between is not known, only what is there now.
            match list(&pods, &seeing, true).await {
                Ok(listed) => version = listed,
                Err(error) => tracing::warn!(%error, "pods could not be listed"),
            }
        }
        // Whoever waits for the API server does not help it by asking at once.
        tokio::time::sleep(super::watch::PAUSE).await;
    }
}

/// Follows one watch to its end. False when it cannot be taken up where it ended.
async fn follow_once(pods: &Api<Pod>, seeing: &watch::Sender<Seen>, version: &mut String) -> bool {
    let parameters = WatchParams::default().timeout(super::watch::WATCH_SECONDS);
    let events = match call("watch the pods", pods.watch(&parameters, version)).await {
        Ok(events) => events,
        Err(error) => {
            tracing::debug!(%error, "pods could not be watched");
            return error.code() != Some(410);
        }
    };
    pin_mut!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(WatchEvent::Added(pod) | WatchEvent::Modified(pod)) => {
                come_to(version, &pod);
                seeing.send_modify(|seen| seen.note(&pod));
            }
            Ok(WatchEvent::Deleted(pod)) => {
                come_to(version, &pod);
                seeing.send_modify(|seen| seen.forget(&pod));
            }
            Ok(WatchEvent::Bookmark(mark)) => version.clone_from(&mark.metadata.resource_version),
            Ok(WatchEvent::Error(status)) => return status.code != 410,
            Err(error) => {
                tracing::debug!(%error, "the watch of the pods broke");
                return true;
            }
        }
    }
    true
}

fn come_to(version: &mut String, pod: &Pod) {
    if let Some(at) = &pod.meta().resource_version {
        version.clone_from(at);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(uid: &str, state: &serde_json::Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": uid, "uid": uid},
            "spec": {"nodeName": "n", "containers": [], "volumes": [
                {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]},
            "status": {"containerStatuses": [{"name": "c", "image": "", "imageID": "",
                "ready": false, "restartCount": 0, "state": state}]},
        }))
        .unwrap()
    }

    #[test]
    fn only_a_pod_whose_containers_ended_has_gone_for_certain() {
        let claims = ["data".to_owned()];
        let mut seen = Seen::default();
        let running = pod("a", &json!({"running": {}}));
        seen.list(std::slice::from_ref(&running), false);
        assert_eq!(seen.consumers(&claims, "m").len(), 1);
        seen.forget(&pod("a", &json!({"terminated": {"exitCode": 0}})));
        assert!(seen.consumers(&claims, "m").is_empty());
        assert!(seen.went_unproven(&claims, "m").is_empty());
        seen.note(&pod("b", &json!({"running": {}})));
        seen.forget(&pod("b", &json!({"running": {}})));
        assert_eq!(seen.went_unproven(&claims, "m").len(), 1);
        seen.list(&[], true);
        assert_eq!(seen.gaps, 1);
    }
}
