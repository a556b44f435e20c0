//! Whether the namespace lets the movers' pods in, and as whom.

use livmig_engine::spec::RunAs;

use crate::kube::preflight::{context::CheckContext, finding::Finding};

const ENFORCE: &str = "pod-security.kubernetes.io/enforce";

pub(crate) fn check(case: &CheckContext<'_>) -> Vec<Finding> {
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
    findings.extend(forbidden(case, &object));
    if !is_restricted(case) {
        return findings;
    }
    let baseline = format!(
        "kubectl label --overwrite namespace {} {ENFORCE}=baseline",
        case.view.namespace
    );
    findings.push(match identity(case) {
        Ok(run_as) if run_as.fs_group.is_some() => Finding::info(
            object,
            format!(
                "It allows only restricted pods, so the movers run as user {} like the workload. \
                 What they cannot keep (entries of another owner, devices, capabilities of files) \
                 fails the first pass by name; the time of the root directory is not carried",
                run_as.user
            ),
        ),
        Ok(run_as) => Finding::warning(
            object,
            format!(
                "It allows only restricted pods, so the movers run as user {} like the workload, \
                 and its pods have no fsGroup: the new volume's root directory must be one that \
                 this user may write in, or the first pass fails",
                run_as.user
            ),
        )
        .hint(format!(
            "if it fails, for the time of the migration: {baseline}"
        )),
        Err(why) => Finding::error(
            object,
            format!(
                "It allows only restricted pods, so the movers have to run as the workload does, \
                 and {why}"
            ),
        )
        .hint(format!(
            "set runAsUser in the pod template's securityContext; or, for the time of the \
             migration: {baseline}"
        )),
    });
    findings
}

/// What the namespace forbids of what the movers were to get.
fn forbidden(case: &CheckContext<'_>, object: &str) -> Option<Finding> {
    let level = level(case).filter(|_| !admits_capabilities(case))?;
    let names: Vec<&str> = case
        .wish
        .capabilities
        .iter()
        .map(|capability| capability.name())
        .collect();
    (!names.is_empty()).then(|| {
        Finding::error(
            object,
            format!(
                "It enforces the Pod Security level {level}, which admits no pod with the \
                 capability {}",
                names.join(" or ")
            ),
        )
        .hint(format!(
            "leave out --mover-capabilities; or, for the time of the migration: {}",
            privileged(case)
        ))
    })
}

/// The command that lets any pod into the namespace.
pub(crate) fn privileged(case: &CheckContext<'_>) -> String {
    format!(
        "kubectl label --overwrite namespace {} {ENFORCE}=privileged",
        case.view.namespace
    )
}

/// Whether the namespace admits pods that may do more than most.
pub(crate) fn admits_capabilities(case: &CheckContext<'_>) -> bool {
    !matches!(level(case), Some("baseline" | "restricted"))
}

/// As whom the movers run; none where they may be root, and where that cannot be told.
pub(in crate::kube::preflight) fn run_as(case: &CheckContext<'_>) -> Option<RunAs> {
    if is_restricted(case) {
        identity(case).ok()
    } else {
        None
    }
}

fn is_restricted(case: &CheckContext<'_>) -> bool {
    level(case) == Some("restricted")
}

/// The Pod Security level that the namespace enforces by its label.
fn level<'a>(case: &CheckContext<'a>) -> Option<&'a str> {
    let namespace = case.view.namespace_object.as_ref()?;
    let labels = namespace.metadata.labels.as_ref()?;
    labels.get(ENFORCE).map(String::as_str)
}

/// As whom the workload runs, by its template; or why that cannot be told.
fn identity(case: &CheckContext<'_>) -> Result<RunAs, String> {
    let Some(template) = case.pod_spec() else {
        return Err("it has no pod template".to_owned());
    };
    let pod = template.security_context.as_ref();
    let mut users = template.containers.iter().map(|container| {
        let own = container.security_context.as_ref();
        let user = own
            .and_then(|own| own.run_as_user)
            .or(pod.and_then(|pod| pod.run_as_user));
        let group = own
            .and_then(|own| own.run_as_group)
            .or(pod.and_then(|pod| pod.run_as_group));
        (container.name.as_str(), user, group)
    });
    let Some((_, Some(user), group)) = users.next() else {
        return Err("its pod template names no user".to_owned());
    };
    if user == 0 {
        return Err("its pod template names root".to_owned());
    }
    match users.find(|(_, other, others)| (*other, *others) != (Some(user), group)) {
        Some((name, ..)) => Err(format!(
            "its container {name} runs as another user or group than the first one"
        )),
        None => Ok(RunAs {
            user,
            group,
            fs_group: pod.and_then(|pod| pod.fs_group),
        }),
    }
}

