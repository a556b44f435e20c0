//! A small model of what Kubernetes does with claims and volumes, and every way through it.

use std::collections::BTreeSet;

use serde_json::json;

use super::*;

fn goal(wanted: &str) -> Goal<'static> {
    Goal {
        namespace: "shop",
        claim: "data",
        staging: "stage",
        other: if wanted == "new" { "old" } else { "new" },
        direction: if wanted == "new" {
            Direction::Forward
        } else {
            Direction::Back
        },
    }
}

/// A claim: its UID, the volume it names, whether it dies, and whether a pod still protects it.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Claim {
    uid: u8,
    volume: Option<&'static str>,
    dying: bool,
    fenced: bool,
    protected: bool,
}

/// A volume: for which name it is, and for which UID; its phase follows from the claims.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Volume {
    name: &'static str,
    claim: &'static str,
    uid: Option<u8>,
}

#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct World {
    claim: Option<Claim>,
    staging: Option<Claim>,
    old: Volume,
    new: Volume,
    next_uid: u8,
}

/// Where a swap begins: the fence is up, nothing else was done.
fn fenced() -> World {
    World {
        claim: Some(Claim {
            uid: 1,
            volume: Some("old"),
            dying: true,
            fenced: true,
            protected: false,
        }),
        staging: Some(Claim {
            uid: 2,
            volume: Some("new"),
            dying: false,
            fenced: false,
            protected: false,
        }),
        old: Volume {
            name: "old",
            claim: "data",
            uid: Some(1),
        },
        new: Volume {
            name: "new",
            claim: "stage",
            uid: Some(2),
        },
        next_uid: 3,
    }
}

impl World {
    fn claim(&self, name: &str) -> Option<&Claim> {
        if name == "data" {
            self.claim.as_ref()
        } else {
            self.staging.as_ref()
        }
    }

