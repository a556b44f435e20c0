//! What a `StatefulSet` does to its claims when it is scaled or deleted.

use crate::kube::preflight::{context::CheckContext, finding::Finding, snapshot::WorkloadObject};

pub(crate) fn check(case: &CheckContext<'_>) -> Vec<Finding> {
    let WorkloadObject::StatefulSet(set) = case.workload else {
        return Vec::new();
    };
    let policy = set
        .spec
        .as_ref()
        .and_then(|spec| spec.persistent_volume_claim_retention_policy.as_ref());
    let Some(policy) = policy else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    let retain = |field: &str| {
        format!(
            "kubectl patch {} -p '{{\"spec\":{{\"persistentVolumeClaimRetentionPolicy\":\
             {{\"{field}\":\"Retain\"}}}}}}'",
            case.object()
        )
    };
    if policy.when_scaled.as_deref() == Some("Delete") {
        findings.push(
            Finding::error(
                case.object(),
                "Its claims are deleted when it is scaled down (whenScaled: Delete), and a \
                 migration scales it to 0",
            )
            .hint(retain("whenScaled")),
        );
    }
    if policy.when_deleted.as_deref() == Some("Delete") && case.wish.update_template {
        findings.push(
            Finding::error(
                case.object(),
                "Its claims are deleted with it (whenDeleted: Delete), and --update-template \
                 makes it anew",
            )
            .hint(retain("whenDeleted")),
        );
    }
    findings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::preflight::{finding::Severity, fixture, snapshot::Snapshot};

    fn with_policy(scaled: &str, deleted: &str) -> Snapshot {
        let mut view = fixture::view();
        view.workload = Some(fixture::set(json!({"persistentVolumeClaimRetentionPolicy":
            {"whenScaled": scaled, "whenDeleted": deleted}})));
        view
    }

    #[test]
    fn a_policy_that_would_delete_the_claims_is_refused() {
        let mut wish = fixture::wish();
        assert_eq!(
            fixture::found(check, &with_policy("Retain", "Delete"), &wish),
            []
        );
        let finding = fixture::finds(
            check,
            &with_policy("Delete", "Retain"),
            Severity::Error,
            "whenScaled",
        );
        assert_eq!(
            finding.hint,
            "kubectl patch statefulset/db -p '{\"spec\":{\"persistentVolumeClaimRetentionPolicy\":\
             {\"whenScaled\":\"Retain\"}}}'"
        );
        wish.update_template = true;
        assert_eq!(
            fixture::found(check, &with_policy("Retain", "Delete"), &wish).len(),
            1
        );
    }
}
