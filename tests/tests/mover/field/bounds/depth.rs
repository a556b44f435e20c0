//! Trees of any depth, with few descriptors, in bytes that grow with the tree and no faster.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use livmig_tests::{
    bins,
    run::{Finished, run},
    scratch::Scratch,
};
use serde_json::Value;

use super::tower::{Beside, Tower};

/// Runs `sync a b --json` with further `flags` and 256 descriptors, which cannot be raised.
fn sync(a: &Path, b: &Path, flags: &[&str]) -> Result<Finished> {
    let mover = bins::mover()?;
    run(Command::new("sh")
        .args(["-c", "ulimit -n 256; exec \"$0\" \"$@\""])
        .arg(mover.get_program())
        .arg("sync")
        .args([a, b])
        .arg("--json")
        .args(flags))
}

/// Bytes that crossed the wire, either way.
fn bytes(finished: &Finished) -> Result<u64> {
    let report = finished.json()?;
    let number = |name| report.get(name).and_then(Value::as_u64);
    let both = number("bytesSent").zip(number("bytesReceived"));
    let (sent, received) = both.with_context(|| format!("no traffic in {report}"))?;
    Ok(sent + received)
}

/// What copying `towers` trees of this `depth` side by side takes: at first, and when all is
/// asked.
fn costs(depth: usize, towers: usize, beside: Beside) -> Result<[u64; 2]> {
    let scratch = Scratch::new()?;
    let a = Tower::new(scratch.path().join("a"))?;
    let b = Tower::new(scratch.path().join("b"))?;
    let mut ways = Vec::new();
    for tower in 0..towers {
        let name = format!("way{tower}");
        let from = Tower::new(a.path().join(&name))?;
        from.build("d", depth, beside)?;
        ways.push((from, b.path().join(&name)));
    }
    let first = bytes(&sync(a.path(), b.path(), &[])?.expect(0)?)?;
    for (from, to) in &ways {
        from.expect_equal(to, "d", depth)?;
    }
    let asked = sync(a.path(), b.path(), &[])?.expect(0)?;
    ensure!(
        asked.json()?.get("changed") == Some(&Value::from(0)),
        "changed again: {}",
        asked.stdout
    );
    Ok([first, bytes(&asked)?])
}

fn expect_linear(towers: usize, beside: Beside) -> Result<()> {
    let (less, more) = (costs(100, towers, beside)?, costs(500, towers, beside)?);
    for (less, more) in less.into_iter().zip(more) {
        ensure!(more < less * 7, "five times the depth: {less} to {more}");
    }
    Ok(())
}

#[test]
fn a_way_down_takes_bytes_by_its_length() -> Result<()> {
    expect_linear(1, Beside::default())
}

#[test]
fn a_deep_tree_with_directories_beside_the_way_takes_few_descriptors() -> Result<()> {
    expect_linear(
        1,
        Beside {
            directory: true,
            file: true,
            ..Beside::default()
        },
    )
}

#[test]
fn ways_down_side_by_side_take_bytes_by_their_lengths() -> Result<()> {
    expect_linear(
        4,
        Beside {
            file: true,
            ..Beside::default()
        },
    )
}

#[test]
fn hard_links_deep_down_take_bytes_by_their_number() -> Result<()> {
    expect_linear(
        1,
        Beside {
            file: true,
            link: true,
            ..Beside::default()
        },
    )
}

#[test]
fn what_is_too_deep_is_refused_by_name_and_the_rest_is_carried() -> Result<()> {
    let scratch = Scratch::new()?;
    let a = Tower::new(scratch.path().join("a"))?;
    let b = Tower::new(scratch.path().join("b"))?;
    a.build("d", 4200, Beside::default())?;
    fs::write(a.path().join("other"), "other")?;
    let finished = sync(a.path(), b.path(), &[])?.expect(1)?;
    finished.says(&["nested too deep", "4096", "d/d/d"])?;
    ensure!(b.depth("d")? == 4096, "{} deep", b.depth("d")?);
    ensure!(fs::read(b.path().join("other"))? == b"other", "the rest");

    // Names as long as they may be reach another limit first.
    let long = "n".repeat(255);
    let a = Tower::new(scratch.path().join("long"))?;
    let b = Tower::new(scratch.path().join("to"))?;
    a.build(&long, 300, Beside::default())?;
    fs::write(a.path().join("other"), "other")?;
    let finished = sync(a.path(), b.path(), &[])?.expect(1)?;
    finished.says(&["nested too deep", "65536"])?;
    ensure!(b.depth(&long)? == 256, "{} deep", b.depth(&long)?);
    ensure!(fs::read(b.path().join("other"))? == b"other", "the rest");
    Ok(())
}
