//! `inspect`: one digest for all that a tree holds, and nothing else in it.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, ensure};
use livmig_tests::{
    bins, require,
    rng::Rng,
    run::run,
    scratch::Scratch,
    skip, skip_part,
    tree::{attribute, every_kind, random},
};

use super::sync::{digest, sync};

#[test]
fn every_attribute_counts() -> Result<()> {
    let scratch = Scratch::new()?;
    for change in attribute::Attribute::ALL {
        let dir = scratch.dir(&format!("{change:?}"))?;
        attribute::make(&dir)?;
        let before = digest(&dir)?;
        match change.apply(&dir)? {
            attribute::Applied::Yes => {
                assert_ne!(before, digest(&dir)?, "{change:?} does not count");
            }
            attribute::Applied::No(need) => skip_part!(format!("{change:?} needs {need}")),
        }
    }
    Ok(())
}

#[test]
fn both_ends_of_a_pass_have_one_digest() -> Result<()> {
    let scratch = Scratch::new()?;
    let (a, b) = (scratch.dir("a")?, scratch.dir("b")?);
    every_kind::make(&a)?;
    let synced = sync(&a, &b, &[])?;
    assert_eq!(digest(&a)?, synced.digest);
    assert_eq!(digest(&b)?, synced.digest);
    Ok(())
}

/// Another inode, another change time, filled holes: the same volume.
#[test]
fn what_a_copy_cannot_keep_does_not_count() -> Result<()> {
    require!(skip::program("cp"));
    let scratch = Scratch::new()?;
    let a = scratch.dir("a")?;
    random::make(&a, 100, &mut Rng::new(6))?;
    let b = scratch.path().join("b");
    let status = Command::new("cp")
        .args(["-a", "--sparse=never"])
        .args([&a, &b])
        .status()?;
    ensure!(status.success());
    assert_eq!(digest(&a)?, digest(&b)?);
    Ok(())
}

#[test]
fn people_get_one_line() -> Result<()> {
    let scratch = Scratch::new()?;
    let dir = scratch.dir("a")?;
    fs::write(dir.join("file"), "12345")?;
    let finished = run(bins::mover()?.arg("inspect").arg(&dir))?.expect(0)?;
    let digest = digest(&dir)?;
    let line = finished.stdout.strip_suffix('\n').context("no line")?;
    let expected = format!("{digest}  2 entries  5 bytes  {}", dir.display());
    assert_eq!(line, expected);
    Ok(())
}

#[test]
fn what_is_no_directory_is_refused() -> Result<()> {
    let scratch = Scratch::new()?;
    let file = scratch.path().join("file");
    fs::write(&file, "")?;
    for path in [file, scratch.path().join("missing")] {
        let finished = run(bins::mover()?.arg("inspect").arg(&path))?;
        assert_ne!(finished.status.code(), Some(0));
        finished.says(&[path.to_str().context("a path that is text")?])?;
    }
    Ok(())
}
