//! Policies that look at what a migration makes.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use livmig_tests::run::run;

use crate::fixture::{NEW, Namespace, OLD, Workload, with_namespace};

/// How long the API server may take until it obeys a new policy.
const PATIENCE: Duration = Duration::from_mins(1);

/// A policy of the whole cluster that looks at one namespace; gone with this value.
pub(crate) struct Policy<'a> {
    namespace: &'a Namespace,
    kinds: [&'static str; 2],
}

impl<'a> Policy<'a> {
    /// Makes a policy of `kind` with `spec`, in YAML of two spaces, bound to the namespace.
    pub(crate) fn new(namespace: &'a Namespace, kind: &str, spec: &str) -> Result<Self> {
        let kinds = match kind {
            "ValidatingAdmissionPolicy" => [
                "validatingadmissionpolicybinding",
                "validatingadmissionpolicy",
            ],
            _ => ["mutatingadmissionpolicybinding", "mutatingadmissionpolicy"],
        };
        let actions = if kind.starts_with("Validating") {
            "validationActions: [Deny]"
        } else {
            ""
        };
        let name = namespace.name();
        let policy = Self { namespace, kinds };
        namespace.apply(&format!(
            r"
apiVersion: admissionregistration.k8s.io/v1
kind: {kind}
metadata: {{name: {name}}}
spec:
  failurePolicy: Fail
{spec}
---
apiVersion: admissionregistration.k8s.io/v1
kind: {kind}Binding
metadata: {{name: {name}}}
spec:
  policyName: {name}
  {actions}
  matchResources:
    namespaceSelector:
      matchLabels: {{kubernetes.io/metadata.name: {name}}}
"
        ))?;
        Ok(policy)
    }

    /// Waits until creating `manifest` without storing it brings an answer with `words`.
    pub(crate) fn await_answer(&self, manifest: &str, words: &str) -> Result<()> {
        let began = Instant::now();
        loop {
            let answer = self.namespace.try_out(manifest)?;
            if answer.stdout.contains(words) || answer.stderr.contains(words) {
                return Ok(());
            }
            ensure!(
                began.elapsed() < PATIENCE,
                "no answer says {words:?}: {}{}",
                answer.stdout,
                answer.stderr
            );
        }
    }
}

impl Drop for Policy<'_> {
    fn drop(&mut self) {
        for kind in self.kinds {
            let arguments = ["delete", kind, self.namespace.name(), "--ignore-not-found"];
            let _ = self.namespace.kubectl(&arguments);
        }
    }
}

/// A claim of class [`NEW`] with the labels of the workload's.
fn probe() -> String {
    format!(
        r"
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: probe, labels: {{team: db}}}}
spec:
  accessModes: [ReadWriteOnce]
  storageClassName: {NEW}
  resources: {{requests: {{storage: 400Mi}}}}
"
    )
}

#[test]
fn a_policy_that_would_refuse_the_final_claim_is_met_while_the_workload_runs() -> Result<()> {
    with_namespace("policy", |namespace| {
        namespace.start(&Workload::stateful_set())?;
        let before = namespace.get(&["statefulset", "app"])?["metadata"]["generation"].clone();
        // The staging claim, which has not the workload's labels, is none of its business.
        let policy = Policy::new(
            namespace,
            "ValidatingAdmissionPolicy",
            &format!(
                r#"  matchConstraints:
    resourceRules:
    - {{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [persistentvolumeclaims]}}
  validations:
  - expression: >-
      object.spec.storageClassName != "{NEW}" || !("team" in object.metadata.labels)
    message: this team keeps to its class"#
            ),
        )?;
        policy.await_answer(&probe(), "this team keeps to its class")?;
        let arguments = ["migrate", "sts/app", "--to-class", NEW, "--yes"];
        run(&mut namespace.coord(&arguments)?)?.expect(1)?.says(&[
            "data-app-0",
            "this team keeps to its class",
            "never",
        ])?;
        let after = namespace.get(&["statefulset", "app"])?;
        ensure!(after["metadata"]["generation"] == before, "{after}");
        ensure!(namespace.class("data-app-0")? == OLD);
        drop(policy);
        run(&mut namespace.coord(&["cleanup", "sts/app"])?)?.expect(0)?;
        namespace.expect_clean()
    })
}

#[test]
fn a_policy_that_refuses_the_movers_is_named_with_its_words() -> Result<()> {
    with_namespace("nomover", |namespace| {
        namespace.start(&Workload::stateful_set())?;
        let policy = Policy::new(
            namespace,
            "ValidatingAdmissionPolicy",
            r#"  matchConstraints:
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}
  validations:
  - expression: object.spec.containers.all(one, one.image.startsWith("livmig.io/test/"))
    message: images come from the house only"#,
        )?;
        let pod = r"
apiVersion: v1
kind: Pod
metadata: {name: probe}
spec: {containers: [{name: one, image: elsewhere}]}
";
        policy.await_answer(pod, "images come from the house only")?;
        let arguments = ["migrate", "sts/app", "--to-class", NEW, "--yes"];
        let told = run(&mut namespace.coord(&arguments)?)?.expect(1)?;
        told.says(&[
            "pod livmig-app-",
            "images come from the house only",
            "never",
        ])?;
        ensure!(!told.stderr.contains("rbac.yaml"), "{}", told.stderr);
        drop(policy);
        run(&mut namespace.coord(&["cleanup", "sts/app"])?)?.expect(0)?;
        namespace.expect_clean()
    })
}

#[test]
fn a_quota_with_room_for_a_migration_and_for_nothing_more_stops_none() -> Result<()> {
    with_namespace("quota", |namespace| {
        namespace.start(&Workload::stateful_set())?;
        // The workload's claim and the staging one; that one is gone when the final one is made.
        namespace.apply(
            r#"
apiVersion: v1
kind: ResourceQuota
metadata: {name: claims}
spec: {hard: {persistentvolumeclaims: "2"}}
"#,
        )?;
        let counted = "--for=jsonpath={.status.used.persistentvolumeclaims}=1";
        namespace
            .kubectl(&["wait", counted, "resourcequota/claims", "--timeout=60s"])?
            .expect(0)?;
        let arguments = ["migrate", "sts/app", "--to-class", NEW, "--yes"];
        run(&mut namespace.coord(&arguments)?)?.expect(0)?;
        namespace.await_ready(&Workload::stateful_set())?;
        ensure!(namespace.class("data-app-0")? == NEW);
        namespace.expect_clean()
    })
}
