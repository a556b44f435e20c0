//! First copies whose read-back is left to the pass that follows.

use std::fs;

use anyhow::{Result, ensure};
use livmig_proto::{
    control::{PassKind, PassReport, Side},
    ids::Epoch,
};
use livmig_tests::{
    compare,
    control::Mover,
    pair::{Pair, leaving, report},
    rng::Rng,
    run::LIMIT,
};
use rustix::process::Signal;

/// Movers, and so much that it is not read back in no time.
fn pair(seed: u64) -> Result<Pair> {
    let pair = Pair::start(seed)?;
    let mut rng = Rng::new(seed);
    for file in 0..24 {
        fs::write(pair.a.join(format!("large{file}")), rng.bytes(3 << 20))?;
    }
    Ok(pair)
}

/// Runs a pass that may leave its read-back.
fn pass(pair: &Pair, number: u32, kind: PassKind) -> Result<PassReport> {
    let mut client = pair.source.connect(&pair.keys.coordinator, Epoch(1))?;
    let report = report(client.ask(leaving(pair.pass(number, kind)?))?)?;
    ensure!(report.complete, "{report:?}");
    compare::expect_equal(&pair.a, &pair.b)?;
    Ok(report)
}

fn expect_left(report: &PassReport) -> Result<()> {
    ensure!(report.read_back_left, "{report:?}");
    ensure!(report.digest_source.is_empty() && report.digest_destination.is_empty());
    Ok(())
}

fn expect_proven(report: &PassReport) -> Result<()> {
    ensure!(!report.read_back_left, "{report:?}");
    ensure!(!report.digest_source.is_empty());
    ensure!(
        report.digest_source == report.digest_destination,
        "{report:?}"
    );
    Ok(())
}

#[test]
fn the_pass_after_a_first_copy_proves_it_and_leaves_nothing() -> Result<()> {
    let pair = pair(31)?;
    expect_left(&pass(&pair, 1, PassKind::Live)?)?;
    fs::write(pair.a.join("large3"), b"shorter")?;
    fs::remove_file(pair.a.join("large4"))?;
    let second = pass(&pair, 2, PassKind::Live)?;
    expect_proven(&second)?;
    ensure!(second.bytes_sent < 1 << 20, "sent again: {second:?}");
    expect_proven(&pass(&pair, 3, PassKind::Final)?)?;
    pair.shut_down()
}

#[test]
fn a_final_pass_proves_what_the_one_before_left() -> Result<()> {
    let pair = pair(32)?;
    expect_left(&pass(&pair, 1, PassKind::Live)?)?;
    expect_proven(&pass(&pair, 2, PassKind::Final)?)?;
    pair.shut_down()
}

#[test]
fn a_final_first_pass_leaves_nothing() -> Result<()> {
    let pair = pair(33)?;
    expect_proven(&pass(&pair, 1, PassKind::Final)?)?;
    pair.shut_down()
}

/// What was to be read back is read by its successor, from the beginning.
#[test]
fn a_destination_that_dies_with_its_read_back_undone_proves_everything_anew() -> Result<()> {
    let mut pair = pair(34)?;
    expect_left(&pass(&pair, 1, PassKind::Live)?)?;
    pair.destination.process.signal(Signal::KILL)?;
    pair.destination.process.wait(LIMIT)?;
    let dir = pair.scratch.path();
    pair.destination = Mover::start(Side::Destination, &pair.b, dir, &pair.keys)?;
    expect_proven(&pass(&pair, 2, PassKind::Live)?)?;
    pair.shut_down()
}
