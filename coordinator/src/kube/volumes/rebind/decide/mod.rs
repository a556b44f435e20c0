//! The next move on the way to "the claim's name is bound to this volume", from what is there now.
//! Pure: the swap, its undo and the lifting of a fence are the same question with other answers.
//!
//! The order is the one that no race can turn into loss:
//!
//! 1. The wanted volume is **reserved** for the claim's name (a claim reference without a UID)
//!    *before* that name is freed, and is seen `Available`: whoever re-creates the claim meanwhile
//!    is bound to it, and not to a fresh empty volume.
//! 2. A reference is never cleared: a volume without one is anybody's.
//! 3. The other volume is not reserved for the name at the same time. On the way back it can be,
//!    for a moment: both hold every acknowledged write then, and a name that is free while nothing
//!    is reserved for it would be worse.
//! 4. Our finalizer on the dying claim goes last, and only when it is the only one left.
//! 5. No claim is let go whose volume would go with it. Policies were pinned, and others may have
//!    changed them since. A volume that is reserved for a name is safe whatever its policy: Kubernetes
//!    reclaims what a certain claim has left, told by its UID.

use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim};

use crate::kube::{
    objects::claim::is_fenced,
    volumes::reclaim::{is_retained, unkept},
};

/// What is there now.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// The workload's claim.
    pub claim: Option<&'a PersistentVolumeClaim>,
    /// The claim under which the new volume was provisioned.
    pub staging: Option<&'a PersistentVolumeClaim>,
    /// The volume that the claim's name shall be bound to.
    pub wanted: &'a PersistentVolume,
    /// The other one of the two; none when it was never made, or somebody has deleted it.
    pub other: Option<&'a PersistentVolume>,
}

/// What does not change on the way.
#[derive(Clone, Copy, Debug)]
pub struct Goal<'a> {
    /// The namespace.
    pub namespace: &'a str,
    /// The workload's claim.
    pub claim: &'a str,
    /// The staging claim's name.
    pub staging: &'a str,
    /// The name of the other volume; empty when it was never made.
    pub other: &'a str,
    /// Whether it is the migration's way, or the way back.
    pub direction: Direction,
}

/// Which of the two volumes is wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// The new one: the claim was fenced before, so one that is live and bound to the old volume
    /// means that somebody has undone that by hand, and that the volume may be written to.
    Forward,
    /// The old one: a claim that was bound to the new one already is fenced and made anew.
    Back,
}

/// The next move.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Move {
    /// Nothing is left to do.
    Done,
    /// Wait until this object changes.
    Wait(Watched),
    /// Delete the staging claim; its volume is kept.
    DeleteStaging,
    /// Reserve the wanted volume for the claim's name.
    Reserve,
    /// Reserve the other volume for the staging claim's name, so that it does not compete.
    Park,
    /// Make the deletion of the claim that is bound to the other volume a fence, and delete it.
    Fence,
    /// Take our finalizer off the claim: a dying one's name is free then.
    Lift,
    /// Create the claim.
    Create,
    /// Somebody else's doing stands in the way.
    Blocked(String),
    /// A volume would be lost on the way, or is being lost already.
    Unkept(String),
}

/// Which object is waited for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Watched {
    /// The workload's claim.
    Claim,
    /// The wanted volume.
    Wanted,
}

/// The next move towards `goal`.
pub fn decide(goal: Goal<'_>, seen: Observed<'_>) -> Move {
    if let Some(why) = endangered(goal, seen) {
        return Move::Unkept(why);
    }
    match seen.claim {
        Some(claim) if claim.metadata.deletion_timestamp.is_none() => live(goal, seen, claim),
        dying => freed(goal, seen, dying),
    }
}

/// Which volume would be lost on the way, and why, if one would.
fn endangered(goal: Goal<'_>, seen: Observed<'_>) -> Option<String> {
    let lost = |volume: &PersistentVolume| {
        let why = unkept(volume)?;
        Some(format!("the volume {} would be lost: {why}", name(volume)))
    };
    let wanted = seen.wanted;
    let deleted = wanted.metadata.deletion_timestamp.is_some();
    let (dying, stays) = match seen.claim {
        Some(claim) if claim.metadata.deletion_timestamp.is_some() => (Some(claim), None),
        claim => (None, claim),
    };
    if stays.is_some_and(|claim| is_held_by(wanted, claim)) {
        // No claim is let go any more. Where the workload was before, it may stay; it does not
        // start on a new volume that goes with its claim.
        return (deleted && goal.direction == Direction::Forward)
            .then(|| lost(wanted))
            .flatten();
    }
    let phase = wanted
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    let left = matches!(phase, Some("Released" | "Failed"));
    let to_be_left = reserved(goal, wanted) == Reservation::Staging;
    if (deleted || is_of_a_certain_claim(wanted) && (left || to_be_left))
        && let Some(why) = lost(wanted)
    {
        return Some(why);
    }
    // On the way back the other one is a copy. One whose deletion somebody has asked for is theirs to
    // delete: with its policy, the storage is kept.
    let other = seen.other.filter(|other| !is_retained(other))?;
    let goes = dying.is_some_and(|claim| is_held_by(other, claim));
    (goes && goal.direction == Direction::Forward)
        .then(|| lost(other))
        .flatten()
}

