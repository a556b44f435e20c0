//! A watch of the namespace's pods without a gap: who uses a claim, and how each that did went.
//!
//! What was seen is a value ([`PodsSeen`]); the task only feeds it. A watch that breaks is taken up
//! from the version it had come to, which loses nothing; only when the server no longer knows that
//! version is there a gap, and it is counted. A later coordinator takes the watch up likewise, from
//! the version that stands on the stopped workload: a server knows what was there some minutes ago
//! (etcd is compacted every 5, and the cache of watches keeps no more).

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    time::{Duration, Instant},
};

use ::kube::{
    Api,
    api::{ListParams, Resource as _, VersionMatch, WatchEvent, WatchParams},
};
use futures::{StreamExt as _, pin_mut};
use k8s_openapi::api::core::v1::Pod;
use livmig_engine::spec::MigrationSpec;
use tokio::{sync::watch, task::AbortHandle};

use crate::kube::{
    api::{
        cluster::{ClusterError, call},
        uid::Uid,
    },
    migration::Migration,
    objects::pod::PodFacts,
};

/// How long a watch lasts that only catches up; the API knows no shorter one.
const CATCH_UP_SECONDS: u32 = 1;

/// How much earlier than asked for a server may end a watch, by clocks that run apart.
const SLACK: Duration = Duration::from_millis(200);

/// The claims that a question is about, and the migration whose own pods do not count as their users.
#[derive(Clone, Debug)]
pub struct WatchedClaims {
    /// What they are called.
    pub names: Vec<String>,
    /// The migration.
    pub migration: Uid<MigrationSpec>,
}

impl WatchedClaims {
    /// All that `migration` moves.
    pub fn all(migration: &Migration) -> Self {
        Self::only(migration.claim_names(), migration)
    }

    /// Those of the `names` alone.
    pub fn only(names: Vec<String>, migration: &Migration) -> Self {
        Self {
            names,
            migration: migration.uid.clone(),
        }
    }

    /// Whether `pod` names one of them and is not the migration's own.
    pub fn are_used_by(&self, pod: &PodFacts) -> bool {
        self.names
            .iter()
            .any(|claim| pod.consumes(claim, &self.migration))
    }
}

/// What the watch has seen.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PodsSeen {
    /// The pods that exist, by UID.
    pub pods: BTreeMap<String, PodFacts>,
    /// The pods that were seen to go, as they were last.
    pub gone: BTreeMap<String, PodFacts>,
    /// The UIDs of the pods that existed when the watch began.
    pub first: BTreeSet<String>,
    /// How often something may have been missed.
    pub gaps: u64,
    /// The version of the namespace's pods that this is.
    pub version: String,
}

