//! The coordinator is killed in each phase, and another one goes on.

use anyhow::{Result, ensure};
use livmig_tests::run::{Running, run};

use crate::fixture::{NEW, Workload, with_namespace};

/// Kills the coordinator as soon as `record` is in the journal, and resumes.
fn killed_at(test: &str, record: &str) -> Result<()> {
    with_namespace(test, |namespace| {
        let workload = Workload::stateful_set();
        namespace.start(&workload)?;
        let coordinator = Running::start(&mut namespace.migration(&workload, NEW)?)?;
        namespace.await_record(record)?;
        // Dropped, it is killed.
        drop(coordinator);
        let resumed = run(&mut namespace.coord(&["resume", workload.reference()])?)?;
        ensure!(
            matches!(resumed.status.code(), Some(0 | 4)),
            "resumed after {record}: {resumed:?}"
        );
        namespace.expect_consistent(&workload, NEW, &resumed)
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

#[test]
fn a_pod_that_is_deleted_by_force_meanwhile_is_not_taken_for_one_that_ended() -> Result<()> {
    with_namespace("force", |namespace| {
        let workload = Workload::stateful_set();
        namespace.start(&workload)?;
        // Long enough to be deleted by force while it ends.
        let slow = r#"{"spec":{"template":{"spec":{"containers":[{"name":"app",
            "lifecycle":{"preStop":{"exec":{"command":["sleep","8"]}}}}]}}}}"#;
        namespace
            .kubectl(&["patch", "sts", "app", "-p", slow])?
            .expect(0)?;
        namespace
            .kubectl(&["rollout", "status", "sts/app", "--timeout=120s"])?
            .expect(0)?;
        let coordinator = Running::start(&mut namespace.migration(&workload, NEW)?)?;
        namespace.await_record(r#""intent","step":{"name":"quiesce"}"#)?;
        namespace
            .kubectl(&["wait", "--for=jsonpath={.spec.replicas}=0", "sts/app"])?
            .expect(0)?;
        drop(coordinator);
        namespace
            .kubectl(&["delete", "pod", "app-0", "--force", "--grace-period=0"])?
            .expect(0)?;
        run(&mut namespace.coord(&["resume", "sts/app"])?)?
            .expect(4)?
            .says(&["app-0", "deleted by force"])?;
        namespace.expect_on_old(&workload)
    })
}