#[cfg(test)]
mod tests {
    use livmig_engine::spec::MoverCapability;
    use serde_json::{Value, json};

    use super::*;
    use crate::kube::preflight::{check as whole, finding::Severity, fixture, snapshot::Snapshot};

    fn view(level: &str, spec: &Value) -> Snapshot {
        let mut view = fixture::view();
        view.workload = Some(fixture::set(json!({"template": {"spec": spec}})));
        view.namespace_object = Some(fixture::object(
            json!({"metadata": {"name": "shop", "labels": {ENFORCE: level}}}),
        ));
        view
    }

    fn planned(view: &Snapshot) -> Option<RunAs> {
        let spec = whole(view, &fixture::wish()).spec?;
        spec.target.kubernetes()?.mover.run_as
    }

    #[test]
    fn only_a_restricted_namespace_matters() {
        let user = json!({"securityContext": {"runAsUser": 1000}});
        for level in ["baseline", "privileged"] {
            let view = view(level, &user);
            assert_eq!(fixture::found(check, &view, &fixture::wish()), []);
            assert_eq!(planned(&view), None, "{level}");
        }
    }

    #[test]
    fn there_the_movers_are_the_workload_s_user() {
        let view = view(
            "restricted",
            &json!({
                "securityContext": {"runAsUser": 1000, "runAsGroup": 7, "fsGroup": 2000},
                "containers": [{"name": "db"},
                    {"name": "exporter", "securityContext": {"runAsUser": 1000}}],
            }),
        );
        fixture::finds(check, &view, Severity::Info, "as user 1000");
        let run_as = RunAs {
            user: 1000,
            group: Some(7),
            fs_group: Some(2000),
        };
        assert_eq!(planned(&view), Some(run_as));
    }

    #[test]
    fn capabilities_are_refused_where_the_namespace_forbids_them() {
        let user = json!({"securityContext": {"runAsUser": 1000, "fsGroup": 1000}});
        let mut wish = fixture::wish();
        wish.capabilities.insert(MoverCapability::SysAdmin);
        for (level, refuses) in [
            ("restricted", true),
            ("baseline", true),
            ("privileged", false),
        ] {
            let view = view(level, &user);
            let report = whole(&view, &wish);
            let refused = report.errors().find(|finding| {
                finding.message.contains("SYS_ADMIN") && finding.hint.contains("=privileged")
            });
            assert_eq!(refused.is_some(), refuses, "{level}: {report:#?}");
            assert_eq!(report.spec.is_none(), refuses, "{level}");
        }
        let view = fixture::view();
        let spec = whole(&view, &wish).spec.unwrap();
        let given = &spec.target.kubernetes().unwrap().mover.capabilities;
        assert_eq!(*given, wish.capabilities);
    }

    #[test]
    fn without_an_fs_group_the_new_root_may_be_out_of_reach() {
        let own = json!({"containers": [{"name": "db", "securityContext": {"runAsUser": 5}}]});
        let view = view("restricted", &own);
        fixture::finds(check, &view, Severity::Warning, "no fsGroup");
        assert_eq!(planned(&view).map(|run_as| run_as.user), Some(5));
    }

    #[test]
    fn a_workload_that_names_no_user_or_several_is_refused() {
        for (spec, word) in [
            (json!({}), "names no user"),
            (json!({"securityContext": {"runAsUser": 0}}), "names root"),
            (
                json!({"containers": [
                    {"name": "db", "securityContext": {"runAsUser": 1}},
                    {"name": "exporter", "securityContext": {"runAsUser": 2}},
                ]}),
                "exporter",
            ),
        ] {
            let view = view("restricted", &spec);
            let finding = fixture::finds(check, &view, Severity::Error, word);
            assert!(finding.hint.contains("namespace shop"), "{finding:?}");
            assert_eq!(planned(&view), None);
        }
    }
}
