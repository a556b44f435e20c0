//! How a person undoes by kubectl alone what a migration leaves in an unusual state.

use std::fmt::Write as _;

use livmig_engine::spec::KubernetesTarget;

/// How the fence on the claims is lifted and the old volumes are bound again.
pub fn fence(target: &KubernetesTarget) -> String {
    let namespace = &target.namespace;
    let mut text = String::from(
        "each claim is held by a finalizer on purpose while its data moves; without livmig, for each \
         claim: reserve the old volume, lift the fence, create the claim anew (its manifest is in \
         the ConfigMap whose name ends in -before), then scale the workload up. ",
    );
    for claim in &target.claims {
        let _ = write!(
            text,
            "kubectl patch pv {} --type=merge -p \
             '{{\"spec\":{{\"claimRef\":{{\"uid\":null,\"resourceVersion\":null}}}}}}'; \
             kubectl -n {namespace} patch pvc {} --type=merge -p \
             '{{\"metadata\":{{\"finalizers\":null}}}}'; ",
            claim.volume, claim.claim
        );
    }
    let _ = write!(
        text,
        "kubectl -n {namespace} scale {} --replicas=N",
        target.workload
    );
    text
}

/// What the old volume of a completed migration is for.
pub fn left(target: &KubernetesTarget, claim: &str) -> String {
    format!(
        "held the claim {claim} of {} in {} until a migration; kept until livmig-coord cleanup",
        target.workload, target.namespace
    )
}
