//! Attributes that only a process with `CAP_SYS_ADMIN` can list or set. A volume may hold them where
//! one of its pods has that capability, and where it runs something that is known to write them. No
//! pass of a mover without it can tell: `trusted.*` names do not even appear.

use k8s_openapi::api::core::v1::{Container, PodSpec};
use livmig_engine::spec::MoverCapability;

use super::pod_security::{admits_capabilities, privileged};
use crate::kube::preflight::{context::CheckContext, finding::Finding};

/// Words of images, and what those write. The word stands between other characters than letters.
const KNOWN: [(&str, &str); 11] = [
    ("dind", "docker-in-docker keeps overlay layers"),
    ("dockerd", "docker keeps overlay layers"),
    ("buildkit", "BuildKit keeps overlay layers"),
    ("buildkitd", "BuildKit keeps overlay layers"),
    ("podman", "podman keeps overlay layers"),
    ("k3s", "containerd keeps overlay layers"),
    ("containerd", "containerd keeps overlay layers"),
    ("gluster", "Gluster keeps its bricks' state in trusted.*"),
    ("glusterfs", "Gluster keeps its bricks' state in trusted.*"),
    ("glusterd", "Gluster keeps its bricks' state in trusted.*"),
    ("samba", "Samba keeps access lists in security.NTACL"),
];

pub(crate) fn check(case: &CheckContext<'_>) -> Vec<Finding> {
    let given = case.wish.capabilities.contains(&MoverCapability::SysAdmin);
    let Some(why) = case.pod_spec().filter(|_| !given).and_then(why) else {
        return Vec::new();
    };
    let helps = if admits_capabilities(case) {
        "to have them looked for and carried: --mover-capabilities SYS_ADMIN".to_owned()
    } else {
        format!(
            "to have them looked for and carried: --mover-capabilities SYS_ADMIN, and for the time \
             of the migration: {}",
            privileged(case)
        )
    };
    vec![
        Finding::warning(
            case.object(),
            format!(
                "{why}, so its volumes may hold trusted.* and security.* attributes. Movers without \
                 CAP_SYS_ADMIN cannot list trusted.* (they would be missing on the new volume, and \
                 a pass can only say attributes-unseen), nor set most of security.* (the first pass \
                 names those, and is refused without --leave-out attributes-unsupported)"
            ),
        )
        .hint(helps),
    ]
}

/// What in the pods' template makes such attributes likely.
fn why(template: &PodSpec) -> Option<String> {
    let initial = template.init_containers.iter().flatten();
    let mut containers = template.containers.iter().chain(initial);
    containers.find_map(|container| {
        let may = may(container).map(str::to_owned);
        let named = || known(container.image.as_deref()?).map(|writes| format!("runs: {writes}"));
        Some(format!(
            "Its container {} {}",
            container.name,
            may.or_else(named)?
        ))
    })
}

/// What a container may that lets it write such attributes.
fn may(container: &Container) -> Option<&'static str> {
    let context = container.security_context.as_ref()?;
    if context.privileged == Some(true) {
        return Some("is privileged");
    }
    let added = context.capabilities.as_ref()?.add.as_ref()?;
    added
        .iter()
        .any(|name| matches!(name.as_str(), "SYS_ADMIN" | "CAP_SYS_ADMIN" | "ALL"))
        .then_some("has CAP_SYS_ADMIN")
}

/// What an image is known to write, by its name and tag without the registry.
fn known(image: &str) -> Option<&'static str> {
    let (image, _) = image.split_once('@').unwrap_or((image, ""));
    let path = match image.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => path,
        _ => image,
    };
    let mut words = path.split(|c: char| !c.is_ascii_alphanumeric());
    words.find_map(|word| {
        let (_, writes) = KNOWN.iter().find(|(name, _)| *name == word)?;
        Some(*writes)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kube::preflight::{finding::Severity, fixture, snapshot::Snapshot};

    fn view(containers: &Value) -> Snapshot {
        let mut view = fixture::view();
        view.workload = Some(fixture::set(json!({"template": {"spec": containers}})));
        view
    }

    #[test]
    fn what_may_write_such_attributes_is_told_with_the_flag_that_helps() {
        let context = |context: &Value| json!({"containers": [{"name": "sidecar"}, {"name": "db", "securityContext": context}]});
        let added = |name: &str| context(&json!({"capabilities": {"add": [name]}}));
        for (spec, word) in [
            (context(&json!({"privileged": true})), "db is privileged"),
            (added("SYS_ADMIN"), "db has CAP_SYS_ADMIN"),
            (added("CAP_SYS_ADMIN"), "db has CAP_SYS_ADMIN"),
            (added("ALL"), "db has CAP_SYS_ADMIN"),
            (
                json!({"initContainers": [{"name": "i", "securityContext": {"privileged": true}}]}),
                "i is privileged",
            ),
            (
                json!({"containers": [{"name": "d", "image": "docker:27-dind"}]}),
                "docker-in-docker",
            ),
            (
                json!({"containers": [{"name": "d", "image": "r.io:5000/a/samba-ad@sha256:0"}]}),
                "security.NTACL",
            ),
        ] {
            let view = view(&spec);
            let finding = fixture::finds(check, &view, Severity::Warning, word);
            assert!(
                finding.hint.ends_with("--mover-capabilities SYS_ADMIN"),
                "{finding:?}"
            );
            let mut wish = fixture::wish();
            wish.capabilities.insert(MoverCapability::SysAdmin);
            assert_eq!(fixture::found(check, &view, &wish), []);
        }
    }

    #[test]
    fn where_the_namespace_forbids_the_capability_the_way_to_it_is_told() {
        let mut view = view(&json!({"containers": [{"name": "d", "image": "gluster/x"}]}));
        view.namespace_object = Some(fixture::object(
            json!({"metadata": {"name": "shop", "labels":
            {"pod-security.kubernetes.io/enforce": "baseline"}}}),
        ));
        let finding = fixture::finds(check, &view, Severity::Warning, "Gluster");
        assert!(finding.hint.contains("=privileged"), "{finding:?}");
    }

    #[test]
    fn an_ordinary_workload_is_not_suspected() {
        for image in [
            "postgres:17",
            "docker.io/library/redis:8",
            "ghcr.io/acme/windind:1",
            "registry.docker.example/app",
            "docker/getting-started",
        ] {
            let view = view(&json!({"containers": [{"name": "db", "image": image,
                "securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}}]}));
            assert_eq!(
                fixture::found(check, &view, &fixture::wish()),
                [],
                "{image}"
            );
        }
    }
}
