//! Whether a migration of a cluster's workload can work, decided over values: what was read of the
//! cluster (`view`) and what is wished for (`wish`) make findings, and the spec that a migration
//! starts from.

pub mod finding;
pub mod read;
pub mod request;
pub mod rights;
pub mod snapshot;

mod checks;
mod context;
#[cfg(test)]
mod fixture;
mod select;
mod size;

use livmig_engine::spec::{KubernetesTarget, MigrationSpec, MoverPods, Target, WorkloadRef};

use self::{
    context::CheckContext,
    finding::{Finding, Report},
    request::MigrationRequest,
    snapshot::Snapshot,
};
use super::api::names::migration_name;

/// Checks a wish against what was read of the cluster.
///
/// Where a migration is planned already, the wish of its spec (`Wish::of`) gives the same spec
/// again, unless an object has been replaced by another of the same name since.
pub fn check(view: &Snapshot, wish: &MigrationRequest) -> Report {
    let object = format!("{}/{}", wish.workload.kind.resource(), wish.workload.name);
    let Some(workload) = &view.workload else {
        let missing = Finding::error(
            object,
            format!("There is no such workload in namespace {}", view.namespace),
        )
        .hint("kubectl get statefulsets,deployments; or name another namespace with -n");
        return Report {
            findings: vec![missing],
            spec: None,
        };
    };
    let (moves, mut findings) = select::select(view, workload, wish);
    let case = CheckContext {
        view,
        wish,
        workload,
        moves,
    };
    findings.extend(checks::ALL.iter().flat_map(|check| check(&case)));
    findings.sort();
    findings.dedup();
    let mut report = Report {
        findings,
        spec: None,
    };
    if report.errors().next().is_none() {
        report.spec = spec(&case);
        if report.spec.is_none() {
            report.findings.insert(0, incomplete(&case));
        }
    }
    report
}

fn spec(case: &CheckContext<'_>) -> Option<MigrationSpec> {
    let wish = case.wish;
    let claims: Option<Vec<_>> = case.moves.iter().map(select::ClaimMove::target).collect();
    Some(MigrationSpec {
        name: migration_name(case.workload.name(), &wish.uid).ok()?,
        uid: wish.uid,
        target: Target::Kubernetes(KubernetesTarget {
            namespace: case.view.namespace.clone(),
            workload: WorkloadRef {
                kind: case.workload.kind(),
                name: case.workload.name().to_owned(),
                uid: case.workload.metadata().uid.clone()?,
            },
            claims: claims?,
            mover: MoverPods {
                image: wish.mover_image.clone(),
                pull_secret: wish.pull_secret.clone(),
                run_as: checks::run_as(case),
                capabilities: wish.capabilities.clone(),
            },
            pre_stop: wish.pre_stop.clone(),
            update_template: wish.update_template,
            keep_claim_spec: wish.keep_claim_spec,
        }),
        options: wish.options.clone(),
    })
}

fn incomplete(case: &CheckContext<'_>) -> Finding {
    Finding::error(
        case.object(),
        "The API server's answer lacks names or UIDs that a migration needs",
    )
    .hint("look at the objects with kubectl get -o yaml")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sound_workload_has_a_spec_with_its_claims_in_the_order_of_their_names() {
        let mut view = fixture::view();
        view.claims.reverse();
        let report = check(&view, &fixture::wish());
        assert_eq!(report.errors().count(), 0, "{:#?}", report.findings);
        let spec = report.spec.unwrap();
        let target = spec.target.kubernetes().unwrap();
        let claims: Vec<_> = target
            .claims
            .iter()
            .map(|c| (c.claim.as_str(), c.volume.as_str(), c.to_class.as_str()))
            .collect();
        assert_eq!(
            claims,
            [("data-db-0", "pv-0", "new"), ("data-db-1", "pv-1", "new")]
        );
        assert_eq!(target.workload.uid, "uid-db");
        assert_eq!(target.claims[0].from_class, "old");
    }

    #[test]
    fn the_wish_of_a_spec_makes_the_same_spec_again() {
        let view = fixture::view();
        let spec = check(&view, &fixture::wish()).spec.unwrap();
        let again = MigrationRequest::of(&spec).unwrap();
        assert_eq!(check(&view, &again).spec, Some(spec));
    }

    #[test]
    fn a_workload_that_is_not_there_is_an_error_and_no_spec() {
        let mut view = fixture::view();
        view.workload = None;
        let report = check(&view, &fixture::wish());
        assert!(report.spec.is_none());
        assert_eq!(report.findings[0].object, "statefulset/db");
    }
}
