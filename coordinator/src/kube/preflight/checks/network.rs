//! Network policies, which the movers have to pass.

use crate::kube::{
    objects::network_policy::Network,
    preflight::{context::CheckContext, finding::Finding},
};

pub(crate) fn check(case: &CheckContext<'_>) -> Vec<Finding> {
    let policies = case.view.network_policies.as_deref().unwrap_or_default();
    if Network::of(policies) == Network::Open {
        return Vec::new();
    }
    vec![Finding::info(
        format!("namespace/{}", case.view.namespace),
        "It has network policies. The movers get two of their own, which let the source reach the \
         destination by UDP and TCP; they go with the movers",
    )]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::preflight::{finding::Severity, fixture};

    #[test]
    fn that_the_movers_get_policies_is_told_where_there_are_any() {
        let mut view = fixture::view();
        assert_eq!(fixture::found(check, &view, &fixture::wish()), []);
        view.network_policies = Some(vec![fixture::object(json!({
            "metadata": {"name": "p"}, "spec": {"podSelector": {}},
        }))]);
        fixture::finds(check, &view, Severity::Info, "two of their own");
        view.network_policies = None;
        assert_eq!(fixture::found(check, &view, &fixture::wish()), []);
    }
}
