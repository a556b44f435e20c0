//! Access modes and volume modes: whether a mover can read the volume beside the workload.

use crate::kube::preflight::{context::CheckContext, finding::Finding};

pub(crate) fn check(case: &CheckContext<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for one in &case.moves {
        let Some(spec) = &one.claim.spec else {
            continue;
        };
        if spec.volume_mode.as_deref() == Some("Block") {
            findings.push(
                Finding::error(
                    one.object(),
                    "The claim is a block device (volumeMode: Block); livmig moves file systems",
                )
                .hint("leave it out with --claim, or copy the device with a tool for devices"),
            );
        }
        let modes = spec.access_modes.as_deref().unwrap_or_default();
        if modes.iter().any(|mode| mode == "ReadWriteOncePod") {
            findings.push(
                Finding::error(
                    one.object(),
                    "The claim is ReadWriteOncePod: no mover can read it while the workload runs, \
                     so there can be no live pass",
                )
                .hint(
                    "change the volume's and the claim's access mode to ReadWriteOnce first, or \
                     migrate from a snapshot",
                ),
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
    fn a_block_device_and_a_volume_for_one_pod_are_refused() {
        assert_eq!(
            fixture::found(check, &fixture::view(), &fixture::wish()),
            []
        );
        let mut view = fixture::view();
        fixture::patch_claim(&mut view, json!({"spec": {"volumeMode": "Block"}}));
        fixture::finds(check, &view, Severity::Error, "block device");
        let mut view = fixture::view();
        fixture::patch_claim(
            &mut view,
            json!({"spec": {"accessModes": ["ReadWriteOncePod"]}}),
        );
        fixture::finds(check, &view, Severity::Error, "ReadWriteOncePod");
    }
}
