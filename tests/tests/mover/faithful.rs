//! Copies are faithful: whatever a tree holds, its copy holds.

use std::fs;

use anyhow::{Context as _, Result};
use livmig_tests::{
    compare,
    mounts::{self, Mount},
    mutate, require,
    rng::Rng,
    scratch::Scratch,
    skip, skip_part,
    snapshot::Snapshot,
    tree::{attribute, deep, every_kind, random},
};

use super::sync::{expect_copied, sync};

#[test]
fn a_tree_with_every_kind_of_entry() -> Result<()> {
    let scratch = Scratch::new()?;
    let (a, b) = (scratch.dir("a")?, scratch.dir("b")?);
    for missing in every_kind::make(&a)? {
        skip_part!(missing);
    }
    let before = Snapshot::of(&a)?;
    sync(&a, &b, &[])?;
    expect_copied(&a, &b)?;
    compare::expect_unchanged(&before, &a)
}

#[test]
fn random_changes_of_a_tree_with_every_kind_of_entry() -> Result<()> {
    // Others may not change what the tree forbids its owner.
    require!(skip::root());
    let scratch = Scratch::new()?;
    let (a, b) = (scratch.dir("a")?, scratch.dir("b")?);
    every_kind::make(&a)?;
    sync(&a, &b, &[])?;
    let done = mutate::apply(&a, 120, &mut Rng::new(20))?;
    sync(&a, &b, &[])?;
    expect_copied(&a, &b).with_context(|| format!("after {done:#?}"))
}

#[test]
fn the_change_of_a_single_attribute() -> Result<()> {
    let scratch = Scratch::new()?;
    for change in attribute::Attribute::ALL {
        let a = scratch.dir(&format!("a {change:?}"))?;
        let b = scratch.dir(&format!("b {change:?}"))?;
        attribute::make(&a)?;
        sync(&a, &b, &[])?;
        match change.apply(&a)? {
            attribute::Applied::Yes => {
                sync(&a, &b, &[])?;
                compare::expect_equal(&a, &b).with_context(|| format!("{change:?}"))?;
            }
            attribute::Applied::No(need) => skip_part!(format!("{change:?} needs {need}")),
        }
    }
    Ok(())
}

#[test]
fn a_foreign_tree_at_the_destination_is_taken_over() -> Result<()> {
    let scratch = Scratch::new()?;
    let (a, b) = (scratch.dir("a")?, scratch.dir("b")?);
    random::make(&a, 150, &mut Rng::new(1))?;
    random::make(&b, 150, &mut Rng::new(2))?;
    sync(&a, &b, &[])?;
    expect_copied(&a, &b)
}

#[test]
fn a_tree_deeper_than_a_path_can_say() -> Result<()> {
    let scratch = Scratch::new()?;
    let (a, b) = (scratch.dir("a")?, scratch.dir("b")?);
    deep::make(&a)?;
    sync(&a, &b, &[])?;
    compare::expect_equal(&a, &b)?;
    // And away again: deletion reaches as deep.
    let top = fs::read_dir(&a)?.next().context("nothing made")??.path();
    fs::remove_dir_all(top)?;
    fs::write(a.join("file"), "left")?;
    sync(&a, &b, &[])?;
    compare::expect_equal(&a, &b)
}

#[test]
fn from_ext4_to_xfs_and_back() -> Result<()> {
    require!(mounts::available("mkfs.ext4"));
    require!(mounts::available("mkfs.xfs"));
    let scratch = Scratch::new()?;
    let ext4 = Mount::ext4(scratch.path(), "ext4", 512 << 20, &[])?;
    let xfs = Mount::xfs(scratch.path(), "xfs", 512 << 20)?;
    let (a, b, c) = (ext4.dir("a")?, xfs.dir("b")?, ext4.dir("c")?);
    every_kind::make(&a)?;
    // More than the 1023 bytes that xfs takes for a target.
    fs::remove_file(a.join("symlinks/4095 bytes"))?;
    // Not in rsync's judgement: as root it wants those attributes too by which xfs keeps ACLs.
    sync(&a, &b, &[])?;
    compare::expect_equal(&a, &b)?;
    sync(&b, &c, &[])?;
    compare::expect_equal(&b, &c)?;
    expect_copied(&a, &c)
}

#[test]
fn every_level_of_verification() -> Result<()> {
    let scratch = Scratch::new()?;
    let a = scratch.dir("a")?;
    random::make(&a, 80, &mut Rng::new(4))?;
    let mut digests = Vec::new();
    for level in ["wire", "readback", "full"] {
        let b = scratch.dir(level)?;
        digests.push(sync(&a, &b, &["--verify", level])?.digest);
        compare::expect_equal(&a, &b)?;
    }
    digests.dedup();
    assert_eq!(digests.len(), 1, "{digests:?}");
    Ok(())
}

#[test]
fn the_root_of_an_ext4_file_system() -> Result<()> {
    require!(mounts::available("mkfs.ext4"));
    let scratch = Scratch::new()?;
    let a = scratch.dir("a")?;
    fs::write(a.join("file"), "content")?;
    let ext4 = Mount::ext4(scratch.path(), "ext4", 32 << 20, &[])?;
    // lost+found belongs to the file system: it is neither foreign nor deleted.
    sync(&a, ext4.path(), &[])?;
    assert!(ext4.path().join("lost+found").is_dir());
    let b = scratch.dir("b")?;
    sync(ext4.path(), &b, &[])?;
    assert!(!b.join("lost+found").exists());
    compare::expect_equal(&a, &b)
}
