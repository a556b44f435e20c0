//! Autoscalers of the workload.

use crate::kube::plan::{case::Case, finding::Finding};

pub(super) fn check(case: &Case<'_>) -> Vec<Finding> {
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
    use crate::kube::plan::{finding::Severity, made};

    #[test]
    fn an_autoscaler_of_this_workload_is_told_and_no_other() {
        let scaler = |kind: &str, name: &str| {
            made::object(json!({
                "metadata": {"name": "h"},
                "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": kind, "name": name}},
            }))
        };
        let mut view = made::view();
        view.autoscalers = Some(vec![scaler("Deployment", "db"), scaler("StatefulSet", "x")]);
        assert_eq!(made::found(check, &view, &made::wish()), []);
        view.autoscalers = Some(vec![scaler("StatefulSet", "db")]);
        made::finds(check, &view, Severity::Warning, "scales the workload");
    }
}