    fn phase(&self, volume: &Volume) -> &'static str {
        match (volume.uid, self.claim(volume.claim)) {
            (None, _) => "Available",
            (Some(uid), Some(claim)) if claim.uid == uid => "Bound",
            _ => "Released",
        }
    }

    fn pv(&self, volume: &Volume) -> PersistentVolume {
        serde_json::from_value(json!({
            "metadata": {"name": volume.name},
            "spec": {"persistentVolumeReclaimPolicy": "Retain",
                "claimRef": {"namespace": "shop", "name": volume.claim,
                    "uid": volume.uid.map(|uid| uid.to_string())}},
            "status": {"phase": self.phase(volume)},
        }))
        .unwrap()
    }

    fn pvc(&self, name: &str) -> Option<PersistentVolumeClaim> {
        let claim = self.claim(name)?;
        let bound = [&self.old, &self.new]
            .into_iter()
            .any(|volume| claim.volume == Some(volume.name) && volume.uid == Some(claim.uid));
        let mut finalizers = Vec::new();
        if claim.protected {
            finalizers.push("kubernetes.io/pvc-protection");
        }
        if claim.fenced {
            finalizers.push(crate::kube::api::names::FENCE);
        }
        Some(
            serde_json::from_value(json!({
                "metadata": {"name": name, "uid": claim.uid.to_string(), "finalizers": finalizers,
                    "deletionTimestamp": claim.dying.then_some("2026-01-01T00:00:00Z")},
                "spec": {"volumeName": claim.volume},
                "status": {"phase": if bound { "Bound" } else { "Pending" }},
            }))
            .unwrap(),
        )
    }

    fn decide(&self, wanted: &'static str) -> Move {
        self.decide_with(wanted, |_| ())
    }

    /// The same, with volumes that somebody has changed.
    fn decide_with(&self, wanted: &'static str, change: fn(&mut PersistentVolume)) -> Move {
        let (claim, staging) = (self.pvc("data"), self.pvc("stage"));
        let (mut old, mut new) = (self.pv(&self.old), self.pv(&self.new));
        change(&mut old);
        change(&mut new);
        let goal = goal(wanted);
        let (wanted, other) = if wanted == "new" {
            (&new, &old)
        } else {
            (&old, &new)
        };
        decide(
            goal,
            Observed {
                claim: claim.as_ref(),
                staging: staging.as_ref(),
                wanted,
                other: Some(other),
            },
        )
    }

    /// What the move brings, by us.
    fn perform(&self, wanted: &'static str, step: &Move) -> Self {
        let mut after = self.clone();
        let (wanted_volume, other_volume) = if wanted == "new" {
            (&mut after.new, &mut after.old)
        } else {
            (&mut after.old, &mut after.new)
        };
        match step {
            Move::Reserve => (wanted_volume.claim, wanted_volume.uid) = ("data", None),
            Move::Park => (other_volume.claim, other_volume.uid) = ("stage", None),
            // It goes when nothing uses it any more, which takes as long as it takes.
            Move::DeleteStaging => {
                if let Some(staging) = &mut after.staging {
                    staging.dying = true;
                }
            }
            Move::Lift => {
                after.claim = after.claim.filter(|claim| !claim.dying).map(|claim| Claim {
                    fenced: false,
                    ..claim
                });
            }
            Move::Fence => {
                if let Some(claim) = &mut after.claim {
                    (claim.dying, claim.fenced) = (true, true);
                }
            }
            Move::Create => {
                after.claim = Some(Claim {
                    uid: after.next_uid,
                    volume: Some(wanted),
                    dying: false,
                    fenced: false,
                    protected: false,
                });
                after.next_uid += 1;
            }
            Move::Done | Move::Wait(_) | Move::Blocked(_) | Move::Unkept(_) => {}
        }
        after
    }

    /// What Kubernetes does by itself: binds a live claim to a volume that is reserved for it.
    fn settle(self) -> Self {
        let mut after = self.half_settle();
        if let Some(claim) = &mut after.claim
            && !claim.dying
        {
            for volume in [&after.old, &after.new] {
                if volume.claim == "data" && volume.uid == Some(claim.uid) {
                    claim.volume = Some(volume.name);
                }
            }
        }
        after
    }

    /// The first half of it: the volume is bound to the claim, and the claim does not know yet.
    fn half_settle(mut self) -> Self {
        if let Some(claim) = &self.claim
            && !claim.dying
        {
            for volume in [&mut self.old, &mut self.new] {
                if volume.claim == "data"
                    && volume.uid.is_none()
                    && claim.volume.is_none_or(|named| named == volume.name)
                {
                    volume.uid = Some(claim.uid);
                }
            }
        }
        self
    }

    /// What may happen at any time after its deletion: the staging claim is gone.
    fn without_staging(&self) -> Option<Self> {
        let dying = self.staging.as_ref().is_some_and(|staging| staging.dying);
        dying.then(|| Self {
            staging: None,
            ..self.clone()
        })
    }

    /// What somebody else may do at any time: re-create the claim from an old template.
    fn recreated(&self) -> Option<Self> {
        self.claim.is_none().then(|| {
            let mut after = self.clone();
            after.claim = Some(Claim {
                uid: after.next_uid,
                volume: None,
                dying: false,
                fenced: false,
                protected: false,
            });
            after.next_uid += 1;
            after
        })
    }

    fn check(&self, from: &Self, wanted: &str, step: &Move) {
        // A claim whose volume is given to another while it is being bound is lost.
        if let (Move::Reserve, Some(claim)) = (step, from.claim.as_ref().filter(|c| !c.dying)) {
            let volume = if wanted == "new" {
                &from.new
            } else {
                &from.old
            };
            let being_bound = volume.claim == "data" && volume.uid == Some(claim.uid);
            assert!(!being_bound, "takes it from a live claim: {from:?}");
        }
        let reserved = [&self.old, &self.new]
            .into_iter()
            .filter(|volume| volume.claim == "data" && volume.uid.is_none())
            .count();
        // On the way back both are equal, and a free name that nothing is reserved for is worse.
        if wanted == "new" {
            assert!(reserved <= 1, "two volumes compete: {from:?} by {step:?}");
        }
        if self.claim.is_none() {
            assert!(
                reserved > 0,
                "the name is free and nothing reserved: {from:?} by {step:?}"
            );
        }
    }
}

/// Follows `wanted` to its end from `world`, from every state with a racer as well.
fn follow(world: World, wanted: &'static str) -> BTreeSet<World> {
    let mut seen = BTreeSet::new();
    let mut open = vec![world];
    while let Some(world) = open.pop() {
        if !seen.insert(world.clone()) || world.next_uid > 6 {
            continue;
        }
        open.extend(world.without_staging());
        let step = world.decide(wanted);
        match step {
            Move::Done => {
                let bound = world.claim.as_ref().unwrap();
                assert_eq!(bound.volume, Some(wanted));
            }
            Move::Blocked(ref why) | Move::Unkept(ref why) => panic!("{why}: {world:?}"),
            Move::Wait(_) => {
                let settled = world.clone().settle();
                assert_ne!(settled, world, "waits for ever: {world:?}");
                open.extend([settled, world.half_settle()]);
            }
            _ => {
                let after = world.perform(wanted, &step);
                after.check(&world, wanted, &step);
                open.extend([after.clone().settle(), after.clone().half_settle()]);
                open.extend(after.recreated());
                open.push(after);
            }
        }
    }
    seen
}

#[test]
fn a_swap_ends_on_the_new_volume_whoever_races() {
    follow(fenced(), "new");
}

#[test]
fn from_every_state_of_a_swap_its_undo_ends_on_the_old_volume() {
    for state in follow(fenced(), "new") {
        follow(state, "old");
    }
}

#[test]
fn a_claim_that_was_never_fenced_is_left_alone() {
    let mut world = fenced();
    if let Some(claim) = &mut world.claim {
        (claim.dying, claim.fenced) = (false, false);
    }
    assert_eq!(world.decide("old"), Move::Done);
    assert!(matches!(world.decide("new"), Move::Blocked(why) if why.contains("by hand")));
}

