//! Migrations that an older program has begun. What lies beside this file was written by the program of
//! the commit `e8e9add`, with its coordinator killed in the downtime; `@DIR@` stands for the directory
//! that all of it was in.

use std::{
    fmt::Write as _,
    fs,
    os::unix::fs::symlink,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use livmig_tests::{
    bins,
    run::{Finished, run},
    scratch::Scratch,
};
use serde_json::Value;

const NAME: &str = "data-bc0f89fb";
const JOURNAL: &str = include_str!("host-in-downtime.journal");
const SETTINGS: &str = include_str!("host-in-downtime.json");

/// Lays out the machine as the older coordinator has left it, `seconds` after it has died.
fn left_behind(seconds: u64) -> Result<Scratch> {
    let scratch = Scratch::new()?;
    let dir = scratch.path().display().to_string();
    let old = scratch.dir("old")?;
    fs::create_dir(old.join("sub"))?;
    fs::write(old.join("one"), "one\n")?;
    fs::write(old.join("sub/two"), "two\n")?;
    scratch.dir("new")?;
    symlink(&old, scratch.path().join("data"))?;
    let folder = scratch.path().join("state/livmig").join(NAME);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("host.json"), SETTINGS.replace("@DIR@", &dir))?;
    let died =
        u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())? - seconds * 1000;
    fs::write(
        folder.join("journal"),
        shifted(&JOURNAL.replace("@DIR@", &dir), died)?,
    )?;
    Ok(scratch)
}

/// The journal as if its last record had been written at `end`, in milliseconds.
fn shifted(journal: &str, end: u64) -> Result<String> {
    let records: Vec<Value> = journal
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let at = |record: &Value| record.get("at")?.as_u64();
    let last = records
        .last()
        .and_then(at)
        .context("a record with a time")?;
    let mut text = String::new();
    for mut record in records {
        let written = at(&record).context("a time")?;
        let fields = record.as_object_mut().context("a record")?;
        fields.insert("at".to_owned(), (written + end - last).into());
        writeln!(text, "{record}")?;
    }
    Ok(text)
}

fn resume(scratch: &Scratch) -> Result<Finished> {
    run(bins::coord()?
        .args(["resume", NAME, "-o", "json"])
        .env("LIVMIG_MOVER", bins::path("livmig-mover")?)
        .env("XDG_STATE_HOME", scratch.path().join("state")))
}

#[test]
fn a_downtime_that_has_just_begun_is_brought_to_its_end() -> Result<()> {
    let scratch = left_behind(1)?;
    let finished = resume(&scratch)?.expect(0)?;
    ensure!(finished.json()?.pointer("/status/outcome") == Some(&"completed".into()));
    let data = scratch.path().join("data");
    ensure!(data.canonicalize()? == scratch.path().join("new").canonicalize()?);
    ensure!(fs::read_to_string(data.join("sub/two"))? == "two\n");
    ensure!(
        scratch.path().join("started").exists(),
        "never started again"
    );
    Ok(())
}

#[test]
fn a_downtime_that_is_long_over_its_budget_is_taken_back() -> Result<()> {
    let scratch = left_behind(24 * 3600)?;
    let finished = resume(&scratch)?.expect(4)?;
    ensure!(finished.json()?.pointer("/status/outcome") == Some(&"rolledBack".into()));
    let data = scratch.path().join("data");
    ensure!(data.canonicalize()? == scratch.path().join("old").canonicalize()?);
    ensure!(
        scratch.path().join("started").exists(),
        "never started again"
    );
    Ok(())
}
