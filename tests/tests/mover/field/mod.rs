//! Situations that people met in the field: each is exact at the destination, or said by name.

mod aliases;
mod apart;
mod attributes;
mod bounds;
mod destination;
mod few_rights;
mod flags;
mod held;
mod identity;
mod lost_found;
mod mounts;
mod user;

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use livmig_proto::control::{LeftEntry, Reason};
use livmig_tests::run::Finished;
use serde_json::Value;

/// The paths that a `sync --json` says were left out because of `reason`, sorted.
fn left_out(finished: &Finished, reason: Reason) -> Result<Vec<String>> {
    let mut paths: Vec<String> = listed(finished, reason)?
        .into_iter()
        .map(|entry| entry.path)
        .collect();
    paths.sort_unstable();
    Ok(paths)
}

/// What a `sync --json` says was left out because of `reason`, with its details.
fn listed(finished: &Finished, reason: Reason) -> Result<Vec<LeftEntry>> {
    let report = finished.json()?;
    let all = report.get("leftOut").and_then(Value::as_array);
    let found = all
        .context("no list of what is left out")?
        .iter()
        .find(|left| left.get("reason").and_then(Value::as_str) == Some(reason.name()));
    let Some(found) = found else {
        return Ok(Vec::new());
    };
    let listed = found.get("listed").cloned().context("no paths")?;
    Ok(serde_json::from_value(listed)?)
}

/// Fails unless the run says that nothing was left out.
fn expect_nothing_left_out(finished: &Finished) -> Result<()> {
    let report = finished.json()?;
    let left = report.get("leftOut").and_then(Value::as_array);
    ensure!(
        left.is_some_and(Vec::is_empty),
        "left out: {:?}",
        report.get("leftOut")
    );
    Ok(())
}

/// Writes a file, and makes the directories above it.
fn write(path: &Path, content: &str) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    Ok(fs::write(path, content)?)
}

/// Puts a file into the directory `path`, and one into a directory in it.
fn filled(path: &Path) -> Result<()> {
    write(&path.join("file"), "content")?;
    write(&path.join("sub/file"), "more content")
}
