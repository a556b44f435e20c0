//! Autoscalers of the workload.

use crate::kube::preflight::{context::CheckContext, finding::Finding};

pub(crate) fn check(case: &CheckContext<'_>) -> Vec<Finding> {
    let kind = format!("{:?}", case.workload.kind());
    let aims_here = |target: &k8s_openapi::api::autoscaling::v2::CrossVersionObjectReference| {
        target.kind == kind && target.name == case.workload.name()
    };
    case.view
        .autoscalers
        .iter()
        .flatten()
        .filter(|scaler| {
            scaler
                .spec
                .as_ref()
                .is_some_and(|spec| aims_here(&spec.scale_target_ref))
        })
        .map(|scaler| {
            let name = scaler.metadata.name.as_deref().unwrap_or_default();
            Finding::warning(
                format!("horizontalpodautoscaler/{name}"),
                "It scales the workload. Kubernetes disables it while the workload has 0 replicas; \
                 a change at the moment of the stop makes the stop start over",
            )
            .hint("nothing, unless something else scales from 0 (KEDA: pause it)")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::preflight::{finding::Severity, fixture};

    #[test]
    fn an_autoscaler_of_this_workload_is_told_and_no_other() {
        let scaler = |kind: &str, name: &str| {
            fixture::object(json!({
                "metadata": {"name": "h"},
                "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": kind, "name": name}},
            }))
        };
        let mut view = fixture::view();
        view.autoscalers = Some(vec![scaler("Deployment", "db"), scaler("StatefulSet", "x")]);
        assert_eq!(fixture::found(check, &view, &fixture::wish()), []);
        view.autoscalers = Some(vec![scaler("StatefulSet", "db")]);
        fixture::finds(check, &view, Severity::Warning, "scales the workload");
    }
}