impl PodsSeen {
    /// The pods that name one of `claims` and are not the migration's own.
    pub fn consumers<'a>(&'a self, claims: &WatchedClaims) -> Vec<&'a PodFacts> {
        self.pods
            .values()
            .filter(|pod| claims.are_used_by(pod))
            .collect()
    }

    /// Those of them that may still write: all but those that are over as `node_local` counts it.
    pub fn possible_writers<'a>(
        &'a self,
        claims: &WatchedClaims,
        node_local: &NodeLocal,
    ) -> Vec<&'a PodFacts> {
        let mut pods = self.consumers(claims);
        pods.retain(|pod| !node_local.is_over(pod, &claims.names));
        pods
    }

    /// The pods that named one of `claims`, were on a node, and are gone.
    pub fn former<'a>(&'a self, claims: &WatchedClaims) -> Vec<&'a PodFacts> {
        self.gone
            .values()
            .filter(|pod| claims.are_used_by(pod))
            .filter(|pod| pod.node.is_some())
            .collect()
    }

    /// A pod on a node that names one of `claims`, or did before it went, and is not among the
    /// `known`.
    pub fn stranger<'a>(
        &'a self,
        claims: &WatchedClaims,
        known: &BTreeSet<String>,
    ) -> Option<&'a PodFacts> {
        let users = self.consumers(claims).into_iter();
        users
            .filter(|pod| pod.node.is_some())
            .chain(self.former(claims))
            .find(|pod| !known.contains(&pod.uid))
    }

    /// Whether the watch has come to where none of the migration's own pods names one of `claims`.
    pub fn own_are_gone(&self, claims: &WatchedClaims) -> bool {
        !self.pods.values().any(|pod| {
            claims.migration.is(pod.migration.as_deref())
                && claims.names.iter().any(|claim| pod.claims.contains(claim))
        })
    }

    /// Pods that named one of `claims` and went although something in them may still run: they
    /// were deleted by force.
    pub fn went_unproven<'a>(&'a self, claims: &WatchedClaims) -> Vec<&'a PodFacts> {
        self.gone
            .values()
            .filter(|pod| claims.are_used_by(pod))
            .filter(|pod| !pod.has_ended())
            .collect()
    }

    fn list(&mut self, pods: &[Pod], version: Option<String>, gap: bool) {
        if gap {
            self.gaps += 1;
        }
        let begins = self.version.is_empty();
        self.version = version.unwrap_or_default();
        self.pods = pods
            .iter()
            .map(PodFacts::of)
            .map(|pod| (pod.uid.clone(), pod))
            .collect();
        if begins {
            self.first = self.pods.keys().cloned().collect();
        }
    }

    fn note(&mut self, pod: &Pod) {
        self.come_to(pod);
        let facts = PodFacts::of(pod);
        self.pods.insert(facts.uid.clone(), facts);
    }

    fn forget(&mut self, pod: &Pod) {
        self.come_to(pod);
        let facts = PodFacts::of(pod);
        self.pods.remove(&facts.uid);
        self.gone.insert(facts.uid.clone(), facts);
    }

    fn come_to(&mut self, pod: &Pod) {
        if let Some(at) = &pod.meta().resource_version {
            self.version.clone_from(at);
        }
    }
}

/// The claims, and the node of each, whose volume is a file system of one kernel. There all mounts
/// show the same: what a pod has written is seen as soon as it has ended. Elsewhere some of it may
/// come to light only when the pod's own mount goes, which is when the pod does.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NodeLocal(BTreeMap<String, String>);

impl NodeLocal {
    /// File systems that are one and the same at every mount of a kernel, as movers name them.
    const FILE_SYSTEMS: [&str; 3] = ["ext", "xfs", "btrfs"];

    /// Notes that the mover on `node` has found the `file_system` on the volume of `claim`.
    pub fn note(&mut self, claim: &str, node: &str, file_system: &str) {
        if Self::FILE_SYSTEMS.contains(&file_system) {
            self.0.insert(claim.to_owned(), node.to_owned());
        }
    }

    /// Whether `pod` is over, and all it has written to `claims` can be seen.
    pub fn is_over(&self, pod: &PodFacts, claims: &[String]) -> bool {
        let mut used = claims.iter().filter(|claim| pod.claims.contains(*claim));
        pod.is_over() && used.all(|claim| self.0.get(claim) == pod.node.as_ref())
    }
}

/// The watch, until it is dropped.
#[derive(Debug)]
pub struct Consumers {
    seen: watch::Receiver<PodsSeen>,
    task: AbortHandle,
}

