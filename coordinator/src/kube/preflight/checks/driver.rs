//! Whether the new class's CSI driver runs where the workload does.

use k8s_openapi::api::storage::v1::{CSINode, StorageClass};

use crate::kube::preflight::{context::CheckContext, finding::Finding};

pub(crate) fn check(case: &CheckContext<'_>) -> Vec<Finding> {
    let (Some(csi_nodes), Some(classes)) = (&case.view.csi_nodes, &case.view.classes) else {
        return Vec::new();
    };
    let is_wanted = |class: &&StorageClass| {
        let name = class.metadata.name.as_ref();
        case.moves.iter().any(|one| Some(&one.to_class) == name)
    };
    let mut findings = Vec::new();
    for class in classes.iter().filter(is_wanted) {
        let driver = class.provisioner.as_str();
        let is_csi = case.view.drivers.iter().flatten().any(|known| {
            // Other provisioners have no part on the nodes.
            known.metadata.name.as_deref() == Some(driver)
        });
        if !is_csi {
            continue;
        }
        if !csi_nodes.iter().any(|node| runs(node, driver)) {
            findings.push(
                Finding::error(
                    format!("csidriver/{driver}"),
                    "It is registered, and runs on no node: no volume of it can be mounted",
                )
                .hint("see whether the driver's DaemonSet is healthy"),
            );
            continue;
        }
        for name in case.own_nodes() {
            let here = csi_nodes
                .iter()
                .find(|node| node.metadata.name.as_deref() == Some(name));
            if here.is_some_and(|node| !runs(node, driver)) {
                findings.push(
                    Finding::warning(
                        format!("node/{name}"),
                        format!(
                            "A pod of the workload is on it, and the driver {driver} is not: the \
                             pod can start only on another node"
                        ),
                    )
                    .hint("see whether the driver is meant to run on that node"),
                );
            }
        }
    }
    findings
}

fn runs(node: &CSINode, driver: &str) -> bool {
    node.spec.drivers.iter().any(|known| known.name == driver)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::preflight::{finding::Severity, fixture};

    #[test]
    fn a_driver_that_is_not_where_the_pods_are_is_told() {
        let node = |name: &str, driver: &str| {
            fixture::object(json!({
                "metadata": {"name": name},
                "spec": {"drivers": [{"name": driver, "nodeID": name}]},
            }))
        };
        let mut view = fixture::view();
        view.csi_nodes = Some(vec![node("node-a", "new.csi"), node("node-b", "new.csi")]);
        assert_eq!(fixture::found(check, &view, &fixture::wish()), []);
        view.csi_nodes = Some(vec![node("node-a", "new.csi"), node("node-b", "old.csi")]);
        let finding = fixture::finds(check, &view, Severity::Warning, "new.csi is not");
        assert_eq!(finding.object, "node/node-b");
        view.csi_nodes = Some(vec![node("node-a", "old.csi")]);
        fixture::finds(check, &view, Severity::Error, "runs on no node");
        view.drivers = Some(Vec::new());
        assert_eq!(fixture::found(check, &view, &fixture::wish()), []);
    }
}
