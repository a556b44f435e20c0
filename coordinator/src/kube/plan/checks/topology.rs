//! Whether a volume of the new class can be where the workload's pods may run.

use std::collections::BTreeMap;

use k8s_openapi::api::{
    core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, TopologySelectorTerm},
    storage::v1::StorageClass,
};

use crate::kube::plan::{case::Case, finding::Finding};

type Labels = BTreeMap<String, String>;

pub(super) fn check(case: &Case<'_>) -> Vec<Finding> {
    let (Some(nodes), Some(classes)) = (&case.view.nodes, &case.view.classes) else {
        return Vec::new();
    };
    let none = Labels::new();
    let labels = |node: &'_ Node| node.metadata.labels.clone().unwrap_or_default();
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
            let labels = labels(node);
            pod_may_run(case.pod_spec(), node, &labels) && class_reaches(class, &labels)
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

/// Whether the pods' own constraints admit `node`. Taints and what other pods want are left to
/// the scheduler.
fn pod_may_run(spec: Option<&PodSpec>, node: &Node, labels: &Labels) -> bool {
    let Some(spec) = spec else { return true };
    let selector = spec.node_selector.iter().flatten();
    let selected = selector
        .into_iter()
        .all(|(key, value)| labels.get(key) == Some(value));
    let required = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| {
            affinity
                .required_during_scheduling_ignored_during_execution
                .as_ref()
        });
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let admitted = required.is_none_or(|required| {
        required
            .node_selector_terms
            .iter()
            .any(|term| term_fits(term, name, labels))
    });
    selected && admitted
}

fn term_fits(term: &NodeSelectorTerm, name: &str, labels: &Labels) -> bool {
    let fields: Labels = [("metadata.name".to_owned(), name.to_owned())].into();
    let by_label = term.match_expressions.as_deref().unwrap_or_default();
    let by_field = term.match_fields.as_deref().unwrap_or_default();
    // A term without requirements matches nothing.
    !(by_label.is_empty() && by_field.is_empty())
        && by_label.iter().all(|wanted| fits(wanted, labels))
        && by_field.iter().all(|wanted| fits(wanted, &fields))
}

fn fits(wanted: &NodeSelectorRequirement, labels: &Labels) -> bool {
    let value = labels.get(&wanted.key);
    let values = wanted.values.as_deref().unwrap_or_default();
    let number = |text: Option<&String>| text.and_then(|text| text.parse::<i64>().ok());
    let compare = |holds: fn(&i64, &i64) -> bool| match (number(value), number(values.first())) {
        (Some(left), Some(right)) => holds(&left, &right),
        _ => false,
    };
    match wanted.operator.as_str() {
        "In" => value.is_some_and(|value| values.contains(value)),
        "NotIn" => value.is_none_or(|value| !values.contains(value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(i64::gt),
        "Lt" => compare(i64::lt),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kube::plan::{finding::Severity, made, view::View};

    fn constrained(class: Value, pods: &Value) -> View {
        let mut view = made::view();
        view.classes = Some(vec![made::with(&made::class("new"), class)]);
        view.workload = Some(made::set(json!({"template": {"spec": pods}})));
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
            made::found(check, &constrained(only(&both), &json!({})), &made::wish()),
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
            made::finds(check, &view, Severity::Error, "No node has both");
        }
    }

    #[test]
    fn a_pod_that_will_move_is_told() {
        let view = constrained(only(&["node-a"]), &json!({}));
        let finding = made::finds(check, &view, Severity::Warning, "start on another node");
        assert_eq!(finding.object, "node/node-b");
    }

    #[test]
    fn a_class_that_does_not_wait_for_the_pod_is_told() {
        let view = constrained(json!({"volumeBindingMode": "Immediate"}), &json!({}));
        made::finds(check, &view, Severity::Warning, "Immediate");
    }
}
