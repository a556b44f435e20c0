//! Network policies that catch the movers.

use std::collections::BTreeMap;

use ::kube::core::{Selector, SelectorExt as _};

use crate::kube::{
    names,
    plan::{case::Case, finding::Finding},
};

pub(super) fn check(case: &Case<'_>) -> Vec<Finding> {
    let labels: BTreeMap<String, String> = [
        (names::MIGRATION, case.wish.uid.to_string()),
        (names::NAME, case.workload.name().to_owned()),
        (names::ROLE, "mover".to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    case.view
        .network_policies
        .iter()
        .flatten()
        .filter(|policy| {
            let selector = policy
                .spec
                .as_ref()
                .and_then(|spec| spec.pod_selector.clone());
            match Selector::try_from(selector.unwrap_or_default()) {
                Ok(selector) => selector.matches(&labels),
                Err(_) => false,
            }
        })
        .map(|policy| {
            let name = policy.metadata.name.as_deref().unwrap_or_default();
            Finding::warning(
                format!("networkpolicy/{name}"),
                "It applies to the movers' pods too. The source must reach the destination by UDP, \
                 or no pass begins",
            )
            .hint(format!(
                "allow traffic among pods with the label {}",
                names::MIGRATION
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::plan::{finding::Severity, made};

    #[test]
    fn a_policy_for_every_pod_is_told_and_one_for_others_is_not() {
        let policy = |selector: serde_json::Value| {
            Some(vec![made::object(json!({
                "metadata": {"name": "p"}, "spec": {"podSelector": selector},
            }))])
        };
        let mut view = made::view();
        view.network_policies = policy(json!({"matchLabels": {"app": "db"}}));
        assert_eq!(made::found(check, &view, &made::wish()), []);
        for selector in [
            json!({}),
            json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}),
        ] {
            view.network_policies = policy(selector);
            made::finds(check, &view, Severity::Warning, "applies to the movers");
        }
    }
}
