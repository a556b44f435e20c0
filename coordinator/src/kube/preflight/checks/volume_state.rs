//! The volumes behind the claims.

use k8s_openapi::api::core::v1::PersistentVolume;

use crate::kube::preflight::{context::CheckContext, finding::Finding, select::ClaimMove};

pub(crate) fn check(case: &CheckContext<'_>) -> Vec<Finding> {
    case.moves
        .iter()
        .flat_map(|one| findings(case, one))
        .collect()
}

fn findings(case: &CheckContext<'_>, one: &ClaimMove<'_>) -> Vec<Finding> {
    let Some(volume) = one.volume else {
        return unknown(case, one).into_iter().collect();
    };
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    let object = format!("persistentvolume/{name}");
    let mut findings = Vec::new();
    let spec = volume.spec.as_ref();
    let claimed = spec
        .and_then(|spec| spec.claim_ref.as_ref())
        .and_then(|claim| claim.uid.as_ref());
    if claimed != one.claim.metadata.uid.as_ref() {
        findings.push(
            Finding::error(
                object.clone(),
                format!(
                    "The volume is bound to another claim than {}, which names it",
                    one.name()
                ),
            )
            .hint(format!(
                "kubectl get {object} -o yaml; look at spec.claimRef"
            )),
        );
    }
    if volume.metadata.deletion_timestamp.is_some() {
        findings.push(
            Finding::error(
                object.clone(),
                "The volume is being deleted; it goes when its claim is replaced",
            )
            .hint("a deletion cannot be taken back: copy the data by other means"),
        );
    }
    if spec.and_then(|s| s.persistent_volume_reclaim_policy.as_deref()) == Some("Delete") {
        findings.push(Finding::info(
            object.clone(),
            "Its reclaim policy is Delete. The migration sets it to Retain before the stop, so \
             that the old volume stays until you remove it",
        ));
    }
    let others = case.view.volumes.iter().flatten().filter(|other| {
        other.metadata.name != volume.metadata.name
            && backend(volume).is_some()
            && backend(other) == backend(volume)
    });
    for other in others {
        findings.push(
            Finding::error(
                object.clone(),
                format!(
                    "persistentvolume/{} is the same storage, so who writes to it cannot be \
                     controlled by this claim",
                    other.metadata.name.as_deref().unwrap_or_default()
                ),
            )
            .hint("remove the other volume, and the claim bound to it"),
        );
    }
    findings
}

fn unknown(case: &CheckContext<'_>, one: &ClaimMove<'_>) -> Option<Finding> {
    let name = one.claim.spec.as_ref()?.volume_name.as_ref()?;
    let (message, hint) = if case.view.volumes.is_some() {
        (
            "The claim is bound to it, and there is no such volume: the claim is Lost",
            "restore the volume before anything else",
        )
    } else {
        (
            "You may not read the volume, and a migration must change it",
            "deploy/rbac.yaml has every right that is needed",
        )
    };
    Some(Finding::error(format!("persistentvolume/{name}"), message).hint(hint))
}

/// What tells a volume of a CSI driver from every other.
fn backend(volume: &PersistentVolume) -> Option<(&str, &str)> {
    let csi = volume.spec.as_ref()?.csi.as_ref()?;
    Some((&csi.driver, &csi.volume_handle))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::preflight::{finding::Severity, fixture};

    #[test]
    fn a_volume_that_is_not_this_claim_s_alone_is_refused() {
        assert_eq!(
            fixture::found(check, &fixture::view(), &fixture::wish()),
            []
        );
        let mut view = fixture::view();
        fixture::patch_volume(&mut view, json!({"spec": {"claimRef": {"uid": "another"}}}));
        fixture::finds(check, &view, Severity::Error, "bound to another claim");
        let mut view = fixture::view();
        let twin = json!({"metadata": {"name": "twin"}});
        let twin = fixture::with(&view.volumes.as_ref().unwrap()[0], twin);
        view.volumes.as_mut().unwrap().push(twin);
        fixture::finds(
            check,
            &view,
            Severity::Error,
            "persistentvolume/twin is the same storage",
        );
    }

    #[test]
    fn a_volume_that_is_lost_or_may_not_be_read_is_refused() {
        let mut view = fixture::view();
        view.volumes.as_mut().unwrap().remove(0);
        fixture::finds(check, &view, Severity::Error, "no such volume");
        view.volumes = None;
        let findings = fixture::found(check, &view, &fixture::wish());
        assert_eq!(findings.len(), 2);
        assert!(findings[0].message.contains("may not read"), "{findings:?}");
    }

    #[test]
    fn a_volume_that_would_be_deleted_is_told_to_be_kept() {
        let mut view = fixture::view();
        let policy = json!({"spec": {"persistentVolumeReclaimPolicy": "Delete"}});
        fixture::patch_volume(&mut view, policy);
        fixture::finds(check, &view, Severity::Info, "sets it to Retain");
    }
}
