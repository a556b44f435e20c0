//! Pods of others that name the claims. A scheduled one holds the claim, running or finished; one
//! that waits would take the new claim before the workload does.

use crate::kube::preflight::{
    context::{CheckContext, is_finished, name_of, node_of},
    finding::Finding,
};

pub(crate) fn check(case: &CheckContext<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for one in &case.moves {
        for pod in case.foreign_pods(one.name()) {
            let object = format!("pod/{}", name_of(pod));
            let claim = one.name();
            let finding = if is_finished(pod) {
                Finding::error(
                    object.clone(),
                    format!(
                        "It has ended and still holds claim {claim}: Kubernetes protects the claim \
                         until the pod object is gone"
                    ),
                )
                .hint(format!("kubectl delete {object}"))
            } else if node_of(pod).is_none() {
                Finding::error(
                    object.clone(),
                    format!("It waits for a node, names claim {claim}, and is not the workload's"),
                )
                .hint("delete it, or stop what made it")
            } else {
                Finding::error(
                    object.clone(),
                    format!(
                        "It uses claim {claim} and is not the workload's, so stopping the workload \
                         does not stop it"
                    ),
                )
                .hint("stop it for the time of the migration")
            };
            findings.push(finding);
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
    fn a_pod_of_somebody_else_is_refused_in_every_state() {
        assert_eq!(
            fixture::found(check, &fixture::view(), &fixture::wish()),
            []
        );
        let backup = fixture::pod(
            "backup",
            "node-a",
            "data-db-0",
            ("Job", "backup", "uid-job"),
        );
        for (patch, words) in [
            (json!({}), "It uses claim data-db-0"),
            (json!({"status": {"phase": "Succeeded"}}), "It has ended"),
            (json!({"status": {"phase": "Failed"}}), "It has ended"),
            (
                json!({"spec": {"nodeName": ""}, "status": {"phase": "Pending"}}),
                "waits for a node",
            ),
        ] {
            let mut view = fixture::view();
            view.pods.push(fixture::with(&backup, patch));
            let finding = fixture::finds(check, &view, Severity::Error, words);
            assert_eq!(finding.object, "pod/backup");
        }
    }

    #[test]
    fn a_deployment_s_pods_are_known_by_their_replica_set_or_its_name() {
        let (mut view, wish) = fixture::deployment();
        assert_eq!(fixture::found(check, &view, &wish), []);
        view.replica_sets = None;
        assert_eq!(fixture::found(check, &view, &wish), []);
        let other = ("ReplicaSet", "website-1", "uid-other");
        view.pods
            .push(fixture::pod("website-1-x", "node-a", "www", other));
        assert_eq!(fixture::found(check, &view, &wish).len(), 1);
    }

    #[test]
    fn this_migration_s_movers_are_not_foreign_and_another_s_are() {
        let wish = fixture::wish();
        for (uid, count) in [(wish.uid.to_string(), 0), ("other".to_owned(), 1)] {
            let mut view = fixture::view();
            let mover = fixture::pod("mover", "node-a", "data-db-0", ("ConfigMap", "m", "u"));
            view.pods.push(fixture::with(
                &mover,
                json!({"metadata": {"labels": {"livmig.io/migration": uid}}}),
            ));
            assert_eq!(fixture::found(check, &view, &wish).len(), count);
        }
    }

    #[test]
    fn an_ephemeral_volume_s_claim_is_its_pod_s() {
        let mut view = fixture::view();
        view.pods.push(fixture::object(json!({
            "metadata": {"name": "data"},
            "spec": {"nodeName": "node-a", "containers": [],
                     "volumes": [{"name": "db-0", "ephemeral": {}}]},
        })));
        fixture::finds(check, &view, Severity::Error, "It uses claim data-db-0");
    }
}
