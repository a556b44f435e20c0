//! The demonstration, as a newcomer runs it: smaller, but whole.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use livmig_tests::{
    bins,
    run::{Finished, LIMIT, Running, run},
    scratch::Scratch,
};
use rustix::process::Signal;
use serde_json::Value;

use super::migrate::{expect_completed, text};

fn demo(scratch: &Scratch, flags: &[&str]) -> Result<std::process::Command> {
    let mut command = bins::coord()?;
    command
        .arg("demo")
        .args(["--size", "48Mi", "--files", "200"])
        .args(flags)
        .env("XDG_STATE_HOME", scratch.path().join("state"))
        .env("TMPDIR", scratch.path());
    Ok(command)
}

fn run_demo(scratch: &Scratch, flags: &[&str]) -> Result<Finished> {
    run(&mut demo(scratch, flags)?)?.expect(0)
}

#[test]
fn it_migrates_and_finds_every_acknowledged_record() -> Result<()> {
    let scratch = Scratch::new()?;
    let document = run_demo(&scratch, &["-o", "json"])?.json()?;
    expect_completed(&document)?;
    let found = document.pointer("/status/demo").context("no findings")?;
    let count = |name: &str| found.get(name).and_then(Value::as_u64);
    for name in [
        "acknowledgedBefore",
        "acknowledgedAfter",
        "pages",
        "files",
        "untouched",
    ] {
        ensure!(count(name) > Some(0), "{name} in {found:#}");
    }
    assert_eq!(found.get("wrong"), Some(&Value::Array(Vec::new())));
    // Gone without a trace, the journal too.
    let left = entries(&scratch)?;
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}

#[test]
fn it_tells_people_what_happened() -> Result<()> {
    let scratch = Scratch::new()?;
    let finished = run_demo(&scratch, &[])?;
    for word in [
        "final",
        "downtime",
        "predicted",
        "every acknowledged write is on the new volume",
    ] {
        ensure!(
            finished.stdout.contains(word),
            "no {word:?} in {}",
            finished.stdout
        );
    }
    // Not for a terminal: no escape sequences anywhere.
    ensure!(!finished.stdout.contains('\x1b') && !finished.stderr.contains('\x1b'));
    Ok(())
}

#[test]
fn it_keeps_what_it_made_when_asked() -> Result<()> {
    let scratch = Scratch::new()?;
    let dir = scratch.path().join("kept");
    let path = dir.to_str().context("a path that is text")?;
    let document = run_demo(&scratch, &["--keep", "--dir", path, "-o", "json"])?.json()?;
    for end in ["source", "destination"] {
        let volume = text(&document, &format!("/status/volumes/0/{end}"))?;
        ensure!(fs::read_dir(volume)?.next().is_some(), "{volume} is empty");
    }
    Ok(())
}

/// Ctrl-C at some moment: whatever was going on, nothing of it goes on.
#[test]
fn it_can_be_interrupted() -> Result<()> {
    let scratch = Scratch::new()?;
    let mut journals = livmig_tests::journal::Journals::watch(&scratch.path().join("state"))?;
    let demo = Running::start(&mut demo(&scratch, &[])?)?;
    let passing = journals.wait_for(&demo, |record| {
        livmig_tests::journal::is_intent(record, "pass")
    })?;
    ensure!(passing, "{}", demo.stderr()?);
    demo.signal(Signal::INT)?;
    demo.wait(LIMIT)?.expect(130)?.says(&["interrupted"])?;
    let left = entries(&scratch)?;
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}

/// What lies in the scratch directory, the empty state home aside.
fn entries(scratch: &Scratch) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in walkdir::WalkDir::new(scratch.path()).min_depth(1) {
        let entry = entry?;
        let path = entry.path().strip_prefix(scratch.path())?;
        if path.starts_with("state")
            && (entry.file_type().is_dir() || path.ends_with("registration.lock"))
        {
            continue;
        }
        names.push(path.display().to_string());
    }
    Ok(names)
}
