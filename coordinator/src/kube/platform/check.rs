//! The check before anything is changed: the same as of `plan`, by the coordinator that acts.

use livmig_engine::{
    result::{StepFailure, StepOutcome},
    spec::MigrationSpec,
};

use crate::kube::{
    api::cluster::Cluster,
    preflight::{check as checked, read::survey, request::MigrationRequest},
};

/// Looks at everything the migration needs.
///
/// # Errors
/// The obstacles, or that what was planned for is no longer there.
pub(super) async fn check(
    cluster: &Cluster,
    spec: &MigrationSpec,
) -> Result<StepOutcome, StepFailure> {
    let Some(wish) = MigrationRequest::of(spec) else {
        return Err(StepFailure::permanent(
            "The migration is not one of a cluster",
        ));
    };
    let view = survey(cluster, &wish).await?;
    let report = checked(&view, &wish);
    if let Some(failure) = report.refusal() {
        return Err(failure);
    }
    // The same view makes the same spec; another one means that an object was re-created since.
    if report.spec.as_ref() != Some(spec) {
        return Err(StepFailure::permanent(
            "The workload, a claim or a volume is not the one the migration was planned for",
        )
        .with_hint("migrate again"));
    }
    Ok(StepOutcome::Checked {
        warnings: report.warnings(),
    })
}
