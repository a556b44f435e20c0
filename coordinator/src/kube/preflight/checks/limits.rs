//! Limit ranges on the size of claims.

use crate::kube::{
    objects::quantity::{amount, bytes},
    preflight::{context::CheckContext, finding::Finding, size},
};

pub(crate) fn check(case: &CheckContext<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for range in case.view.limits.iter().flatten() {
        let name = range.metadata.name.as_deref().unwrap_or_default();
        let items = range.spec.iter().flat_map(|spec| &spec.limits);
        for item in items.filter(|item| item.type_ == "PersistentVolumeClaim") {
            let bound = |amounts: &Option<std::collections::BTreeMap<_, _>>| {
                amounts.as_ref()?.get("storage").and_then(amount)
            };
            for one in &case.moves {
                let Some(size) = size::of(one) else { continue };
                let broken = if bound(&item.max).is_some_and(|max| size > max) {
                    "at most"
                } else if bound(&item.min).is_some_and(|min| size < min) {
                    "at least"
                } else {
                    continue;
                };
                let limit = if broken == "at most" {
                    &item.max
                } else {
                    &item.min
                };
                let limit = bound(limit).unwrap_or_default();
                findings.push(
                    Finding::error(
                        format!("limitrange/{name}"),
                        format!(
                            "Claims may ask for {broken} {}; the new one for {} must ask for {}",
                            bytes(limit),
                            one.name(),
                            bytes(size)
                        ),
                    )
                    .hint(format!("kubectl edit limitrange/{name}")),
                );
            }
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
    fn a_claim_outside_of_the_range_is_refused() {
        let mut view = fixture::view();
        view.claims.truncate(1);
        for (kind, limits, words) in [
            (
                "PersistentVolumeClaim",
                json!({"max": {"storage": "1Mi"}}),
                Some("at most 1Mi"),
            ),
            (
                "PersistentVolumeClaim",
                json!({"min": {"storage": "2Gi"}}),
                Some("at least 2Gi"),
            ),
            (
                "PersistentVolumeClaim",
                json!({"max": {"storage": "1Gi"}}),
                None,
            ),
            ("Container", json!({"max": {"storage": "1Mi"}}), None),
        ] {
            let mut limits = limits;
            limits["type"] = kind.into();
            view.limits = Some(vec![fixture::object(json!({
                "metadata": {"name": "l"}, "spec": {"limits": [limits]},
            }))]);
            match words {
                Some(words) => {
                    fixture::finds(check, &view, Severity::Error, words);
                }
                None => assert_eq!(fixture::found(check, &view, &fixture::wish()), []),
            }
        }
    }
}
