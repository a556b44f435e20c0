//! What the kubelet does to the owners of files at the first mount of a new volume.

use crate::kube::preflight::{context::CheckContext, finding::Finding};

pub(crate) fn check(case: &CheckContext<'_>) -> Vec<Finding> {
    let context = case
        .pod_spec()
        .and_then(|spec| spec.security_context.as_ref());
    let Some(context) = context else {
        return Vec::new();
    };
    let Some(group) = context.fs_group else {
        return Vec::new();
    };
    if context.fs_group_change_policy.as_deref() == Some("OnRootMismatch") {
        return Vec::new();
    }
    vec![
        Finding::warning(
            case.object(),
            format!(
                "Its pods have fsGroup {group} and change every file's group at each mount; with \
                 many files that is part of the downtime"
            ),
        )
        .hint("set fsGroupChangePolicy: OnRootMismatch in the pod template"),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::preflight::{finding::Severity, fixture};

    #[test]
    fn a_group_that_is_set_at_every_mount_is_told() {
        let template = |context: serde_json::Value| {
            let mut view = fixture::view();
            view.workload = Some(fixture::set(
                json!({"template": {"spec": {"securityContext": context}}}),
            ));
            view
        };
        for fine in [
            json!({}),
            json!({"fsGroup": 7, "fsGroupChangePolicy": "OnRootMismatch"}),
        ] {
            assert_eq!(fixture::found(check, &template(fine), &fixture::wish()), []);
        }
        fixture::finds(
            check,
            &template(json!({"fsGroup": 7})),
            Severity::Warning,
            "fsGroup 7",
        );
    }
}
