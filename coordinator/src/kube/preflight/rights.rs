//! What a migration may have to do in a cluster, and why: one row for every verb.

use std::fmt;

use livmig_engine::spec::WorkloadKind;

use super::request::MigrationRequest;
use crate::kube::objects::network_policy::Network;

/// The right to do one thing with one kind of object.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Right {
    /// The verb of the API.
    pub verb: &'static str,
    /// The API group; empty for the core.
    pub group: &'static str,
    /// The resource.
    pub resource: &'static str,
    /// The subresource; empty for none.
    pub subresource: &'static str,
    /// Whether it is asked for in the namespace, else in the whole cluster.
    pub namespaced: bool,
    /// What it is for.
    pub why: &'static str,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if !self.subresource.is_empty() {
            write!(f, "/{}", self.subresource)?;
        }
        if !self.group.is_empty() {
            write!(f, " ({})", self.group)?;
        }
        Ok(())
    }
}

/// Verbs, group, resource, subresource, namespaced, why.
type Row = (
    &'static [&'static str],
    &'static str,
    &'static str,
    &'static str,
    bool,
    &'static str,
);

const ALWAYS: &[Row] = &[
    (
        &["get", "list", "watch", "create", "delete"],
        "",
        "pods",
        "",
        true,
        "to run the movers and to prove that no other pod writes",
    ),
    // Clients that upgrade to a WebSocket are asked for `get` by older servers, for both by newer.
    (
        &["get", "create"],
        "",
        "pods",
        "portforward",
        true,
        "to reach the movers",
    ),
    (
        &["get", "list", "watch", "create", "patch", "delete"],
        "",
        "persistentvolumeclaims",
        "",
        true,
        "to fence the claims and to bind them to the new volumes",
    ),
    (
        &["get", "watch", "patch"],
        "",
        "persistentvolumes",
        "",
        false,
        "to keep the old volumes and to reserve the new ones",
    ),
    (
        &["get", "list"],
        "",
        "nodes",
        "",
        false,
        "to know where the workload can start on its new volumes, and whom nothing is heard of",
    ),
    (
        &["list"],
        "storage.k8s.io",
        "volumeattachments",
        "",
        false,
        "to prove that no lost node still holds an old volume",
    ),
    (
        &["get", "create", "update", "patch", "delete"],
        "",
        "configmaps",
        "",
        true,
        "to keep the migration's journal",
    ),
    (
        &["create", "delete"],
        "",
        "secrets",
        "",
        true,
        "to hand the movers their keys",
    ),
    (
        &["get", "create", "update"],
        "coordination.k8s.io",
        "leases",
        "",
        true,
        "to let one coordinator at a time act",
    ),
];

const STATEFUL_SET: &[Row] = &[(
    &["get", "watch", "patch"],
    "apps",
    "statefulsets",
    "",
    true,
    "to stop and to start the workload",
)];

const DEPLOYMENT: &[Row] = &[
    (
        &["get", "watch", "patch"],
        "apps",
        "deployments",
        "",
        true,
        "to stop and to start the workload",
    ),
    (
        &["list"],
        "apps",
        "replicasets",
        "",
        true,
        "to know the workload's pods",
    ),
];

const TEMPLATE: &[Row] = &[(
    &["create", "delete"],
    "apps",
    "statefulsets",
    "",
    true,
    "to give the claim templates their new class (--update-template)",
)];

const PRE_STOP: &[Row] = &[(
    &["get", "create"],
    "",
    "pods",
    "exec",
    true,
    "to run --pre-stop-exec",
)];

// Without `list`: who may not see policies makes none, and that is told with what was not read.
const NETWORK: &[Row] = &[(
    &["get", "create", "delete"],
    "networking.k8s.io",
    "networkpolicies",
    "",
    true,
    "to let the movers meet, since the namespace has network policies",
)];

/// The rights that a migration by `wish` needs; in a restricted network, those to open it too.
pub fn needed(wish: &MigrationRequest, network: Network) -> Vec<Right> {
    let workload = match wish.workload.kind {
        WorkloadKind::StatefulSet => STATEFUL_SET,
        WorkloadKind::Deployment => DEPLOYMENT,
    };
    let template = if wish.update_template { TEMPLATE } else { &[] };
    let pre_stop = if wish.pre_stop.is_some() {
        PRE_STOP
    } else {
        &[]
    };
    let network = match network {
        Network::Restricted => NETWORK,
        Network::Open => &[],
    };
    [ALWAYS, workload, template, pre_stop, network]
        .into_iter()
        .flatten()
        .flat_map(|&(verbs, group, resource, subresource, namespaced, why)| {
            verbs.iter().map(move |&verb| Right {
                verb,
                group,
                resource,
                subresource,
                namespaced,
                why,
            })
        })
        .collect()
}
