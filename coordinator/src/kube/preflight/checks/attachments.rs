//! Attachments of the volumes to nodes where no pod of the workload is: what a lost node leaves.

use crate::kube::preflight::{context::CheckContext, finding::Finding};

pub(crate) fn check(case: &CheckContext<'_>) -> Vec<Finding> {
    let own_nodes = case.own_nodes();
    let mut findings = Vec::new();
    for one in &case.moves {
        let name = one.claim.spec.as_ref().and_then(|s| s.volume_name.as_ref());
        let attachments = case.view.attachments.iter().flatten();
        for attachment in attachments.filter(|attachment| {
            name.is_some() && attachment.spec.source.persistent_volume_name.as_ref() == name
        }) {
            let node = attachment.spec.node_name.as_str();
            if own_nodes.contains(&node) || case.workload.replicas() == 0 {
                continue;
            }
            findings.push(
                Finding::warning(
                    one.object(),
                    format!(
                        "Its volume is attached to node {node}, where no pod of the workload is: \
                         something there may still write"
                    ),
                )
                .hint("see whether that node is alive and wait for the detachment"),
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
    fn an_attachment_elsewhere_is_told() {
        let attached = |node: &str| {
            fixture::object(json!({
                "metadata": {"name": "a"},
                "spec": {"attacher": "old.csi", "nodeName": node,
                         "source": {"persistentVolumeName": "pv-0"}},
            }))
        };
        let mut view = fixture::view();
        view.attachments = Some(vec![attached("node-a")]);
        assert_eq!(fixture::found(check, &view, &fixture::wish()), []);
        view.attachments = Some(vec![attached("node-z")]);
        fixture::finds(check, &view, Severity::Warning, "node-z");
    }
}