impl Consumers {
    /// Lists the pods and watches them from that version on.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn watch(pods: Api<Pod>) -> Result<Self, ClusterError> {
        let (seeing, seen) = watch::channel(PodsSeen::default());
        list(&pods, &seeing, &ListParams::default(), false).await?;
        Ok(Self::following(pods, seeing, seen))
    }

    /// Takes up a watch that had come to `version`: what happened since is seen as if it had never
    /// ended. That is a gap when the server no longer knows.
    ///
    /// # Errors
    /// When the pods cannot be listed.
    pub async fn take_up(pods: Api<Pod>, version: Option<&str>) -> Result<Self, ClusterError> {
        let (seeing, seen) = watch::channel(PodsSeen::default());
        let then = match version {
            Some(version) => {
                let then = ListParams::default()
                    .at(version)
                    .matching(VersionMatch::Exact);
                match list(&pods, &seeing, &then, false).await {
                    Err(error) if error.code() == Some(410) => None,
                    listed => Some(listed?),
                }
            }
            None => None,
        };
        // What has happened since is sent at once, and the server ends the watch a second later:
        // nobody may take what was there then for what is there now.
        let caught_up = match then {
            Some(()) => follow_once(&pods, &seeing, CATCH_UP_SECONDS).await,
            None => Followed::Lost,
        };
        match caught_up {
            Followed::ToItsEnd => {}
            Followed::Broken(error) => return Err(error),
            Followed::Lost => list(&pods, &seeing, &ListParams::default(), true).await?,
        }
        Ok(Self::following(pods, seeing, seen))
    }

    fn following(
        pods: Api<Pod>,
        seeing: watch::Sender<PodsSeen>,
        seen: watch::Receiver<PodsSeen>,
    ) -> Self {
        let task = tokio::spawn(follow(pods, seeing)).abort_handle();
        Self { seen, task }
    }

    /// What was seen up to now.
    pub fn now(&self) -> PodsSeen {
        self.seen.borrow().clone()
    }

    /// Waits until `wanted` finds what it looks for.
    pub async fn wait<T>(&self, mut wanted: impl FnMut(&PodsSeen) -> Option<T>) -> Option<T> {
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
    seeing: &watch::Sender<PodsSeen>,
    parameters: &ListParams,
    gap: bool,
) -> Result<(), ClusterError> {
    let list = call("list the pods", pods.list(parameters)).await?;
    let version = list.metadata.resource_version;
    seeing.send_modify(|seen| seen.list(&list.items, version, gap));
    Ok(())
}

/// Follows the pods for ever.
async fn follow(pods: Api<Pod>, seeing: watch::Sender<PodsSeen>) {
    loop {
        match follow_once(&pods, &seeing, crate::kube::api::watch::WATCH_SECONDS).await {
            Followed::ToItsEnd => {}
            Followed::Broken(error) => tracing::debug!(%error, "the watch of the pods broke"),
            // What went in between is not known, only what is there now.
            Followed::Lost => {
                if let Err(error) = list(&pods, &seeing, &ListParams::default(), true).await {
                    tracing::warn!(%error, "pods could not be listed");
                }
            }
        }
        // Whoever waits for the API server does not help it by asking at once.
        tokio::time::sleep(crate::kube::api::watch::PAUSE).await;
    }
}

/// How a watch went.
enum Followed {
    /// The server ended it, having sent all there was.
    ToItsEnd,
    /// It can be taken up where it broke.
    Broken(ClusterError),
    /// The server no longer knows where it had come to.
    Lost,
}

