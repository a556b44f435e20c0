//! Cron jobs that may start a pod on the claims while a migration runs.

use crate::kube::preflight::{context::CheckContext, finding::Finding};

pub(crate) fn check(case: &CheckContext<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for job in case.view.cron_jobs.iter().flatten() {
        let Some(spec) = &job.spec else { continue };
        let template = spec.job_template.spec.as_ref();
        let pods = template.and_then(|job| job.template.spec.as_ref());
        if spec.suspend == Some(true) {
            continue;
        }
        let name = job.metadata.name.as_deref().unwrap_or_default();
        let volumes = pods.and_then(|pods| pods.volumes.as_ref());
        let named = volumes
            .into_iter()
            .flatten()
            .filter_map(|volume| volume.persistent_volume_claim.as_ref())
            .find(|claim| case.moves.iter().any(|one| one.name() == claim.claim_name));
        if let Some(claim) = named {
            findings.push(
                Finding::warning(
                    format!("cronjob/{name}"),
                    format!(
                        "Its pods use claim {}; one that starts during the migration makes it \
                         roll back",
                        claim.claim_name
                    ),
                )
                .hint(format!(
                    "for the time of the migration: kubectl patch cronjob/{name} -p \
                     '{{\"spec\":{{\"suspend\":true}}}}'"
                )),
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
    fn a_cron_job_on_a_claim_is_told_unless_it_is_suspended() {
        let job = |claim: &str, suspend: bool| {
            fixture::object(json!({
                "metadata": {"name": "backup"},
                "spec": {"schedule": "* * * * *", "suspend": suspend, "jobTemplate": {"spec": {
                    "template": {"spec": {"containers": [], "volumes": [
                        {"name": "v", "persistentVolumeClaim": {"claimName": claim}}]}}}}},
            }))
        };
        let mut view = fixture::view();
        view.cron_jobs = Some(vec![job("data-db-0", true), job("other", false)]);
        assert_eq!(fixture::found(check, &view, &fixture::wish()), []);
        view.cron_jobs = Some(vec![job("data-db-0", false)]);
        let finding = fixture::finds(check, &view, Severity::Warning, "claim data-db-0");
        assert!(finding.hint.contains("patch cronjob/backup"), "{finding:?}");
    }
}
