//! The nodes where the workload runs, and where the source movers must run too.

use crate::kube::{
    objects::node::{is_ready, takes_pods},
    preflight::{context::CheckContext, finding::Finding},
};

pub(crate) fn check(case: &CheckContext<'_>) -> Vec<Finding> {
    if case.view.nodes.is_none() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for name in case.own_nodes() {
        let object = format!("node/{name}");
        let Some(node) = case.node(name) else {
            findings.push(
                Finding::error(
                    object,
                    "A pod of the workload is on this node, and there is no such node: whether it \
                     still writes cannot be known",
                )
                .hint("kubectl get nodes; wait until the pod is somewhere else"),
            );
            continue;
        };
        if !is_ready(node) {
            findings.push(
                Finding::error(
                    object,
                    "A pod of the workload is on this node, and the node is not ready: no mover \
                     can run there, and no stop there can be proven",
                )
                .hint(format!("kubectl describe node/{name}")),
            );
        } else if !takes_pods(node) {
            findings.push(
                Finding::error(
                    object,
                    "A pod of the workload is on this node, and the node is cordoned: no mover \
                     can be scheduled there",
                )
                .hint(format!(
                    "kubectl uncordon {name}, or let the pod move first"
                )),
            );
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::preflight::{finding::Severity, fixture};

    #[test]
    fn a_node_that_cannot_take_a_mover_is_refused() {
        assert_eq!(
            fixture::found(check, &fixture::view(), &fixture::wish()),
            []
        );
        let unknown = json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}});
        let cordoned = json!({"spec": {"unschedulable": true}});
        for (patch, words) in [(unknown, "not ready"), (cordoned, "cordoned")] {
            let mut view = fixture::view();
            view.nodes = Some(vec![
                fixture::with(&fixture::node("node-a"), patch),
                fixture::node("node-b"),
            ]);
            let finding = fixture::finds(check, &view, Severity::Error, words);
            assert_eq!(finding.object, "node/node-a");
        }
        let mut view = fixture::view();
        view.nodes = Some(vec![fixture::node("node-b"), fixture::node("node-c")]);
        fixture::finds(check, &view, Severity::Error, "no such node");
    }
}
