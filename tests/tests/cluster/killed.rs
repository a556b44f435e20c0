//! The coordinator is killed in each phase, and another one goes on.

use anyhow::{Result, ensure};
use livmig_tests::run::{Running, run};

use crate::fixture::{NEW, OLD, with_namespace};

/// Kills the coordinator as soon as `record` is in the journal, and resumes.
fn killed_at(test: &str, record: &str) -> Result<()> {
    with_namespace(test, |namespace| {
        namespace.start(1)?;
        let arguments = ["migrate", "sts/app", "--to-class", NEW, "--yes"];
        let coordinator = Running::start(&mut namespace.coord(&arguments)?)?;
        namespace.await_record(record)?;
        // Dropped, it is killed.
        drop(coordinator);
        let before = namespace.kubectl(&["get", "pods"])?;
        let resumed = run(&mut namespace.coord(&["resume", "sts/app"])?)?;
        let code = resumed.status.code();
        ensure!(
            matches!(code, Some(0 | 4)),
            "resumed after {record}: {}\n{}\n{}\n{}",
            resumed.status,
            resumed.stdout,
            resumed.stderr,
            before.stdout
        );
        namespace.await_ready(1)?;
        ensure!(namespace.numbers("app-0")? > 0);
        let class = if code == Some(0) { NEW } else { OLD };
        ensure!(namespace.class("data-app-0")? == class);
        Ok(())
    })
}

#[test]
fn in_a_live_pass() -> Result<()> {
    killed_at("live", r#""kind":"live"}"#)
}

#[test]
fn while_the_workload_stops() -> Result<()> {
    killed_at("stops", r#""intent","step":{"name":"quiesce"}"#)
}

#[test]
fn behind_the_fence() -> Result<()> {
    killed_at("fence", r#""intent","step":{"name":"fence"}"#)
}

#[test]
fn between_the_proof_and_the_commit() -> Result<()> {
    killed_at("verify", r#""intent","step":{"name":"verify"}"#)
}

#[test]
fn while_the_claims_are_bound_anew() -> Result<()> {
    killed_at("swap", r#""intent","step":{"name":"swap"}"#)
}

#[test]
fn while_the_workload_starts() -> Result<()> {
    killed_at("starts", r#""intent","step":{"name":"unquiesce"}"#)
}
