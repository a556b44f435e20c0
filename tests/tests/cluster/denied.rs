//! What stands in the way of a migration before or while it runs, and leaves the workload on its
//! old volume.

use anyhow::{Context as _, Result, ensure};
use livmig_tests::run::run;
use serde_json::json;

use crate::fixture::{NEW, Namespace, OLD, Workload, with_namespace};

#[test]
fn the_pod_of_a_finished_job_is_named() -> Result<()> {
    with_namespace("job", |namespace| {
        let workload = Workload::stateful_set();
        namespace.start(&workload)?;
        let job = json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "backup"},
            "spec": {"template": {"spec": {
                "restartPolicy": "Never",
                // The volume can be used on one node at a time.
                "affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{
                    "topologyKey": "kubernetes.io/hostname",
                    "labelSelector": {"matchLabels": {"app": "app"}},
                }]}},
                "containers": [{
                    "name": "backup",
                    "image": "livmig.io/test/git:1",
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["true"],
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                }],
                "volumes": [{"name": "data",
                    "persistentVolumeClaim": {"claimName": "data-app-0"}}],
            }}},
        });
        namespace.apply(&job.to_string())?;
        namespace.wait("job/backup", "condition=Complete")?;
        let pods = namespace.list(&["pods", "-l", "job-name=backup"])?;
        let pod = pods.first().context("no pod of the job")?;
        let pod = pod["metadata"]["name"].as_str().unwrap_or_default();
        run(&mut namespace.migration(&workload, NEW)?)?
            .expect(3)?
            .says(&[pod, "data-app-0", "has ended", "nothing was changed"])?;
        namespace.expect_clean()?;

        // As the hint says.
        namespace.kubectl(&["delete", "pod", pod])?.expect(0)?;
        run(&mut namespace.migration(&workload, NEW)?)?.expect(0)?;
        namespace.expect_completed(&workload, NEW)
    })
}

/// Refuses claims of the new class under the workload's names, in one namespace, while it lives.
struct Policy<'a>(&'a Namespace);

impl<'a> Policy<'a> {
    fn new(namespace: &'a Namespace) -> Result<Self> {
        let name = namespace.name();
        let policy = Self(namespace);
        let selector = json!({"matchLabels": {"kubernetes.io/metadata.name": name}});
        let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
            {
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": "ValidatingAdmissionPolicy",
                "metadata": {"name": name},
                "spec": {
                    "failurePolicy": "Fail",
                    "matchConstraints": {"resourceRules": [{
                        "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
                        "resources": ["persistentvolumeclaims"],
                    }]},
                    "validations": [{
                        "expression": format!(
                            "!object.metadata.name.startsWith('data-') || \
                             object.spec.storageClassName != '{NEW}'"
                        ),
                        "message": "the class is not for data",
                    }],
                },
            },
            {
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": "ValidatingAdmissionPolicyBinding",
                "metadata": {"name": name},
                "spec": {
                    "policyName": name,
                    "validationActions": ["Deny"],
                    "matchResources": {"namespaceSelector": selector},
                },
            },
        ]});
        namespace.apply(&objects.to_string())?;
        Ok(policy)
    }
}

impl Drop for Policy<'_> {
    fn drop(&mut self) {
        let name = self.0.name();
        for kind in [
            "validatingadmissionpolicybinding",
            "validatingadmissionpolicy",
        ] {
            let _ = self.0.kubectl(&["delete", kind, name]);
        }
    }
}

#[test]
fn a_policy_that_refuses_the_final_claim_leaves_the_workload_on_its_old_volume() -> Result<()> {
    with_namespace("policy", |namespace| {
        let workload = Workload::stateful_set();
        namespace.start(&workload)?;
        let policy = Policy::new(namespace)?;
        let ended = run(&mut namespace.migration(&workload, NEW)?)?;
        drop(policy);
        ended.says(&["the class is not for data"])?;
        if ended.status.code() == Some(3) {
            namespace.expect_clean()?;
            return namespace.expect_writing(&workload, OLD);
        }
        ensure!(!ended.status.success(), "{ended:?}");
        namespace.expect_consistent(&workload, NEW, &ended)
    })
}
