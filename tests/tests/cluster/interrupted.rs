//! Ctrl-C in a live pass.

use anyhow::{Result, ensure};
use livmig_tests::run::{LIMIT, Running, run};
use rustix::process::Signal;

use crate::fixture::{Intent, NEW, Workload, with_namespace};

#[test]
fn an_interrupted_live_pass_leaves_the_workload_alone_and_is_resumed() -> Result<()> {
    with_namespace("interrupt", |namespace| {
        let workload = Workload::stateful_set();
        namespace.start(&workload)?;
        // Enough that a live pass takes a while.
        let fill = "head -c 200000000 /dev/urandom > /data/large && sync";
        namespace
            .kubectl(&["exec", "app-0", "--", "bash", "-c", fill])?
            .expect(0)?;
        let pod = namespace.get(&["pod", "app-0"])?["metadata"]["uid"].take();
        let coordinator = Running::start(&mut namespace.migration(&workload, NEW)?)?;
        namespace.await_intent(Intent::LivePass)?;
        coordinator.signal(Signal::INT)?;
        let ended = coordinator.wait(LIMIT)?.expect(130)?;
        ended.says(&["interrupted", "resume"])?;
        let now = namespace.get(&["pod", "app-0"])?["metadata"]["uid"].take();
        ensure!(now == pod, "the pod is another one");
        namespace.expect_writing(&workload, workload.first_class())?;
        run(&mut namespace.coord(&["resume", workload.reference()])?)?.expect(0)?;
        namespace.expect_completed(&workload, NEW)
    })
}
