//! The nodes where the workload runs, and where the source movers must run too.

use crate::kube::{
    nodes::{is_ready, takes_pods},
    plan::{case::Case, finding::Finding},
};

pub(super) fn check(case: &Case<'_>) -> Vec<Finding> {
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
    use crate::kube::plan::{finding::Severity, made};

    #[test]
    fn a_node_that_cannot_take_a_mover_is_refused() {
        assert_eq!(made::found(check, &made::view(), &made::wish()), []);
        let unknown = json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}});
        let cordoned = json!({"spec": {"unschedulable": true}});
        for (patch, words) in [(unknown, "not ready"), (cordoned, "cordoned")] {
            let mut view = made::view();
            view.nodes = Some(vec![
                made::with(&made::node("node-a"), patch),
                made::node("node-b"),
            ]);
            let finding = made::finds(check, &view, Severity::Error, words);
            assert_eq!(finding.object, "node/node-a");
        }
        let mut view = made::view();
        view.nodes = Some(vec![made::node("node-b"), made::node("node-c")]);
        made::finds(check, &view, Severity::Error, "no such node");
    }
}
