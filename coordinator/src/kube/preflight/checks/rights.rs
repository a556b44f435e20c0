//! The rights that the user lacks, one finding for each kind of object.

use std::collections::BTreeMap;

use crate::kube::preflight::{context::CheckContext, finding::Finding, rights::Right};

pub(crate) fn check(case: &CheckContext<'_>) -> Vec<Finding> {
    let Some(lacking) = &case.view.lacking else {
        return vec![Finding::info(
            case.object(),
            "The API server would not say which rights there are, so a missing one shows only \
             when it is needed",
        )];
    };
    let mut by_resource: BTreeMap<String, Vec<&Right>> = BTreeMap::new();
    for right in lacking {
        let mut resource = right.resource.to_owned();
        if !right.group.is_empty() {
            resource = format!("{resource}.{}", right.group);
        }
        if !right.subresource.is_empty() {
            resource = format!("{resource}/{}", right.subresource);
        }
        by_resource.entry(resource).or_default().push(right);
    }
    by_resource
        .into_iter()
        .filter_map(|(resource, rights)| {
            let first = rights.first()?;
            let verbs: Vec<&str> = rights.iter().map(|right| right.verb).collect();
            let place = if first.namespaced {
                format!("in namespace {}", case.view.namespace)
            } else {
                "in the cluster".to_owned()
            };
            Some(
                Finding::error(
                    format!("right/{resource}"),
                    format!(
                        "You may not {} {resource} {place}; it is needed {}",
                        verbs.join(", "),
                        first.why
                    ),
                )
                .hint("deploy/rbac.yaml has every right that is needed"),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::{
        objects::network_policy::Network,
        preflight::{finding::Severity, fixture, rights::needed},
    };

    #[test]
    fn verbs_that_are_missing_are_named_once_for_each_resource() {
        assert_eq!(
            fixture::found(check, &fixture::view(), &fixture::wish()),
            []
        );
        let mut view = fixture::view();
        let missing = |verb: &str, resource: &str| {
            let all = needed(&fixture::wish(), Network::Open);
            let right = all
                .iter()
                .find(|r| r.verb == verb && r.resource == resource);
            *right.unwrap()
        };
        view.lacking = Some(vec![missing("watch", "pods"), missing("delete", "pods")]);
        let finding = fixture::finds(
            check,
            &view,
            Severity::Error,
            "not watch, delete pods in namespace",
        );
        assert_eq!(finding.object, "right/pods");
        view.lacking = Some(vec![missing("patch", "persistentvolumes")]);
        fixture::finds(
            check,
            &view,
            Severity::Error,
            "patch persistentvolumes in the cluster",
        );
        view.lacking = None;
        fixture::finds(check, &view, Severity::Info, "would not say");
    }

    #[test]
    fn flags_ask_for_rights_of_their_own() {
        let has = |wish: &crate::kube::preflight::request::MigrationRequest, subresource: &str| {
            needed(wish, Network::Open)
                .iter()
                .any(|right| right.subresource == subresource)
        };
        let mut wish = fixture::wish();
        assert!(!has(&wish, "exec") && has(&wish, "portforward"));
        let policies = |network| {
            let rights = needed(&fixture::wish(), network);
            rights
                .iter()
                .filter(|right| right.resource == "networkpolicies")
                .count()
        };
        assert_eq!(
            (policies(Network::Open), policies(Network::Restricted)),
            (0, 3)
        );
        wish.pre_stop = Some("true".to_owned());
        assert!(has(&wish, "exec"));
    }
}
