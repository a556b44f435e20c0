//! The coordinator is killed in each phase, and another one goes on.

use anyhow::{Result, ensure};
use livmig_engine::step::Step;
use livmig_tests::run::{Running, run};

use crate::fixture::{Intent, NEW, Workload, with_namespace};

/// Kills the coordinator as soon as `intent` is in the journal, and resumes.
fn killed_at(test: &str, intent: Intent) -> Result<()> {
    with_namespace(test, |namespace| {
        let workload = Workload::stateful_set();
        namespace.start(&workload)?;
        let coordinator = Running::start(&mut namespace.migration(&workload, NEW)?)?;
        namespace.await_intent(intent)?;
        // Dropped, it is killed.
        drop(coordinator);
        let resumed = run(&mut namespace.coord(&["resume", workload.reference()])?)?;
        ensure!(
            matches!(resumed.status.code(), Some(0 | 4)),
            "resumed after {intent:?}: {resumed:?}"
        );
        namespace.expect_consistent(&workload, NEW, &resumed)
    })
}

#[test]
fn in_a_live_pass() -> Result<()> {
    killed_at("live", Intent::LivePass)
}

#[test]
fn while_the_workload_stops() -> Result<()> {
    killed_at("stops", Intent::Of(Step::Quiesce))
}

#[test]
fn behind_the_fence() -> Result<()> {
    killed_at("fence", Intent::Of(Step::Fence))
}

#[test]
fn between_the_proof_and_the_commit() -> Result<()> {
    killed_at("verify", Intent::Of(Step::Verify))
}

#[test]
fn while_the_claims_are_bound_anew() -> Result<()> {
    killed_at("swap", Intent::Of(Step::Swap))
}

#[test]
fn while_the_workload_starts() -> Result<()> {
    killed_at("starts", Intent::Of(Step::Unquiesce))
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
        namespace.await_intent(Intent::Of(Step::Quiesce))?;
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
