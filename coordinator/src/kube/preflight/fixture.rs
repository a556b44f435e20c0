//! Made views for tests: a sound workload, which each test spoils in one place.

use k8s_openapi::api::core::v1::Pod;
use livmig_engine::spec::Options;
use livmig_proto::ids::MigrationUid;
use serde_json::{Value, json};

use super::{
    checks::Check,
    context::CheckContext,
    finding::Finding,
    request::MigrationRequest,
    select::{ClaimMove, select},
    snapshot::{Snapshot, WorkloadObject},
};
pub(crate) use crate::kube::testing::objects::{claim, class, node, object, pod, volume, with};
use crate::{
    images::DEFAULT_MOVER_IMAGE,
    kube::testing::objects::{driver, stateful_set},
};

/// Move `statefulset/db` to class `new`.
pub(crate) fn wish() -> MigrationRequest {
    MigrationRequest {
        uid: MigrationUid([0xab; 16]),
        workload: "sts/db".parse().unwrap(),
        to: "new".parse().unwrap(),
        from_class: None,
        claims: Vec::new(),
        update_template: false,
        keep_claim_spec: false,
        pre_stop: None,
        mover_image: DEFAULT_MOVER_IMAGE.to_owned(),
        pull_secret: None,
        capabilities: std::collections::BTreeSet::new(),
        options: Options::default(),
    }
}

/// `statefulset/db` with two pods on `node-a` and `node-b`, and their claims of class `old`.
pub(crate) fn view() -> Snapshot {
    Snapshot {
        namespace: "shop".to_owned(),
        workload: Some(set(json!({}))),
        claims: vec![claim("data-db-0", "pv-0"), claim("data-db-1", "pv-1")],
        pods: vec![
            own_pod("db-0", "node-a", "data-db-0"),
            own_pod("db-1", "node-b", "data-db-1"),
        ],
        replica_sets: Some(Vec::new()),
        volumes: Some(vec![
            volume("pv-0", "data-db-0"),
            volume("pv-1", "data-db-1"),
        ]),
        classes: Some(vec![class("old"), class("new")]),
        drivers: Some(["old.csi", "new.csi"].map(driver).to_vec()),
        nodes: Some(["node-a", "node-b"].map(node).to_vec()),
        quotas: Some(Vec::new()),
        limits: Some(Vec::new()),
        namespace_object: Some(object(json!({"metadata": {"name": "shop"}}))),
        autoscalers: Some(Vec::new()),
        cron_jobs: Some(Vec::new()),
        csi_nodes: None,
        network_policies: Some(Vec::new()),
        attachments: Some(Vec::new()),
        usage: std::collections::BTreeMap::new(),
        lacking: Some(Vec::new()),
        unread: Vec::new(),
    }
}

/// `statefulset/db` with the fields of `spec` over its own.
pub(crate) fn set(spec: Value) -> WorkloadObject {
    let patch = [("spec".to_owned(), spec)].into_iter().collect();
    WorkloadObject::StatefulSet(Box::new(with(&stateful_set("db"), patch)))
}

/// A view with a Deployment `web` and its claim `www`, and the wish to move it.
pub(crate) fn deployment() -> (Snapshot, MigrationRequest) {
    let mut view = view();
    view.workload = Some(WorkloadObject::Deployment(object(json!({
        "metadata": {"name": "web", "uid": "uid-web"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"spec": {"containers": [{"name": "web"}], "volumes": [
                {"name": "content", "persistentVolumeClaim": {"claimName": "www"}},
            ]}},
        },
        "status": {"replicas": 1, "readyReplicas": 1},
    }))));
    view.claims = vec![claim("www", "pv-w")];
    view.volumes = Some(vec![volume("pv-w", "www")]);
    view.replica_sets = Some(vec![object(json!({"metadata": {
        "name": "web-abc", "uid": "uid-rs",
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web",
                             "uid": "uid-web", "controller": true}],
    }}))]);
    view.pods = vec![pod(
        "web-abc-x",
        "node-a",
        "www",
        ("ReplicaSet", "web-abc", "uid-rs"),
    )];
    let mut wish = wish();
    wish.workload = "deploy/web".parse().unwrap();
    (view, wish)
}

/// A pod of `statefulset/db`.
pub(crate) fn own_pod(name: &str, node: &str, claim: &str) -> Pod {
    pod(name, node, claim, ("StatefulSet", "db", "uid-db"))
}

/// The workload of `view` with the fields of `patch` over its own.
pub(crate) fn patch_workload(view: &mut Snapshot, patch: Value) {
    view.workload = view.workload.take().map(|workload| match workload {
        WorkloadObject::StatefulSet(set) => {
            WorkloadObject::StatefulSet(Box::new(with(&*set, patch)))
        }
        WorkloadObject::Deployment(one) => WorkloadObject::Deployment(Box::new(with(&*one, patch))),
    });
}

/// The first claim of `view` with the fields of `patch` over its own.
pub(crate) fn patch_claim(view: &mut Snapshot, patch: Value) {
    view.claims[0] = with(&view.claims[0], patch);
}

/// The first volume of `view` with the fields of `patch` over its own.
pub(crate) fn patch_volume(view: &mut Snapshot, patch: Value) {
    let volumes = view.volumes.as_mut().unwrap();
    volumes[0] = with(&volumes[0], patch);
}

/// What moves.
pub(crate) fn selected<'a>(
    view: &'a Snapshot,
    wish: &MigrationRequest,
) -> (Vec<ClaimMove<'a>>, Vec<Finding>) {
    select(view, view.workload.as_ref().unwrap(), wish)
}

/// What `check` finds.
pub(crate) fn found(check: Check, view: &Snapshot, wish: &MigrationRequest) -> Vec<Finding> {
    check(&CheckContext {
        view,
        wish,
        workload: view.workload.as_ref().unwrap(),
        moves: selected(view, wish).0,
    })
}

/// What `check` finds in `view`, which must be one thing, of `severity`, saying `words`.
#[track_caller]
pub(crate) fn finds(
    check: Check,
    view: &Snapshot,
    severity: super::finding::Severity,
    words: &str,
) -> Finding {
    let mut findings = found(check, view, &wish());
    assert_eq!(findings.len(), 1, "{findings:#?}");
    let finding = findings.remove(0);
    assert_eq!(finding.severity, severity, "{finding:?}");
    assert!(finding.message.contains(words), "{finding:?}");
    finding
}
