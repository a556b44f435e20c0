//! Failures behind the fence, from which the workload comes back on its old volume.

use anyhow::{Context as _, Result, ensure};
use livmig_tests::run::{LIMIT, run};

use crate::fixture::{NEW, OLD, with_namespace};

#[test]
fn a_final_pass_that_fails_ends_with_the_workload_on_its_old_volume() -> Result<()> {
    with_namespace("final", |namespace| {
        namespace.start(1)?;
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
        let heard = namespace.listen("app-0")?;
        let arguments = ["migrate", "sts/app", "--to-class", NEW, "--yes"];
        run(&mut namespace.coord(&arguments)?)?
            .expect(4)?
            .says(&["rolled back", "space"])?;

        namespace.await_ready(1)?;
        let acknowledged = heard.wait(LIMIT)?.stdout;
        let acknowledged: u64 = acknowledged.lines().last().context("silent")?.parse()?;
        ensure!(
            namespace.numbers("app-0")? >= acknowledged,
            "lost: {acknowledged} was promised"
        );
        ensure!(namespace.class("data-app-0")? == OLD);
        let claim = namespace.get(&["pvc", "data-app-0"])?;
        ensure!(claim["metadata"]["labels"]["team"] == "db", "{claim}");
        run(&mut namespace.coord(&["cleanup", "sts/app"])?)?.expect(0)?;
        namespace.expect_clean()
    })
}