/// Follows one watch.
async fn follow_once(pods: &Api<Pod>, seeing: &watch::Sender<PodsSeen>, seconds: u32) -> Followed {
    let parameters = WatchParams::default().timeout(seconds);
    let version = seeing.borrow().version.clone();
    let what = "watch the pods";
    let broken = |error: ClusterError| match error.code() {
        Some(410) => Followed::Lost,
        _ => Followed::Broken(error),
    };
    let begun = Instant::now();
    let events = match call(what, pods.watch(&parameters, &version)).await {
        Ok(events) => events,
        Err(error) => return broken(error),
    };
    pin_mut!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(WatchEvent::Added(pod) | WatchEvent::Modified(pod)) => {
                seeing.send_modify(|seen| seen.note(&pod));
            }
            Ok(WatchEvent::Deleted(pod)) => seeing.send_modify(|seen| seen.forget(&pod)),
            Ok(WatchEvent::Bookmark(mark)) => {
                let version = mark.metadata.resource_version;
                seeing.send_modify(|seen| seen.version = version);
            }
            Ok(WatchEvent::Error(status)) => {
                return broken(ClusterError::of(
                    what.to_owned(),
                    ::kube::Error::Api(status),
                ));
            }
            Err(error) => return broken(ClusterError::of(what.to_owned(), error)),
        }
    }
    // A connection that was cut looks like an end.
    if begun.elapsed() + SLACK < Duration::from_secs(u64::from(seconds)) {
        let cut = io::Error::from(io::ErrorKind::UnexpectedEof);
        return broken(ClusterError::of(
            what.to_owned(),
            ::kube::Error::ReadEvents(cut),
        ));
    }
    Followed::ToItsEnd
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::api::names;

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

    fn watched(migration: &str) -> WatchedClaims {
        WatchedClaims {
            names: vec!["data".to_owned()],
            migration: Uid::new(migration),
        }
    }

    #[test]
    fn the_migration_s_own_pods_are_seen_to_go_and_are_nobody_s_users() {
        let claims = watched("m");
        let mut mover = pod("m-src", &json!({"running": {}}));
        mover.metadata.labels = Some([(names::MIGRATION.to_owned(), "m".to_owned())].into());
        let mut seen = PodsSeen::default();
        seen.note(&mover);
        assert!(!seen.own_are_gone(&claims));
        assert!(seen.own_are_gone(&watched("other")));
        seen.forget(&mover);
        assert!(seen.own_are_gone(&claims));
        assert!(seen.former(&claims).is_empty());
    }

    #[test]
    fn a_pod_that_is_over_writes_no_more_where_its_file_system_is_the_node_s_own() {
        let claims = watched("m");
        let mut over = pod("a", &json!({"terminated": {"exitCode": 0}}));
        over.metadata.deletion_timestamp =
            serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        over.status.as_mut().unwrap().phase = Some("Succeeded".to_owned());
        let mut seen = PodsSeen::default();
        seen.note(&over);
        let writers = |node: &str, file_system: &str| {
            let mut node_local = NodeLocal::default();
            node_local.note("data", node, file_system);
            seen.possible_writers(&claims, &node_local).len()
        };
        assert_eq!(seen.consumers(&claims).len(), 1);
        assert_eq!((writers("n", "ext"), writers("n", "xfs")), (0, 0));
        assert_eq!(writers("n", "nfs"), 1);
        assert_eq!(writers("other", "ext"), 1);
        assert_eq!(
            seen.possible_writers(&claims, &NodeLocal::default()).len(),
            1
        );
    }

    #[test]
    fn only_a_pod_whose_containers_ended_has_gone_for_certain() {
        let claims = watched("m");
        let mut seen = PodsSeen::default();
        let running = pod("a", &json!({"running": {}}));
        seen.list(std::slice::from_ref(&running), None, false);
        assert_eq!(seen.consumers(&claims).len(), 1);
        seen.forget(&pod("a", &json!({"terminated": {"exitCode": 0}})));
        assert!(seen.consumers(&claims).is_empty());
        assert!(seen.went_unproven(&claims).is_empty());
        seen.note(&pod("b", &json!({"running": {}})));
        seen.forget(&pod("b", &json!({"running": {}})));
        assert_eq!(seen.went_unproven(&claims).len(), 1);
        assert_eq!(seen.former(&claims).len(), 2);
        seen.list(&[], Some("7".to_owned()), true);
        assert_eq!((seen.gaps, seen.version.as_str()), (1, "7"));
    }

    #[test]
    fn whoever_used_a_claim_and_was_not_there_before_is_a_stranger_also_once_it_is_gone() {
        let claims = watched("m");
        let ended = json!({"terminated": {"exitCode": 0}});
        let mut seen = PodsSeen::default();
        seen.list(
            &[pod("own", &json!({"running": {}}))],
            Some("1".to_owned()),
            false,
        );
        seen.forget(&pod("own", &ended));
        let stranger = |seen: &PodsSeen, known: &BTreeSet<String>| {
            seen.stranger(&claims, known).map(|pod| pod.uid.clone())
        };
        assert_eq!(stranger(&seen, &seen.first), None);
        let mut nowhere = pod("b", &json!({"waiting": {}}));
        nowhere.spec.as_mut().unwrap().node_name = None;
        seen.note(&nowhere);
        assert_eq!(stranger(&seen, &seen.first), None);
        seen.note(&pod("b", &json!({"running": {}})));
        assert_eq!(stranger(&seen, &seen.first).as_deref(), Some("b"));
        seen.forget(&pod("b", &ended));
        assert_eq!(stranger(&seen, &seen.first).as_deref(), Some("b"));
        // What is there after a gap was not there when the watch began.
        seen.list(
            &[pod("c", &json!({"running": {}}))],
            Some("9".to_owned()),
            true,
        );
        assert_eq!(seen.first, ["own".to_owned()].into());
    }
}
