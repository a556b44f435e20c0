//! How a person undoes by kubectl alone what a migration leaves in an unusual state.

use std::fmt::Write as _;

use livmig_engine::spec::KubernetesTarget;

use crate::kube::{
    api::names::{FENCE, MIGRATION, REPLICAS},
    migration::Migration,
};

/// How the fence on the claims of `migration` is lifted and the old volumes are bound again, before the
/// COMMIT.
///
/// The order is that of livmig's own way back: the old volume is reserved for the claim's name
/// before that name is freed, and the fence goes only when nothing else holds the claim.
pub(super) fn fence(migration: &Migration) -> String {
    let Migration { target, uid, .. } = migration;
    let before = migration.names.pre_image();
    let namespace = &target.namespace;
    let mut text = format!(
        "each claim is held by a finalizer on purpose while its data moves; with livmig: livmig-coord \
         rollback. Without it, once no livmig-coord runs, in this order; a command that is refused \
         may be repeated:\n\
         kubectl -n {namespace} delete pod -l {MIGRATION}={uid}\n"
    );
    for claim in &migration.claims {
        let (volume, key, claim) = (&claim.volume, &claim.key, &claim.claim);
        let _ = write!(
            text,
            "kubectl patch pv {volume} --type=merge -p \
             '{{\"metadata\":{{\"annotations\":{{\"pv.kubernetes.io/bound-by-controller\":null}}}},\
             \"spec\":{{\"claimRef\":{{\"namespace\":\"{namespace}\",\"name\":\"{claim}\",\
             \"uid\":null,\"resourceVersion\":null}}}}}}'\n\
             kubectl -n {namespace} patch pvc {claim} --type=json -p \
             '[{{\"op\":\"test\",\"path\":\"/metadata/finalizers\",\"value\":[\"{FENCE}\"]}},\
             {{\"op\":\"remove\",\"path\":\"/metadata/finalizers\"}}]'\n\
             kubectl -n {namespace} get configmap {before} -o jsonpath='{{.data.remake-{key}}}' | \
             kubectl create -f -\n"
        );
    }
    let _ = write!(
        text,
        "kubectl -n {namespace} scale {} --replicas=N (its annotation {REPLICAS} says how many)",
        target.workload
    );
    text
}

/// What the old volume of a completed migration is for.
pub(super) fn left(target: &KubernetesTarget, claim: &str) -> String {
    format!(
        "held the claim {claim} of {} in {} until a migration; kept until livmig-coord cleanup",
        target.workload, target.namespace
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::testing::objects;

    #[test]
    fn a_claim_is_reserved_for_then_freed_then_made_anew_and_the_workload_comes_last() {
        let text = fence(&objects::migration());
        let steps = [
            "delete pod -l livmig.io/migration=0101",
            "patch pv pv-a",
            r#""name":"data-app-0","uid":null"#,
            "patch pvc data-app-0 --type=json",
            r#""value":["livmig.io/fence"]"#,
            "get configmap livmig-m-before -o jsonpath='{.data.remake-0}' | kubectl create -f -",
            "scale statefulset/app",
        ];
        let found: Vec<_> = steps.iter().map(|step| text.find(step)).collect();
        assert!(found.iter().all(Option::is_some), "{text}");
        assert!(found.is_sorted(), "{text}");
    }
}
