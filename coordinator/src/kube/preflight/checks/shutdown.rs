//! How the workload stops: how long it may take, and how it went the last time.

use crate::kube::preflight::{
    context::{CheckContext, name_of},
    finding::Finding,
};

/// What Kubernetes gives a pod that names no grace period.
const DEFAULT_GRACE_SECONDS: i64 = 30;

/// The exit code of a process that SIGKILL ended.
const KILLED: i32 = 137;

pub(crate) fn check(case: &CheckContext<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let grace = case
        .pod_spec()
        .and_then(|spec| spec.termination_grace_period_seconds)
        .unwrap_or(DEFAULT_GRACE_SECONDS);
    let budget = case.wish.options.max_downtime;
    if u64::try_from(grace).is_ok_and(|grace| grace > budget.as_secs()) {
        findings.push(
            Finding::warning(
                case.object(),
                format!(
                    "Its pods may take {grace} s to stop, more than the budget of {:.0} s of \
                     downtime",
                    budget.as_secs_f64()
                ),
            )
            .hint("raise --max-downtime if they do take that long"),
        );
    }
    for pod in case.own_pods() {
        let statuses = pod.status.iter();
        let statuses = statuses.flat_map(|status| status.container_statuses.iter().flatten());
        for status in statuses {
            let last = status
                .last_state
                .as_ref()
                .and_then(|last| last.terminated.as_ref());
            let Some(last) = last.filter(|last| last.exit_code == KILLED) else {
                continue;
            };
            let (why, hint) = if last.reason.as_deref() == Some("OOMKilled") {
                (
                    "ran out of memory and was killed",
                    "give it more memory before the migration",
                )
            } else {
                (
                    "was killed (SIGKILL): it may need longer to stop than it is given",
                    "raise terminationGracePeriodSeconds, or name a --pre-stop-exec that shortens \
                     the stop",
                )
            };
            findings.push(
                Finding::warning(
                    format!("pod/{}", name_of(pod)),
                    format!("The last time, its container {} {why}", status.name),
                )
                .hint(hint),
            );
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::preflight::{finding::Severity, fixture};

    #[test]
    fn a_grace_period_over_the_budget_is_told() {
        assert_eq!(
            fixture::found(check, &fixture::view(), &fixture::wish()),
            []
        );
        let mut view = fixture::view();
        view.workload = Some(fixture::set(
            json!({"template": {"spec": {"terminationGracePeriodSeconds": 61}}}),
        ));
        fixture::finds(check, &view, Severity::Warning, "61 s to stop");
    }

    #[test]
    fn a_stop_that_ended_in_a_kill_is_told() {
        for (reason, words) in [("Error", "SIGKILL"), ("OOMKilled", "out of memory")] {
            let mut view = fixture::view();
            let killed = json!({"status": {"containerStatuses": [{
                "name": "db", "image": "", "imageID": "", "ready": true, "restartCount": 1,
                "lastState": {"terminated": {"exitCode": 137, "reason": reason}},
            }]}});
            view.pods[0] = fixture::with(&view.pods[0], killed);
            let finding = fixture::finds(check, &view, Severity::Warning, words);
            assert_eq!(finding.object, "pod/db-0");
        }
    }
}
