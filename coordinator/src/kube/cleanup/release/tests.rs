//! Volumes as a migration leaves them, and as somebody has them since.

use std::sync::LazyLock;

use super::*;

static UID: LazyLock<Uid<MigrationSpec>> = LazyLock::new(|| Uid::new("m"));

fn old() -> LeftVolume<'static> {
    LeftVolume {
        migration: "db-1",
        uid: &UID,
        volume: "pv-a",
        staging: "livmig-db-1-0",
        whose: Whose::Old,
    }
}

fn copy() -> LeftVolume<'static> {
    LeftVolume {
        whose: Whose::Copy,
        ..old()
    }
}

/// The volume as a completed migration leaves it, or as `claim` (name and UID) has it now.
fn volume(claim: (&str, Option<&str>), phase: &str) -> PersistentVolume {
    serde_json::from_value(json!({
        "metadata": {"name": "pv-a", "annotations": {MIGRATION: "m"}},
        "spec": {"persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"namespace": "shop", "name": claim.0, "uid": claim.1}},
        "status": {"phase": phase},
    }))
    .unwrap()
}

fn claim(name: &str, uid: &str, volume: Option<&str>) -> PersistentVolumeClaim {
    serde_json::from_value(json!({
        "metadata": {"name": name, "uid": uid}, "spec": {"volumeName": volume},
    }))
    .unwrap()
}

#[test]
fn an_old_volume_that_somebody_went_back_to_is_not_let_go() {
    let moved = [claim("data-db-0", "new", Some("pv-b"))];
    let back = [claim("data-db-0", "again", Some("pv-a"))];
    let used = |volume: &PersistentVolume, claims: &[_]| used(volume, claims, "shop", old());
    let left = volume(("data-db-0", Some("first")), "Released");
    assert_eq!(used(&left, &moved), None);
    assert_eq!(used(&left, &[]), None);
    assert_eq!(
        used(&volume((old().staging, None), "Available"), &moved),
        None
    );

    let bound = volume(("data-db-0", Some("again")), "Bound");
    let why = used(&bound, &back).unwrap();
    assert!(why.contains("shop/data-db-0"), "{why}");
    for (volume, claims) in [
        // Bound, whatever the list of the claims says; and not yet called so.
        (&bound, &moved[..]),
        (&volume(("data-db-0", Some("new")), "Released"), &moved),
        // Asked for by name, and not bound yet.
        (&left, &back),
        // Reserved for whoever makes the claim.
        (&volume(("data-db-0", None), "Available"), &moved),
        (&volume(("data-db-0", None), "Available"), &[]),
        (
            &volume((old().staging, None), "Available"),
            &[claim(old().staging, "s", None)],
        ),
    ] {
        assert!(used(volume, claims).is_some(), "{volume:?} {claims:?}");
    }
    let mut elsewhere = left.clone();
    let reference = elsewhere
        .spec
        .as_mut()
        .and_then(|spec| spec.claim_ref.as_mut());
    reference.unwrap().namespace = Some("other".to_owned());
    assert!(used(&elsewhere, &[]).is_some());
    elsewhere.spec.as_mut().unwrap().claim_ref = None;
    assert!(used(&elsewhere, &[]).is_some());
}

#[test]
fn a_copy_goes_with_its_staging_claim_and_stays_with_any_other() {
    let used = |volume: &PersistentVolume, claims: &[_]| used(volume, claims, "shop", copy());
    let staging = [claim(copy().staging, "s", Some("pv-a"))];
    assert_eq!(
        used(&volume((copy().staging, Some("s")), "Bound"), &staging),
        None
    );
    assert_eq!(
        used(&volume((copy().staging, None), "Available"), &[]),
        None
    );
    let on_old = [claim("data-db-0", "c", Some("pv-old"))];
    assert_eq!(
        used(&volume(("data-db-0", None), "Available"), &on_old),
        None
    );
    let bound = volume(("data-db-0", Some("c")), "Bound");
    assert!(used(&bound, &[claim("data-db-0", "c", Some("pv-a"))]).is_some());
}

#[test]
fn what_an_earlier_try_has_let_go_is_let_go_again_and_nothing_else_without_a_mark() {
    let released = volume(("data-db-0", Some("first")), "Released");
    let change = going(&released, old()).unwrap().unwrap();
    assert_eq!(change["spec"]["persistentVolumeReclaimPolicy"], "Delete");
    let parked = going(&volume((old().staging, None), "Available"), old()).unwrap();
    assert_eq!(parked.unwrap()["spec"]["claimRef"]["uid"], "m");

    // What those two changes leave lingers until the provisioner has come to it.
    for (holder, phase) in [
        ("first", "Released"),
        ("first", "Failed"),
        ("m", "Available"),
    ] {
        let mut let_go = volume(("data-db-0", Some(holder)), phase);
        let_go.metadata.annotations = None;
        assert!(
            going(&let_go, old()).is_err(),
            "kept, and not ours any more"
        );
        let spec = let_go.spec.as_mut().unwrap();
        spec.persistent_volume_reclaim_policy = Some("Delete".to_owned());
        assert_eq!(going(&let_go, old()).unwrap(), None);
    }
    let another = Uid::new("n");
    let others = LeftVolume {
        uid: &another,
        ..old()
    };
    assert!(going(&released, others).is_err());
}
