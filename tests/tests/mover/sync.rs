//! Running `livmig-mover sync` and `inspect`.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use livmig_tests::{
    bins, compare, rsync,
    run::{Finished, run},
    skip, skip_part,
};
use serde_json::Value;

/// What `sync --json` reports.
#[derive(Clone, Debug)]
pub(crate) struct Synced {
    pub(crate) entries: u64,
    pub(crate) bytes_total: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) digest: String,
    pub(crate) peak_rss: u64,
}

/// Runs `sync a b --json` with further `flags`, which must succeed.
pub(crate) fn sync(a: &Path, b: &Path, flags: &[&str]) -> Result<Synced> {
    let finished = try_sync(a, b, flags)?.expect(0)?;
    let report = finished.json()?;
    let number = |name: &str| {
        let value = report.get(name).and_then(Value::as_u64);
        value.with_context(|| format!("no number {name} in {report}"))
    };
    // Promised to scripts beside what these tests read.
    number("bytesReceived")?;
    report
        .get("seconds")
        .and_then(Value::as_f64)
        .context("no seconds")?;
    Ok(Synced {
        entries: number("entries")?,
        bytes_total: number("bytesTotal")?,
        bytes_sent: number("bytesSent")?,
        digest: text(&report, "digest")?,
        peak_rss: finished.peak_rss,
    })
}

/// Runs `sync a b --json` with further `flags`, to whatever end.
pub(crate) fn try_sync(a: &Path, b: &Path, flags: &[&str]) -> Result<Finished> {
    run(bins::mover()?
        .arg("sync")
        .args([a, b])
        .arg("--json")
        .args(flags))
}

/// The digest that `inspect` prints for a tree.
pub(crate) fn digest(dir: &Path) -> Result<String> {
    let finished = run(bins::mover()?.arg("inspect").arg(dir).arg("--json"))?.expect(0)?;
    let digest = text(&finished.json()?, "digest")?;
    ensure!(digest.len() == 64, "{digest:?} is no digest");
    Ok(digest)
}

/// Fails unless `b` is a copy of `a`, in our own judgement and in rsync's.
pub(crate) fn expect_copied(a: &Path, b: &Path) -> Result<()> {
    compare::expect_equal(a, b)?;
    if let Err(reason) = skip::program("rsync") {
        skip_part!(reason);
        return Ok(());
    }
    let differences = rsync::differences(a, b)?;
    ensure!(
        differences.is_empty(),
        "rsync would still do: {differences}"
    );
    Ok(())
}

fn text(report: &Value, name: &str) -> Result<String> {
    let value = report.get(name).and_then(Value::as_str);
    Ok(value
        .with_context(|| format!("no text {name} in {report}"))?
        .to_owned())
}
