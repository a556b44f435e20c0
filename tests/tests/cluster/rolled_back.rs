//! Failures behind the fence, from which the workload comes back on its old volume.

use anyhow::{Result, ensure};
use livmig_tests::run::run;

use crate::{
    admission::Policy,
    fixture::{NEW, OLD, Workload, with_namespace},
};

#[test]
fn a_final_pass_that_fails_ends_with_the_workload_on_its_old_volume() -> Result<()> {
    with_namespace("final", |namespace| {
        let workload = Workload::stateful_set();
        namespace.start(&workload)?;
        // The last thing it writes fills its volume; xfs has less room in the same size.
        let fills = r#"{"spec":{"template":{"spec":{
            "terminationGracePeriodSeconds":120, "containers":[{"name":"app", "lifecycle":{"preStop":{"exec":{"command":
                ["bash","-c","yes > /data/last; true"]}}}}]}}}}"#;
        namespace
            .kubectl(&["patch", "sts", "app", "-p", fills])?
            .expect(0)?;
        namespace
            .kubectl(&["rollout", "status", "sts/app", "--timeout=120s"])?
            .expect(0)?;
        run(&mut namespace.migration(&workload, NEW)?)?
            .expect(4)?
            .says(&["rolled back", "space"])?;

        // There is no room for more.
        namespace.expect_kept(&workload, OLD)?;
        let claim = namespace.get(&["pvc", "data-app-0"])?;
        ensure!(claim["metadata"]["labels"]["team"] == "db", "{claim}");
        run(&mut namespace.coord(&["cleanup", "sts/app"])?)?.expect(0)?;
        namespace.expect_clean()
    })
}

/// A coordinator ends when the claims are bound to their new volumes, before it can say that it will
/// start the workload. Somebody starts it, stops it again and wants the way back: what it has written,
/// the old volume lacks.
#[test]
fn what_ran_on_a_new_volume_is_not_rolled_back() -> Result<()> {
    with_namespace("ran", |namespace| {
        let workload = Workload::stateful_set();
        namespace.start(&workload)?;
        let start = r#""intent","step":{"name":"unquiesce"}"#;
        let policy = Policy::new(
            namespace,
            "ValidatingAdmissionPolicy",
            &format!(
                r"
  matchConstraints:
    resourceRules:
      - {{apiGroups: [''], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [configmaps]}}
  validations:
    - expression: >-
        !('records' in object.data) || !object.data['records'].contains('{start}')
      message: nobody starts anything
"
            ),
        )?;
        let probe = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "probe"}, "data": {"records": start}});
        policy.await_answer(&probe.to_string(), "nobody starts anything")?;
        let ended = run(&mut namespace.migration(&workload, NEW)?)?;
        ensure!(!ended.status.success(), "{ended:?}");
        drop(policy);
        ensure!(namespace.class("data-app-0")? == NEW, "{ended:?}");

        namespace.scale(&workload, 1)?;
        namespace.await_ready(&workload)?;
        namespace.scale(&workload, 0)?;
        namespace
            .kubectl(&["wait", "--for=delete", "pod/app-0", "--timeout=60s"])?
            .expect(0)?;
        run(&mut namespace.coord(&["rollback", workload.reference()])?)?
            .expect(5)?
            .says(&["app-0", "runs or ran on the new volume"])?;
        run(&mut namespace.coord(&["resume", workload.reference()])?)?.expect(0)?;
        namespace.expect_completed(&workload, NEW)
    })
}
