//! A coordinator that stood still while another one took over.

use anyhow::Result;
use livmig_engine::step::Step;
use livmig_tests::run::{LIMIT, Running, run};
use rustix::process::Signal;

use crate::fixture::{Intent, NEW, Workload, with_namespace};

/// Stops the process of the first coordinator, of a migration with `wishes`, at `intent`, lets another
/// one finish, and wakes it.
fn asleep_at(test: &str, intent: Intent, wishes: &[&str]) -> Result<()> {
    with_namespace(test, |namespace| {
        let workload = Workload::stateful_set();
        namespace.start(&workload)?;
        let mut migration = namespace.migration(&workload, NEW)?;
        let first = Running::start(migration.args(wishes))?;
        namespace.await_intent(intent)?;
        first.signal(Signal::STOP)?;
        let second = run(&mut namespace.coord(&["resume", "sts/app"])?)?.expect(0);
        first.signal(Signal::CONT)?;
        second?;
        let first = first.wait(LIMIT)?.expect(130)?;
        first.says(&["taken over"])?;
        namespace.expect_completed(&workload, NEW)
    })
}

#[test]
fn in_a_live_pass_it_yields() -> Result<()> {
    asleep_at("asleep-live", Intent::LivePass, &[])
}

#[test]
fn about_to_stop_the_workload_it_yields() -> Result<()> {
    // It has asked for nothing yet while the command runs, and nothing is left that says so when it
    // wakes: all marks are gone.
    let wishes = ["--pre-stop-exec", "sleep 3"];
    asleep_at("asleep-quiesce", Intent::Of(Step::Quiesce), &wishes)
}

#[test]
fn behind_the_fence_it_yields() -> Result<()> {
    asleep_at("asleep-fence", Intent::Of(Step::Fence), &[])
}
