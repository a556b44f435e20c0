//! What is refused or given up, and leaves the workload as it was.

use anyhow::{Result, ensure};
use livmig_tests::run::run;

use crate::fixture::{NEW, Workload, with_namespace};

#[test]
fn what_the_checks_refuse_changes_nothing_and_a_missing_image_never_stops_the_workload()
-> Result<()> {
    with_namespace("refused", |namespace| {
        let workload = Workload::stateful_set();
        namespace.start(&workload)?;
        let before = namespace.get(&["statefulset", "app"])?["metadata"]["generation"].clone();
        let wrong = ["migrate", "sts/app", "--to-class", "no-such-class", "--yes"];
        run(&mut namespace.coord(&wrong)?)?
            .expect(3)?
            .says(&["no-such-class", "nothing was changed"])?;
        namespace.expect_clean()?;

        let missing = ["--mover-image", "livmig.io/no-such-image:0", "--yes"];
        let mut arguments = vec!["migrate", "sts/app", "--to-class", NEW];
        arguments.extend(missing);
        run(&mut namespace.coord(&arguments)?)?
            .expect(1)?
            .says(&["no-such-image", "never"])?;
        let after = namespace.get(&["statefulset", "app"])?;
        ensure!(after["metadata"]["generation"] == before, "{after}");
        namespace.expect_on_old(&workload)
    })
}
