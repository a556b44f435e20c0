//! Wrong arguments: refused with a reason before anything is touched.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use livmig_tests::{
    bins, compare, rng::Rng, run::run, scratch::Scratch, snapshot::Snapshot, tree::random,
};

use super::sync::{sync, try_sync};

/// Exit code of what was not asked right.
const USAGE: i32 = 2;

/// Runs a sync that must be refused as wrong usage, naming `culprit`, with nothing changed below
/// `scratch`.
fn expect_refused(scratch: &Scratch, a: &Path, b: &Path, culprit: &Path) -> Result<()> {
    let before = Snapshot::of(scratch.path())?;
    let finished = try_sync(a, b, &[])?.expect(USAGE)?;
    finished.says(&[culprit.to_str().context("a path that is text")?])?;
    assert_eq!(finished.stdout, "");
    compare::expect_unchanged(&before, scratch.path())
}

fn tree(scratch: &Scratch, name: &str, seed: u64) -> Result<PathBuf> {
    let dir = scratch.dir(name)?;
    random::make(&dir, 20, &mut Rng::new(seed))?;
    Ok(dir)
}

#[test]
fn limits_that_make_no_sense() -> Result<()> {
    let scratch = Scratch::new()?;
    let (a, b) = (tree(&scratch, "a", 1)?, scratch.path().join("b"));
    let before = Snapshot::of(scratch.path())?;
    for (flag, value) in [
        ("--bandwidth", "0"),
        ("--bandwidth", "10"),
        ("--bandwidth", "fast"),
        ("--io-priority", "realtime"),
    ] {
        try_sync(&a, &b, &[flag, value])?
            .expect(USAGE)?
            .says(&[flag])?;
    }
    compare::expect_unchanged(&before, scratch.path())?;
    sync(&a, &b, &["--bandwidth", "64Mi", "--io-priority", "idle"])?;
    compare::expect_equal(&a, &b)
}

#[test]
fn a_source_that_is_missing() -> Result<()> {
    let scratch = Scratch::new()?;
    let a = scratch.path().join("a");
    expect_refused(&scratch, &a, &tree(&scratch, "b", 1)?, &a)
}

#[test]
fn a_source_that_is_a_file() -> Result<()> {
    let scratch = Scratch::new()?;
    let a = scratch.path().join("a");
    fs::write(&a, "file")?;
    expect_refused(&scratch, &a, &tree(&scratch, "b", 1)?, &a)
}

#[test]
fn a_destination_that_is_a_file() -> Result<()> {
    let scratch = Scratch::new()?;
    let b = scratch.path().join("b");
    fs::write(&b, "file")?;
    expect_refused(&scratch, &tree(&scratch, "a", 1)?, &b, &b)
}

#[test]
fn a_destination_inside_the_source() -> Result<()> {
    let scratch = Scratch::new()?;
    let a = tree(&scratch, "a", 1)?;
    let b = a.join("b");
    fs::create_dir(&b)?;
    expect_refused(&scratch, &a, &b, &b)
}

#[test]
fn a_source_inside_the_destination() -> Result<()> {
    let scratch = Scratch::new()?;
    let b = tree(&scratch, "b", 1)?;
    let a = b.join("a");
    fs::create_dir(&a)?;
    fs::write(a.join("file"), "file")?;
    expect_refused(&scratch, &a, &b, &a)
}

#[test]
fn both_the_same_by_any_name() -> Result<()> {
    let scratch = Scratch::new()?;
    let a = tree(&scratch, "a", 1)?;
    let link = scratch.path().join("link");
    symlink(&a, &link)?;
    expect_refused(&scratch, &a, &a, &a)?;
    expect_refused(&scratch, &a, &link, &a)?;
    expect_refused(&scratch, &a, &scratch.path().join("a/../a/."), &a)
}

#[test]
fn no_arguments_and_unknown_ones() -> Result<()> {
    for arguments in [
        &[][..],
        &["sync"],
        &["sync", "a"],
        &["sync", "a", "b", "--no-such"],
    ] {
        let finished = run(bins::mover()?.args(arguments))?.expect(USAGE)?;
        finished.says(&["usage"])?;
    }
    Ok(())
}

/// The one wrong argument that looks right: an empty directory, where a volume is not mounted.
#[test]
fn an_empty_source_empties_nothing_unasked() -> Result<()> {
    let scratch = Scratch::new()?;
    let (a, b) = (scratch.dir("a")?, tree(&scratch, "b", 1)?);
    let before = Snapshot::of(&b)?;
    let finished = try_sync(&a, &b, &[])?.expect(1)?;
    finished.says(&["empty", "--allow-empty"])?;
    compare::expect_unchanged(&before, &b)?;

    sync(&a, &b, &["--allow-empty"])?;
    compare::expect_equal(&a, &b)?;
    assert_eq!(Snapshot::of(&b)?.entries.len(), 1);
    Ok(())
}

#[test]
fn an_empty_source_and_an_empty_destination_are_equal() -> Result<()> {
    let scratch = Scratch::new()?;
    let (a, b) = (scratch.dir("a")?, scratch.dir("b")?);
    sync(&a, &b, &[])?;
    compare::expect_equal(&a, &b)
}
