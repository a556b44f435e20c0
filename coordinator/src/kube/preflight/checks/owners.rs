//! What else decides about the workload: an operator, or something that applies a repository.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::kube::preflight::{context::CheckContext, finding::Finding};

/// Label or annotation, whose it is, what to do.
const APPLIERS: [(&str, &str, &str); 6] = [
    ("argocd.argoproj.io/tracking-id", "Argo CD", ARGO),
    ("argocd.argoproj.io/instance", "Argo CD", ARGO),
    ("kustomize.toolkit.fluxcd.io/name", "Flux", FLUX),
    ("helm.toolkit.fluxcd.io/name", "Flux", FLUX),
    ("meta.helm.sh/release-name", "Helm", HELM),
    ("app.kubernetes.io/managed-by", "", ""),
];

const ARGO: &str = "switch self-healing off for the time of the migration, and change the class in \
                    the repository afterwards (or use --keep-claim-spec)";
const FLUX: &str = "flux suspend for the time of the migration, and change the class in the \
                    repository afterwards (or use --keep-claim-spec)";
const HELM: &str = "do not upgrade the release meanwhile, and change the class in its values \
                    afterwards (or use --keep-claim-spec)";

pub(crate) fn check(case: &CheckContext<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let metadata = case.workload.metadata();
    for owner in metadata.owner_references.iter().flatten() {
        if owner.controller == Some(true) {
            findings.push(
                Finding::warning(
                    case.object(),
                    format!(
                        "It is controlled by {} {}, which may start it again while it is stopped; \
                         then the migration is rolled back",
                        owner.kind, owner.name
                    ),
                )
                .hint("pause that operator, or its object, for the time of the migration"),
            );
        }
    }
    findings.extend(applied(case.object(), metadata));
    for one in &case.moves {
        findings.extend(applied(one.object(), &one.claim.metadata));
    }
    findings
}

fn applied(object: String, metadata: &ObjectMeta) -> Option<Finding> {
    let value = |key: &str| {
        let label = metadata.labels.as_ref().and_then(|labels| labels.get(key));
        label.or_else(|| metadata.annotations.as_ref()?.get(key))
    };
    let (who, hint) = APPLIERS.iter().find_map(|(key, who, hint)| {
        let value = value(key)?;
        match (who.is_empty(), value.as_str()) {
            (true, "Helm") => Some(("Helm", HELM)),
            (true, _) => None,
            (false, _) => Some((*who, *hint)),
        }
    })?;
    Some(
        Finding::warning(
            object,
            format!("{who} applies it, and may put back what the migration changes"),
        )
        .hint(hint),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::preflight::{finding::Severity, fixture};

    #[test]
    fn an_operator_above_the_workload_is_told() {
        assert_eq!(
            fixture::found(check, &fixture::view(), &fixture::wish()),
            []
        );
        let mut view = fixture::view();
        fixture::patch_workload(
            &mut view,
            json!({"metadata": {"ownerReferences": [
                {"apiVersion": "x/v1", "kind": "Postgres", "name": "p", "uid": "u",
                 "controller": true}]}}),
        );
        fixture::finds(check, &view, Severity::Warning, "controlled by Postgres p");
    }

    #[test]
    fn what_applies_a_repository_is_told_by_its_marks() {
        for (marks, who) in [
            (
                json!({"annotations": {"argocd.argoproj.io/tracking-id": "x"}}),
                Some("Argo CD"),
            ),
            (
                json!({"labels": {"kustomize.toolkit.fluxcd.io/name": "x"}}),
                Some("Flux"),
            ),
            (
                json!({"labels": {"app.kubernetes.io/managed-by": "Helm"}}),
                Some("Helm"),
            ),
            (
                json!({"labels": {"app.kubernetes.io/managed-by": "hand"}}),
                None,
            ),
        ] {
            let mut view = fixture::view();
            fixture::patch_claim(&mut view, json!({"metadata": marks}));
            match who {
                Some(who) => {
                    fixture::finds(check, &view, Severity::Warning, who);
                }
                None => assert_eq!(fixture::found(check, &view, &fixture::wish()), []),
            }
        }
    }
}
