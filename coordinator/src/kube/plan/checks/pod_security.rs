//! Whether the namespace lets the movers' pods in.

use crate::kube::plan::{case::Case, finding::Finding};

const ENFORCE: &str = "pod-security.kubernetes.io/enforce";

pub(super) fn check(case: &Case<'_>) -> Vec<Finding> {
    let Some(namespace) = &case.view.namespace_object else {
        return Vec::new();
    };
    let object = format!("namespace/{}", case.view.namespace);
    let mut findings = Vec::new();
    if namespace.metadata.deletion_timestamp.is_some() {
        findings.push(
            Finding::error(
                object.clone(),
                "The namespace is being deleted, with all claims in it",
            )
            .hint("move the data out by hand; a deletion cannot be taken back"),
        );
    }
    let labels = namespace.metadata.labels.as_ref();
    if labels
        .and_then(|labels| labels.get(ENFORCE))
        .map(String::as_str)
        == Some("restricted")
    {
        findings.push(
            Finding::error(
                object,
                "The movers need pods with the capabilities CHOWN, DAC_OVERRIDE, FOWNER, FSETID, \
                 SETFCAP and MKNOD; the namespace allows only restricted pods",
            )
            .hint(format!(
                "for the time of the migration: kubectl label --overwrite namespace {} \
                 {ENFORCE}=baseline",
                case.view.namespace
            )),
        );
    }
    findings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::plan::{finding::Severity, made};

    #[test]
    fn only_a_restricted_namespace_is_refused() {
        for (level, refused) in [
            ("baseline", false),
            ("privileged", false),
            ("restricted", true),
        ] {
            let mut view = made::view();
            view.namespace_object = Some(made::object(
                json!({"metadata": {"name": "shop", "labels": {ENFORCE: level}}}),
            ));
            if refused {
                let finding = made::finds(check, &view, Severity::Error, "CHOWN");
                assert!(finding.hint.contains("namespace shop"), "{finding:?}");
            } else {
                assert_eq!(made::found(check, &view, &made::wish()), []);
            }
        }
    }
}
