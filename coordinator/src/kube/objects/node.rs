//! What nodes tell: whether they take pods, and which pods and volumes may be there. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PersistentVolume, PodSpec,
};

type NodeLabels = BTreeMap<String, String>;

/// Whether the node's kubelet was heard of lately.
pub fn is_ready(node: &Node) -> bool {
    let conditions = node
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Whether new pods are started on the node: it is ready, and nobody has cordoned it.
pub fn takes_pods(node: &Node) -> bool {
    let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable);
    is_ready(node) && cordoned != Some(true)
}

/// Whether the pods' own constraints admit `node`. Taints and what other pods want are left to
/// the scheduler.
pub fn pod_may_run(pod: &PodSpec, node: &Node) -> bool {
    let none = NodeLabels::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&none);
    let selector = pod.node_selector.iter().flatten();
    let selected = selector
        .into_iter()
        .all(|(key, value)| labels.get(key) == Some(value));
    let required = pod
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| {
            affinity
                .required_during_scheduling_ignored_during_execution
                .as_ref()
        });
    selected && required.is_none_or(|required| selects(required, node))
}

/// Whether the volume can be used on `node`.
pub fn volume_reaches(volume: &PersistentVolume, node: &Node) -> bool {
    let required = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.node_affinity.as_ref())
        .and_then(|affinity| affinity.required.as_ref());
    required.is_none_or(|required| selects(required, node))
}

fn selects(selector: &NodeSelector, node: &Node) -> bool {
    let none = NodeLabels::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&none);
    let name = node.metadata.name.as_deref().unwrap_or_default();
    selector
        .node_selector_terms
        .iter()
        .any(|term| term_fits(term, name, labels))
}

fn term_fits(term: &NodeSelectorTerm, name: &str, labels: &NodeLabels) -> bool {
    let fields: NodeLabels = [("metadata.name".to_owned(), name.to_owned())].into();
    let by_label = term.match_expressions.as_deref().unwrap_or_default();
    let by_field = term.match_fields.as_deref().unwrap_or_default();
    // A term without requirements matches nothing.
    !(by_label.is_empty() && by_field.is_empty())
        && by_label.iter().all(|wanted| fits(wanted, labels))
        && by_field.iter().all(|wanted| fits(wanted, &fields))
}

fn fits(wanted: &NodeSelectorRequirement, labels: &NodeLabels) -> bool {
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

    fn node(status: &str, spec: &Value) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": "n", "labels": {"zone": "z"}},
            "spec": spec,
            "status": {"conditions": [
                {"type": "MemoryPressure", "status": "True"}, {"type": "Ready", "status": status},
            ]},
        }))
        .unwrap()
    }

    #[test]
    fn a_node_that_says_nothing_is_not_ready_and_a_cordoned_one_takes_no_pods() {
        assert!(takes_pods(&node("True", &json!({}))));
        assert!(!is_ready(&node("Unknown", &json!({}))));
        assert!(!is_ready(&node("False", &json!({}))));
        assert!(!is_ready(&Node::default()));
        let cordoned = node("True", &json!({"unschedulable": true}));
        assert!(is_ready(&cordoned) && !takes_pods(&cordoned));
    }

    #[test]
    fn a_volume_is_where_its_affinity_says() {
        let volume = |values: &[&str]| -> PersistentVolume {
            serde_json::from_value(json!({"spec": {"nodeAffinity": {"required": {
                "nodeSelectorTerms": [{"matchExpressions": [
                    {"key": "zone", "operator": "In", "values": values}]}]}}}}))
            .unwrap()
        };
        let node = node("True", &json!({}));
        assert!(volume_reaches(&PersistentVolume::default(), &node));
        assert!(volume_reaches(&volume(&["y", "z"]), &node));
        assert!(!volume_reaches(&volume(&["y"]), &node));
    }
}
