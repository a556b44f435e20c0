//! Quotas, by arithmetic: while a migration runs, old and new claims both count.

use std::collections::BTreeMap;

use livmig_engine::spec::ClaimTarget;

use crate::kube::{
    objects::quantity::{amount, bytes},
    preflight::{context::CheckContext, finding::Finding, size},
};

/// Movers for each volume, one at each end, each with a Secret for its session.
const MOVERS: u64 = 2;

/// Ends of the names of resources that containers ask for.
const COMPUTE: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// What a migration has once: a Secret with keys, a Lease, and the `ConfigMap`s of the journal's
/// first parts and of the objects as they were.
const ONCE: [(&str, u64); 5] = [
    ("secrets", 1),
    ("count/secrets", 1),
    ("configmaps", 3),
    ("count/configmaps", 3),
    ("count/leases.coordination.k8s.io", 1),
];

pub(crate) fn check(case: &CheckContext<'_>) -> Vec<Finding> {
    let more = more(case);
    let mut findings = Vec::new();
    for quota in case.view.quotas.iter().flatten() {
        let object = format!(
            "resourcequota/{}",
            quota.metadata.name.as_deref().unwrap_or_default()
        );
        let spec = quota.spec.as_ref();
        // A quota for some pods only (by priority or quality of service) is not computed.
        let scoped = spec.is_some_and(|spec| {
            spec.scope_selector.is_some() || spec.scopes.as_ref().is_some_and(|s| !s.is_empty())
        });
        let status = quota.status.as_ref();
        let hard = status
            .and_then(|status| status.hard.as_ref())
            .or_else(|| spec?.hard.as_ref());
        let compute = |resource: &&String| COMPUTE.iter().any(|end| resource.ends_with(end));
        let mut computed = hard.into_iter().flatten().map(|(resource, _)| resource);
        if let Some(resource) = computed.find(compute).filter(|_| !scoped) {
            findings.push(
                Finding::warning(
                    object.clone(),
                    format!("It limits {resource}, and the movers' pods count too"),
                )
                .hint("leave room for two pods for each claim"),
            );
        }
        for (resource, limit) in hard.into_iter().flatten().filter(|_| !scoped) {
            let Some(more) = more.get(resource.as_str()).copied() else {
                continue;
            };
            let used =
                status.and_then(|status| status.used.as_ref()?.get(resource).and_then(amount));
            let (used, Some(limit)) = (used.unwrap_or(0), amount(limit)) else {
                continue;
            };
            let show = |amount: u64| {
                if resource.ends_with("storage") {
                    bytes(amount)
                } else {
                    amount.to_string()
                }
            };
            if used.saturating_add(more) <= limit {
                continue;
            }
            if more == 0 {
                findings.push(
                    Finding::error(
                        object.clone(),
                        format!(
                            "It allows {} of {resource} and {} are used: should the migration have to \
                             go back, a claim of the old class could not be made anew",
                            show(limit),
                            show(used),
                        ),
                    )
                    .hint(format!(
                        "raise {resource} to {} until the migration is over",
                        show(used)
                    )),
                );
            } else {
                findings.push(
                    Finding::error(
                        object.clone(),
                        format!(
                            "The migration needs {} more of {resource}; {} of {} are used, and what \
                             is old and what is new both count while it runs",
                            show(more),
                            show(used),
                            show(limit),
                        ),
                    )
                    .hint(format!(
                        "raise {resource} to {} or more, or migrate fewer claims at a time \
                         (--claim)",
                        show(used.saturating_add(more))
                    )),
                );
            }
        }
    }
    findings
}

/// What a migration adds, by the names of a quota's resources.
fn more(case: &CheckContext<'_>) -> BTreeMap<String, u64> {
    let mut more: BTreeMap<String, u64> = BTreeMap::new();
    let mut add = |resource: &str, amount: u64| {
        let total = more.entry(resource.to_owned()).or_default();
        *total = total.saturating_add(amount);
    };
    for (resource, amount) in ONCE {
        add(resource, amount);
    }
    for one in &case.moves {
        let class = &one.to_class;
        let size = size::of(one).unwrap_or(0);
        add("requests.storage", size);
        add(
            &format!("{class}.storageclass.storage.k8s.io/requests.storage"),
            size,
        );
        // On the way back the old claim is made anew where it was.
        if let Some(ClaimTarget {
            from_class: old, ..
        }) = one.target()
        {
            add(
                &format!("{old}.storageclass.storage.k8s.io/requests.storage"),
                0,
            );
            add(
                &format!("{old}.storageclass.storage.k8s.io/persistentvolumeclaims"),
                0,
            );
        }
        add("persistentvolumeclaims", 1);
        add("count/persistentvolumeclaims", 1);
        add(
            &format!("{class}.storageclass.storage.k8s.io/persistentvolumeclaims"),
            1,
        );
        add("pods", MOVERS);
        add("count/pods", MOVERS);
        add("secrets", MOVERS);
        add("count/secrets", MOVERS);
    }
    more
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::preflight::{finding::Severity, fixture, snapshot::Snapshot};

    fn limited(resource: &str, hard: &str, used: &str) -> Snapshot {
        let mut view = fixture::view();
        view.quotas = Some(vec![fixture::object(json!({
            "metadata": {"name": "q"},
            "status": {"hard": {resource: hard}, "used": {resource: used}},
        }))]);
        view
    }

    #[test]
    fn what_two_volumes_of_a_gibibyte_add_is_counted() {
        for (resource, enough, short, used) in [
            ("requests.storage", "4Gi", "4095Mi", "2Gi"),
            (
                "new.storageclass.storage.k8s.io/requests.storage",
                "2Gi",
                "2047Mi",
                "0",
            ),
            ("persistentvolumeclaims", "4", "3", "2"),
            (
                "new.storageclass.storage.k8s.io/persistentvolumeclaims",
                "2",
                "1",
                "0",
            ),
            ("pods", "6", "5", "2"),
            ("count/secrets", "5", "4", "0"),
            ("configmaps", "4", "3", "1"),
        ] {
            let view = limited(resource, enough, used);
            assert_eq!(
                fixture::found(check, &view, &fixture::wish()),
                [],
                "{resource}"
            );
            let view = limited(resource, short, used);
            fixture::finds(check, &view, Severity::Error, resource);
        }
    }

    #[test]
    fn a_quota_of_what_containers_ask_for_is_told() {
        for resource in ["limits.memory", "cpu"] {
            let view = limited(resource, "1Gi", "0");
            fixture::finds(check, &view, Severity::Warning, resource);
        }
    }

    #[test]
    fn what_the_migration_does_not_add_is_not_counted() {
        for resource in [
            "old.storageclass.storage.k8s.io/persistentvolumeclaims",
            "services",
        ] {
            let view = limited(resource, "0", "0");
            assert_eq!(
                fixture::found(check, &view, &fixture::wish()),
                [],
                "{resource}"
            );
        }
    }

    #[test]
    fn a_class_that_is_closed_to_new_claims_is_closed_to_the_way_back() {
        let resource = "old.storageclass.storage.k8s.io/persistentvolumeclaims";
        let view = limited(resource, "2", "2");
        assert_eq!(fixture::found(check, &view, &fixture::wish()), []);
        let view = limited(resource, "0", "2");
        fixture::finds(check, &view, Severity::Error, "go back");
    }
}