#[test]
fn a_fence_that_was_cut_off_before_the_delete_is_taken_off_again() {
    let mut world = fenced();
    if let Some(claim) = &mut world.claim {
        claim.dying = false;
    }
    assert_eq!(world.decide("old"), Move::Lift);
    let lifted = world.perform("old", &Move::Lift);
    assert!(lifted.claim.is_some(), "a claim that lives stays");
    assert_eq!(lifted.decide("old"), Move::Done);
}

#[test]
fn a_fenced_claim_goes_back_also_when_somebody_has_deleted_the_new_volume() {
    let mut world = fenced();
    let mut steps = Vec::new();
    loop {
        let (claim, staging, old) = (world.pvc("data"), world.pvc("stage"), world.pv(&world.old));
        let step = decide(
            goal("old"),
            Observed {
                claim: claim.as_ref(),
                staging: staging.as_ref(),
                wanted: &old,
                other: None,
            },
        );
        steps.push(step.clone());
        if step == Move::Done {
            break;
        }
        world = world.perform("old", &step).settle();
    }
    assert_eq!(steps, [Move::Reserve, Move::Lift, Move::Create, Move::Done]);
}

#[test]
fn the_fence_stays_while_anything_else_holds_the_claim() {
    let mut world = fenced();
    if let Some(claim) = &mut world.claim {
        claim.protected = true;
    }
    let steps = follow_until_wait(world);
    assert_eq!(steps.last(), Some(&Move::Wait(Watched::Claim)));
    assert!(!steps.contains(&Move::Lift));
}

fn follow_until_wait(mut world: World) -> Vec<Move> {
    let mut steps = Vec::new();
    loop {
        let step = world.decide("new");
        steps.push(step.clone());
        if matches!(step, Move::Wait(_) | Move::Done) {
            return steps;
        }
        world = world.perform("new", &step);
    }
}

#[test]
fn a_claim_bound_to_a_third_volume_blocks() {
    let mut world = fenced();
    world.claim = Some(Claim {
        uid: 9,
        volume: Some("fresh"),
        dying: false,
        fenced: false,
        protected: false,
    });
    assert!(matches!(world.decide("new"), Move::Blocked(why) if why.contains("fresh")));
}

/// Somebody has set the policy of a volume back.
fn set_back(volume: &mut PersistentVolume) {
    if let Some(spec) = &mut volume.spec {
        spec.persistent_volume_reclaim_policy = Some("Delete".to_owned());
    }
}

/// Somebody has asked for the deletion of a volume.
fn deleted(volume: &mut PersistentVolume) {
    volume.metadata.deletion_timestamp =
        serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
}

#[test]
fn no_claim_is_let_go_whose_volume_would_go_with_it() {
    let unkept = |world: &World, wanted, change| matches!(world.decide_with(wanted, change), Move::Unkept(why) if why.contains("Delete"));
    let new_alone = |volume: &mut PersistentVolume| {
        if name(volume) == "new" {
            set_back(volume);
        }
    };
    let old_alone = |volume: &mut PersistentVolume| {
        if name(volume) == "old" {
            set_back(volume);
        }
    };
    assert!(unkept(&fenced(), "new", new_alone), "the staging claim");
    assert!(unkept(&fenced(), "new", old_alone), "the fenced claim");
    // The way back is open: it reserves the old volume while its claim still holds it.
    assert_eq!(fenced().decide_with("old", set_back), Move::Reserve);
    let mut gone = fenced();
    gone.claim = None;
    assert!(unkept(&gone, "old", old_alone), "being deleted already");
}

#[test]
fn whatever_the_policies_a_move_that_lets_go_loses_no_volume() {
    for world in follow(fenced(), "new") {
        match world.decide_with("new", set_back) {
            Move::DeleteStaging => panic!("loses the new volume: {world:?}"),
            Move::Lift => {
                let claim = world.claim.as_ref().unwrap();
                let held = world.old.uid == Some(claim.uid);
                assert!(!held, "loses the old volume: {world:?}");
            }
            _ => {}
        }
        // Only what a claim has left already can be lost on the way back.
        if let Move::Unkept(_) = world.decide_with("old", set_back) {
            assert_eq!(world.phase(&world.old), "Released", "{world:?}");
        }
    }
}

#[test]
fn a_volume_that_is_being_deleted_is_never_bound() {
    for world in follow(fenced(), "new") {
        let step = world.decide_with("new", deleted);
        assert!(matches!(step, Move::Unkept(_)), "{step:?} from {world:?}");
        let claim = world.claim.as_ref().filter(|claim| !claim.dying);
        let stays = claim.is_some_and(|claim| world.old.uid == Some(claim.uid));
        let step = world.decide_with("old", deleted);
        assert_ne!(matches!(step, Move::Unkept(_)), stays, "{world:?}");
    }
}
