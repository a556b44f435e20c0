//! A coordinator that stood still while another one took over.

use anyhow::{Context as _, Result, ensure};
use livmig_tests::run::{LIMIT, Running, run};
use rustix::process::Signal;

use crate::fixture::{NEW, with_namespace};

/// Stops the first coordinator's process at `record`, lets another one finish, and wakes it.
fn asleep_at(test: &str, record: &str) -> Result<()> {
    with_namespace(test, |namespace| {
        namespace.start(1)?;
        let heard = namespace.listen("app-0")?;
        let arguments = ["migrate", "sts/app", "--to-class", NEW, "--yes"];
        let first = Running::start(&mut namespace.coord(&arguments)?)?;
        namespace.await_record(record)?;
        first.signal(Signal::STOP)?;
        let second = run(&mut namespace.coord(&["resume", "sts/app"])?)?.expect(0);
        first.signal(Signal::CONT)?;
        second?;
        let first = first.wait(LIMIT)?.expect(130)?;
        first.says(&["taken over"])?;

        namespace.await_ready(1)?;
        let acknowledged = heard.wait(LIMIT)?.stdout;
        let acknowledged: u64 = acknowledged.lines().last().context("silent")?.parse()?;
        ensure!(
            namespace.numbers("app-0")? >= acknowledged,
            "lost: {acknowledged} was promised"
        );
        ensure!(namespace.class("data-app-0")? == NEW);
        namespace.expect_clean()
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
