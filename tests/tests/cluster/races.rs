//! Others want the workload to run, or use its claims, while it is being moved: it ends up moved or
//! on its old volumes, and never without a write that was promised.

use anyhow::Result;
use livmig_engine::step::Step;
use livmig_tests::run::{LIMIT, Running};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::fixture::{Intent, NEW, Namespace, Workload, with_namespace};

/// Holds the coordinator still as soon as `intent` is in the journal, lets `others` do as they
/// please, and lets it go on.
fn meanwhile(
    namespace: &Namespace,
    workload: &Workload,
    intent: Intent,
    others: impl FnOnce() -> Result<()>,
) -> Result<Running> {
    namespace.start(workload)?;
    let coordinator = Running::start(&mut namespace.migration(workload, NEW)?)?;
    namespace.await_intent(intent)?;
    coordinator.signal(Signal::STOP)?;
    others()?;
    coordinator.signal(Signal::CONT)?;
    Ok(coordinator)
}

/// Scales the workload up by another hand at `intent`.
fn scaled_up_at(test: &str, intent: Intent) -> Result<()> {
    with_namespace(test, |namespace| {
        let workload = Workload::stateful_set();
        let scale = || namespace.scale(&workload, 1);
        let coordinator = meanwhile(namespace, &workload, intent, scale)?;
        let ended = coordinator.wait(LIMIT)?;
        namespace.expect_consistent(&workload, NEW, &ended)
    })
}

#[test]
fn somebody_scales_up_while_the_workload_stops() -> Result<()> {
    with_namespace("up-stop", |namespace| {
        let workload = Workload::stateful_set();
        namespace.start(&workload)?;
        let coordinator = Running::start(&mut namespace.migration(&workload, NEW)?)?;
        namespace.await_object(&[workload.reference()], |set| set["spec"]["replicas"] == 0)?;
        namespace.scale(&workload, 1)?;
        let ended = coordinator.wait(LIMIT)?;
        namespace.expect_consistent(&workload, NEW, &ended)
    })
}

#[test]
fn somebody_scales_up_at_the_fence() -> Result<()> {
    scaled_up_at("up-fence", Intent::Of(Step::Fence))
}

#[test]
fn somebody_scales_up_behind_the_fence() -> Result<()> {
    scaled_up_at("up-verify", Intent::Of(Step::Verify))
}

#[test]
fn somebody_scales_up_while_the_claims_are_bound_anew() -> Result<()> {
    scaled_up_at("up-swap", Intent::Of(Step::Swap))
}

/// Lets a pod that skips the scheduler write to the claim after both ends were compared, and while
/// a mover still holds it: the mover's pod is kept by a finalizer until then.
fn bare_pod(test: &str, leaves: bool) -> Result<()> {
    with_namespace(test, |namespace| {
        let workload = Workload::stateful_set();
        let movers = ["pods", "-l", "livmig.io/role=source"];
        let keep = |name: &str, finalizers: Value| {
            let change = json!({"metadata": {"finalizers": finalizers}}).to_string();
            let patch = ["patch", "pod", name, "--type=merge", "-p", &change];
            namespace.kubectl(&patch)?.expect(0).map(|_| ())
        };
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (mut name, mut node) = (String::new(), String::new());
        // A small migration is over before its mover's pod can be found and changed.
        let coordinator = meanwhile(namespace, &workload, Intent::LivePass, || {
            let mover = namespace.list(&movers)?.swap_remove(0);
            name = word(&mover["metadata"]["name"]);
            node = word(&mover["spec"]["nodeName"]);
            keep(&name, json!(["example.com/kept"]))
        })?;
        namespace.await_object(&movers, |pod| {
            !pod["metadata"]["deletionTimestamp"].is_null()
        })?;

        let pod = workload.bare_pod("bare", "data-app-0", &node);
        namespace.apply(&pod.to_string())?;
        namespace.wait("pod/bare", "condition=Ready")?;
        let delete = || namespace.kubectl(&["delete", "pod", "bare"])?.expect(0);
        if leaves {
            delete()?;
        }
        keep(&name, Value::Null)?;
        if !leaves {
            // The claim cannot be given back while it is there.
            namespace.await_intent(Intent::Of(Step::Unfence))?;
            delete()?;
        }
        let ended = coordinator.wait(LIMIT)?.expect(4)?;
        ended.says(&["bare"])?;
        namespace.expect_consistent(&workload, NEW, &ended)
    })
}

#[test]
fn a_bare_pod_writes_behind_the_fence() -> Result<()> {
    bare_pod("bare", false)
}

#[test]
fn a_bare_pod_has_come_and_gone_behind_the_fence() -> Result<()> {
    bare_pod("came", true)
}
