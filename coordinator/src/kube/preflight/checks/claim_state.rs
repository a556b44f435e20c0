//! Whether the claims are settled: Bound, not leaving, not growing, held by nobody.

use crate::kube::{
    api::names,
    preflight::{context::CheckContext, finding::Finding, select::ClaimMove},
};

/// The finalizers that Kubernetes itself and livmig put on claims.
const KNOWN: [&str; 2] = ["kubernetes.io/pvc-protection", names::FENCE];

/// Conditions of a claim that is being changed.
const CHANGING: [&str; 5] = [
    "Resizing",
    "FileSystemResizePending",
    "ControllerResizeError",
    "NodeResizeError",
    "ModifyingVolume",
];

pub(crate) fn check(case: &CheckContext<'_>) -> Vec<Finding> {
    case.moves.iter().flat_map(findings).collect()
}

fn findings(one: &ClaimMove<'_>) -> Vec<Finding> {
    let metadata = &one.claim.metadata;
    let mut findings = Vec::new();
    let phase = one.claim.status.as_ref().and_then(|s| s.phase.as_deref());
    if phase != Some("Bound") {
        let phase = phase.unwrap_or("of no phase yet");
        findings.push(
            Finding::error(
                one.object(),
                format!("The claim is {phase}, not Bound: there is no volume to move"),
            )
            .hint(format!("kubectl describe {}", one.object())),
        );
    }
    if metadata.deletion_timestamp.is_some() {
        findings.push(
            Finding::error(
                one.object(),
                "The claim is being deleted; when its last pod is gone, so is the claim",
            )
            .hint(
                "a deletion cannot be taken back: set the volume's reclaim policy to Retain now, \
                 and make the claim anew",
            ),
        );
    }
    for finalizer in metadata.finalizers.iter().flatten() {
        if !KNOWN.contains(&finalizer.as_str()) {
            findings.push(held(one, finalizer));
        }
    }
    let owners = metadata.owner_references.iter().flatten();
    if let Some(pod) = owners.into_iter().find(|owner| owner.kind == "Pod") {
        findings.push(
            Finding::error(
                one.object(),
                format!(
                    "The claim is owned by pod {}: it is deleted with it, and the migration stops it",
                    pod.name
                ),
            )
            .hint(
                "set persistentVolumeClaimRetentionPolicy.whenScaled to Retain and wait until the \
                 owner is gone from the claim",
            ),
        );
    }
    findings.extend(changing(one));
    findings
}

fn held(one: &ClaimMove<'_>, finalizer: &str) -> Finding {
    let (why, hint) = match finalizer {
        "snapshot.storage.kubernetes.io/pvc-as-source-protection" => (
            "A snapshot is being made of the claim",
            "wait until it is ready: kubectl get volumesnapshots",
        ),
        "provisioner.storage.kubernetes.io/cloning-protection" => (
            "A clone is being made of the claim",
            "wait until the clone is Bound: kubectl get persistentvolumeclaims",
        ),
        _ => (
            "Somebody else holds the claim, so it could not be replaced inside the downtime",
            "find out who put that finalizer there, and let them release the claim",
        ),
    };
    Finding::error(one.object(), format!("{why} (finalizer {finalizer})")).hint(hint)
}

fn changing(one: &ClaimMove<'_>) -> Option<Finding> {
    let status = one.claim.status.as_ref()?;
    let condition = status
        .conditions
        .iter()
        .flatten()
        .find(|c| c.status == "True" && CHANGING.contains(&c.type_.as_str()))
        .map(|condition| condition.type_.clone());
    let resource = status
        .allocated_resource_statuses
        .as_ref()
        .and_then(|statuses| statuses.values().next().cloned());
    let what = condition.or(resource)?;
    Some(
        Finding::error(
            one.object(),
            format!("The claim is being resized or modified ({what})"),
        )
        .hint("wait until that has ended; then plan again"),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::preflight::{finding::Severity, fixture};

    #[test]
    fn a_claim_that_is_not_settled_is_refused() {
        assert_eq!(
            fixture::found(check, &fixture::view(), &fixture::wish()),
            []
        );
        for (patch, words) in [
            (json!({"status": {"phase": "Pending"}}), "not Bound"),
            (
                json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
                "being deleted",
            ),
            (
                json!({"metadata": {"finalizers": ["kubernetes.io/pvc-protection", "x.io/y"]}}),
                "x.io/y",
            ),
            (
                json!({"metadata": {"finalizers":
                    ["snapshot.storage.kubernetes.io/pvc-as-source-protection"]}}),
                "A snapshot",
            ),
            (
                json!({"metadata": {"finalizers":
                    ["provisioner.storage.kubernetes.io/cloning-protection"]}}),
                "A clone",
            ),
            (
                json!({"metadata": {"ownerReferences":
                    [{"apiVersion": "v1", "kind": "Pod", "name": "db-0", "uid": "u"}]}}),
                "owned by pod db-0",
            ),
            (
                json!({"status": {"conditions": [{"type": "Resizing", "status": "True"}]}}),
                "Resizing",
            ),
            (
                json!({"status": {"allocatedResourceStatuses":
                    {"storage": "NodeResizeInProgress"}}}),
                "NodeResizeInProgress",
            ),
        ] {
            let mut view = fixture::view();
            fixture::patch_claim(&mut view, patch);
            fixture::finds(check, &view, Severity::Error, words);
        }
    }
}
