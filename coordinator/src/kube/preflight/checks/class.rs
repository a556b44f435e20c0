//! The classes that claims move to.

use std::collections::BTreeSet;

use k8s_openapi::api::storage::v1::StorageClass;

use crate::kube::preflight::{context::CheckContext, finding::Finding};

/// The provisioner of classes whose volumes are made by hand.
const BY_HAND: &str = "kubernetes.io/no-provisioner";

pub(crate) fn check(case: &CheckContext<'_>) -> Vec<Finding> {
    let Some(classes) = &case.view.classes else {
        return Vec::new();
    };
    let wanted: BTreeSet<&str> = case.moves.iter().map(|one| one.to_class.as_str()).collect();
    let mut findings = Vec::new();
    for name in wanted {
        let found = classes
            .iter()
            .find(|class| class.metadata.name.as_deref() == Some(name));
        match found {
            None => findings.push(missing(name, classes)),
            Some(class) => findings.extend(of_class(name, class, case)),
        }
    }
    findings
}

fn missing(name: &str, classes: &[StorageClass]) -> Finding {
    let known: Vec<&str> = classes
        .iter()
        .filter_map(|class| class.metadata.name.as_deref())
        .collect();
    let hint = if known.is_empty() {
        "the cluster has no storage class".to_owned()
    } else {
        format!("there are {}", known.join(", "))
    };
    Finding::error(format!("storageclass/{name}"), "There is no such class").hint(hint)
}

fn of_class(name: &str, class: &StorageClass, case: &CheckContext<'_>) -> Vec<Finding> {
    let object = format!("storageclass/{name}");
    let mut findings = Vec::new();
    if class.provisioner == BY_HAND {
        findings.push(
            Finding::error(
                object.clone(),
                format!("Nothing makes volumes of this class ({BY_HAND})"),
            )
            .hint("name a class with a provisioner"),
        );
    }
    if class.metadata.deletion_timestamp.is_some() {
        findings.push(
            Finding::error(object.clone(), "The class is being deleted").hint("name another class"),
        );
    }
    let is_csi =
        class.provisioner.contains('.') && !class.provisioner.starts_with("kubernetes.io/");
    let known = case.view.drivers.as_ref().is_none_or(|drivers| {
        drivers
            .iter()
            .any(|driver| driver.metadata.name.as_ref() == Some(&class.provisioner))
    });
    if is_csi && !known {
        findings.push(Finding::info(
            object.clone(),
            format!(
                "No CSIDriver is called {}: it is no CSI driver, or it is not installed",
                class.provisioner
            ),
        ));
    }
    let differing = case.moves.iter().find_map(|one| {
        let options = one.volume?.spec.as_ref()?.mount_options.as_ref()?;
        (one.to_class == name && class.mount_options.as_ref() != Some(options))
            .then(|| (one.object(), options.join(",")))
    });
    if let Some((claim, options)) = differing {
        findings.push(
            Finding::warning(
                claim,
                format!("Its volume is mounted with {options}; volumes of class {name} are not"),
            )
            .hint("put mountOptions in the class if the workload relies on them"),
        );
    }
    findings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::preflight::{finding::Severity, fixture, snapshot::Snapshot};

    fn with_new(patch: serde_json::Value) -> Snapshot {
        let mut view = fixture::view();
        view.classes = Some(vec![fixture::with(&fixture::class("new"), patch)]);
        view
    }

    #[test]
    fn a_class_that_cannot_make_a_volume_is_refused() {
        assert_eq!(
            fixture::found(check, &fixture::view(), &fixture::wish()),
            []
        );
        let mut view = fixture::view();
        view.classes = Some(vec![fixture::class("old")]);
        let finding = fixture::finds(check, &view, Severity::Error, "no such class");
        assert_eq!(
            (finding.object.as_str(), finding.hint.as_str()),
            ("storageclass/new", "there are old")
        );
        let view = with_new(json!({"provisioner": BY_HAND}));
        fixture::finds(check, &view, Severity::Error, "Nothing makes volumes");
        let view = with_new(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
        fixture::finds(check, &view, Severity::Error, "being deleted");
    }

    #[test]
    fn a_provisioner_without_a_driver_object_is_told() {
        let view = with_new(json!({"provisioner": "rancher.io/local-path"}));
        fixture::finds(check, &view, Severity::Info, "rancher.io/local-path");
    }

    #[test]
    fn mount_options_that_would_be_lost_are_told() {
        let mut view = fixture::view();
        fixture::patch_volume(&mut view, json!({"spec": {"mountOptions": ["noatime"]}}));
        fixture::finds(check, &view, Severity::Warning, "noatime");
    }

    #[test]
    fn classes_that_may_not_be_read_are_not_said_to_be_missing() {
        let mut view = fixture::view();
        view.classes = None;
        assert_eq!(fixture::found(check, &view, &fixture::wish()), []);
    }
}
