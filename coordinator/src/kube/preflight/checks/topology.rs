//! Whether a volume of the new class can be where the workload's pods may run.

use std::collections::BTreeMap;

use k8s_openapi::api::{core::v1::TopologySelectorTerm, storage::v1::StorageClass};

use crate::kube::{
    objects::node::pod_may_run,
    preflight::{context::CheckContext, finding::Finding},
};

type Labels = BTreeMap<String, String>;

pub(crate) fn check(case: &CheckContext<'_>) -> Vec<Finding> {
    let (Some(nodes), Some(classes)) = (&case.view.nodes, &case.view.classes) else {
        return Vec::new();
    };
    let none = Labels::new();
    let mut findings = Vec::new();
    for class in classes {
        let name = class.metadata.name.as_deref().unwrap_or_default();
        if !case.moves.iter().any(|one| one.to_class == name) {
            continue;
        }
        let object = format!("storageclass/{name}");
        let immediate = class.volume_binding_mode.as_deref() != Some("WaitForFirstConsumer");
        if immediate {
            findings.push(
                Finding::warning(
                    object.clone(),
                    "It makes volumes at once (volumeBindingMode: Immediate), wherever it likes: \
                     perhaps where the workload's pods cannot run",
                )
                .hint("a class with WaitForFirstConsumer makes them where they are used"),
            );
        }
        let possible = nodes.iter().any(|node| {
            let labels = node.metadata.labels.as_ref().unwrap_or(&none);
            case.pod_spec().is_none_or(|spec| pod_may_run(spec, node))
                && class_reaches(class, labels)
        });
        if !possible {
            findings.push(
                Finding::error(
                    object,
                    "No node has both volumes of this class (allowedTopologies) and room for the \
                     workload's pods (nodeSelector, affinity)",
                )
                .hint("name another class, or let the pods run on other nodes"),
            );
            continue;
        }
        for node in case
            .own_nodes()
            .into_iter()
            .filter_map(|node| case.node(node))
        {
            if !class_reaches(class, node.metadata.labels.as_ref().unwrap_or(&none)) {
                let node = node.metadata.name.as_deref().unwrap_or_default();
                findings.push(Finding::warning(
                    format!("node/{node}"),
                    format!(
                        "A pod of the workload is on it, and there are no volumes of class {name} \
                         there: the pod will start on another node"
                    ),
                ));
            }
        }
    }
    findings
}

fn class_reaches(class: &StorageClass, labels: &Labels) -> bool {
    let terms = class.allowed_topologies.as_deref().unwrap_or_default();
    terms.is_empty() || terms.iter().any(|term| topology_fits(term, labels))
}

fn topology_fits(term: &TopologySelectorTerm, labels: &Labels) -> bool {
    term.match_label_expressions.iter().flatten().all(|wanted| {
        labels
            .get(&wanted.key)
            .is_some_and(|value| wanted.values.contains(value))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kube::preflight::{finding::Severity, fixture, snapshot::Snapshot};

    fn constrained(class: Value, pods: &Value) -> Snapshot {
        let mut view = fixture::view();
        view.classes = Some(vec![fixture::with(&fixture::class("new"), class)]);
        view.workload = Some(fixture::set(json!({"template": {"spec": pods}})));
        view
    }

    fn only(zones: &[&str]) -> Value {
        json!({"allowedTopologies": [
            {"matchLabelExpressions": [{"key": "zone", "values": zones}]}]})
    }

    fn affine(operator: &str, values: &[&str]) -> Value {
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "zone", "operator": operator, "values": values}]}]}}}})
    }

    #[test]
    fn a_class_that_reaches_no_node_of_the_pods_is_refused() {
        let both = ["node-a", "node-b"];
        assert_eq!(
            fixture::found(
                check,
                &constrained(only(&both), &json!({})),
                &fixture::wish()
            ),
            []
        );
        for (class, pods) in [
            (only(&["node-z"]), json!({})),
            (
                only(&["node-a"]),
                json!({"nodeSelector": {"zone": "node-b"}}),
            ),
            (only(&["node-a"]), affine("In", &["node-b"])),
            (only(&["node-a"]), affine("NotIn", &["node-a"])),
            (json!({}), affine("DoesNotExist", &[])),
        ] {
            let view = constrained(class, &pods);
            fixture::finds(check, &view, Severity::Error, "No node has both");
        }
    }

    #[test]
    fn a_pod_that_will_move_is_told() {
        let view = constrained(only(&["node-a"]), &json!({}));
        let finding = fixture::finds(check, &view, Severity::Warning, "start on another node");
        assert_eq!(finding.object, "node/node-b");
    }

    #[test]
    fn a_class_that_does_not_wait_for_the_pod_is_told() {
        let view = constrained(json!({"volumeBindingMode": "Immediate"}), &json!({}));
        fixture::finds(check, &view, Severity::Warning, "Immediate");
    }
}
