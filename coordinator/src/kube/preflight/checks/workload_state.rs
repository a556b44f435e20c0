//! Whether the workload is what it wants to be.

use crate::kube::preflight::{context::CheckContext, finding::Finding, snapshot::WorkloadObject};

pub(crate) fn check(case: &CheckContext<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let object = case.object();
    if case.workload.metadata().deletion_timestamp.is_some() {
        findings.push(
            Finding::error(object.clone(), "The workload is being deleted")
                .hint("wait until it is gone and there again"),
        );
    }
    let (wanted, ready) = (case.workload.replicas(), case.workload.ready());
    if wanted == 0 {
        findings.push(Finding::info(
            object.clone(),
            "The workload has 0 replicas, so the migration has no downtime; it stays at 0",
        ));
    } else if ready < wanted {
        findings.push(
            Finding::warning(
                object.clone(),
                format!(
                    "Only {ready} of {wanted} replicas are ready. After the migration livmig \
                     waits for all of them"
                ),
            )
            .hint(format!("kubectl rollout status {object}")),
        );
    }
    match case.workload {
        WorkloadObject::StatefulSet(set) => {
            let status = set.status.as_ref();
            let current = status.and_then(|status| status.current_revision.as_ref());
            let update = status.and_then(|status| status.update_revision.as_ref());
            if current != update {
                findings.push(
                    Finding::warning(
                        object,
                        "A change of its pod template is not rolled out yet; the migration's \
                         restart completes it",
                    )
                    .hint("let the rollout end first"),
                );
            }
        }
        WorkloadObject::Deployment(_) if case.wish.update_template => findings.push(
            Finding::error(object, "A deployment has no claim templates to update")
                .hint("leave out --update-template"),
        ),
        WorkloadObject::Deployment(_) => {}
    }
    findings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::preflight::{finding::Severity, fixture};

    #[test]
    fn a_workload_that_is_not_whole_is_told() {
        assert_eq!(
            fixture::found(check, &fixture::view(), &fixture::wish()),
            []
        );
        for (patch, severity, words) in [
            (
                json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
                Severity::Error,
                "being deleted",
            ),
            (
                json!({"spec": {"replicas": 0}}),
                Severity::Info,
                "no downtime",
            ),
            (
                json!({"status": {"readyReplicas": 1}}),
                Severity::Warning,
                "1 of 2",
            ),
            (
                json!({"status": {"updateRevision": "b"}}),
                Severity::Warning,
                "not rolled out",
            ),
        ] {
            let mut view = fixture::view();
            fixture::patch_workload(&mut view, patch);
            fixture::finds(check, &view, severity, words);
        }
    }

    #[test]
    fn a_deployment_has_no_claim_templates() {
        let (view, mut wish) = fixture::deployment();
        assert_eq!(fixture::found(check, &view, &wish), []);
        wish.update_template = true;
        assert_eq!(
            fixture::found(check, &view, &wish)[0].severity,
            Severity::Error
        );
    }
}
