//! A coordinator that stood still while another one took over.

use anyhow::Result;
use livmig_tests::run::{LIMIT, Running, run};
use rustix::process::Signal;

use crate::fixture::{NEW, Workload, with_namespace};

/// Stops the first coordinator's process at `record`, lets another one finish, and wakes it.
fn asleep_at(test: &str, record: &str) -> Result<()> {
    with_namespace(test, |namespace| {
        let workload = Workload::stateful_set();
        namespace.start(&workload)?;
        let first = Running::start(&mut namespace.migration(&workload, NEW)?)?;
        namespace.await_record(record)?;
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
    asleep_at("asleep-live", r#""kind":"live"}"#)
}

#[test]
fn behind_the_fence_it_yields() -> Result<()> {
    asleep_at("asleep-fence", r#""intent","step":{"name":"fence"}"#)
}