/// The claim is there and stays there.
fn live(goal: Goal<'_>, seen: Observed<'_>, claim: &PersistentVolumeClaim) -> Move {
    let bound_to = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.volume_name.as_deref())
        .unwrap_or_default();
    let phase = claim
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    if bound_to == name(seen.wanted) {
        let owned = is_held_by(seen.wanted, claim);
        return match phase {
            // A fence that was begun and never became one: the claim was not deleted.
            Some("Bound") if owned && is_fenced(claim) => Move::Lift,
            Some("Bound") if owned => Move::Done,
            Some("Lost") => Move::Blocked(format!(
                "the claim {} has lost its volume {}",
                goal.claim,
                name(seen.wanted)
            )),
            _ => Move::Wait(Watched::Claim),
        };
    }
    if !bound_to.is_empty() && bound_to == goal.other {
        return match goal.direction {
            Direction::Back => Move::Fence,
            Direction::Forward => Move::Blocked(format!(
                "it is bound to {bound_to} and no longer fenced: somebody has undone that by hand"
            )),
        };
    }
    if bound_to.is_empty() {
        // Made by somebody who did not know of the move. It binds to what is reserved for it: the
        // volume is bound first, the claim after it. Between the two the volume is this claim's
        // already; reserved anew then, it would be lost to the claim for ever.
        return match reserved(goal, seen.wanted) {
            Reservation::Free => Move::Wait(Watched::Claim),
            Reservation::Taken if is_held_by(seen.wanted, claim) => Move::Wait(Watched::Claim),
            Reservation::Taken | Reservation::Staging | Reservation::Stranger => {
                freed(goal, seen, None)
            }
        };
    }
    Move::Blocked(format!(
        "somebody has re-created the claim {} and it is bound to {bound_to}, a volume that is not \
         the migration's",
        goal.claim
    ))
}

/// The claim is dying or gone.
fn freed(goal: Goal<'_>, seen: Observed<'_>, dying: Option<&PersistentVolumeClaim>) -> Move {
    // The staging claim holds the new volume, whichever of the two that is; it stands in the way
    // only when that is the wanted one. Its going is not waited for: it never gets the volume back.
    let stays = |staging: &PersistentVolumeClaim| staging.metadata.deletion_timestamp.is_none();
    if reserved(goal, seen.wanted) == Reservation::Staging && seen.staging.is_some_and(stays) {
        return Move::DeleteStaging;
    }
    match reserved(goal, seen.wanted) {
        Reservation::Free => {}
        Reservation::Taken | Reservation::Staging => return Move::Reserve,
        Reservation::Stranger => {
            return Move::Blocked(format!(
                "the volume {} is bound to {}, which is not the migration's claim",
                name(seen.wanted),
                reference(seen.wanted).map_or_else(
                    || "nothing".to_owned(),
                    |claim| format!(
                        "{}/{}",
                        claim.namespace.as_deref().unwrap_or_default(),
                        claim.name.as_deref().unwrap_or_default()
                    )
                )
            ));
        }
    }
    if seen
        .other
        .is_some_and(|other| reserved(goal, other) == Reservation::Free)
    {
        return Move::Park;
    }
    let phase = seen
        .wanted
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    if phase != Some("Available") {
        return Move::Wait(Watched::Wanted);
    }
    match (seen.claim, dying) {
        (_, Some(claim)) => {
            let finalizers = claim.metadata.finalizers.as_deref().unwrap_or_default();
            if finalizers.len() == 1 && is_fenced(claim) {
                Move::Lift
            } else {
                Move::Wait(Watched::Claim)
            }
        }
        // Unbound and somebody else's: now that the volume is reserved, it binds.
        (Some(_), None) => Move::Wait(Watched::Claim),
        (None, None) => Move::Create,
    }
}

/// What a decision reads of a claim.
pub(crate) fn of_claim(claim: &PersistentVolumeClaim) -> impl PartialEq + use<> {
    let spec = claim.spec.as_ref();
    let status = claim.status.as_ref();
    (
        claim.metadata.uid.clone(),
        claim.metadata.deletion_timestamp.clone(),
        claim.metadata.finalizers.clone(),
        spec.and_then(|spec| spec.volume_name.clone()),
        status.and_then(|status| status.phase.clone()),
    )
}

/// What a decision reads of a volume.
pub(crate) fn of_volume(volume: &PersistentVolume) -> impl PartialEq + use<> {
    let status = volume.status.as_ref();
    (
        reference(volume).cloned(),
        unkept(volume),
        status.and_then(|status| status.phase.clone()),
    )
}

/// Whether `volume` is bound to this very claim.
fn is_held_by(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let holder = reference(volume).and_then(|holder| holder.uid.as_deref());
    holder == claim.metadata.uid.as_deref()
}

/// Whether `volume` is for one claim and no other of its name: once that is gone, it is reclaimed.
fn is_of_a_certain_claim(volume: &PersistentVolume) -> bool {
    let holder = reference(volume).and_then(|holder| holder.uid.as_deref());
    holder.is_some_and(|uid| !uid.is_empty())
}

/// For whom a volume is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Reservation {
    /// For the claim's name, whoever makes it.
    Free,
    /// For a certain claim of that name, one that is dying or gone.
    Taken,
    /// For the staging claim.
    Staging,
    /// For something else, or for anybody.
    Stranger,
}

fn reserved(goal: Goal<'_>, volume: &PersistentVolume) -> Reservation {
    let Some(claim) = reference(volume) else {
        return Reservation::Stranger;
    };
    let named = claim.name.as_deref().unwrap_or_default();
    if claim.namespace.as_deref() != Some(goal.namespace) {
        return Reservation::Stranger;
    }
    match named {
        named if named == goal.claim && is_of_a_certain_claim(volume) => Reservation::Taken,
        named if named == goal.claim => Reservation::Free,
        named if named == goal.staging => Reservation::Staging,
        _ => Reservation::Stranger,
    }
}

fn reference(volume: &PersistentVolume) -> Option<&ObjectReference> {
    volume.spec.as_ref()?.claim_ref.as_ref()
}

fn name(volume: &PersistentVolume) -> &str {
    volume.metadata.name.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests;
