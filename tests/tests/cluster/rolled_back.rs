//! Failures behind the fence, from which the workload comes back on its old volume.

use anyhow::{Result, ensure};
use livmig_tests::run::run;

use crate::fixture::{NEW, OLD, Workload, with_namespace};

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
