//! Random trees that change while passes run, by two writers: calls of every sort on one part of
//! the tree, and on the other large writes, mapped stores and directories that come and go. Then
//! the writers stop, a final pass runs, and the copy must be equal.
//!
//! Each batch of seeds has its own movers, and a tree that goes from one seed to the next. What the
//! writers do comes from the seeds of the batch alone; when they do it beside the pass is up to the
//! threads, so a seed that has failed may have to be tried several times. `LIVMIG_SEEDS` says how
//! many seeds to try; `LIVMIG_SEED` names one, and its batch runs up to it.

mod large;

use std::{
    env, fs,
    path::Path,
    sync::{
        Barrier,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use livmig_proto::{
    control::{FaultCode, PassKind, PassReport, Side},
    ids::Epoch,
};
use livmig_tests::{
    control::{Client, Keys, Mover},
    mutate,
    pair::{Pair, leaving, report},
    rng::Rng,
    scratch::Scratch,
    tree::random,
};
use walkdir::WalkDir;

/// Seeds that are tried unless the environment says otherwise.
const SEEDS: u64 = 400;

/// Seeds that share movers and a tree.
const BATCH: u64 = 20;

/// Batches at a time.
const LANES: usize = 6;

/// Of the part that calls of every sort change: entries, and bytes, from which it starts anew.
const ENTRIES_MAX: usize = 60;
const BYTES_MAX: u64 = 3 << 20;

#[test]
fn a_final_pass_after_any_changes_during_passes() -> Result<()> {
    if let Some(seed) = number("LIVMIG_SEED")? {
        return batch(seed - seed % BATCH, seed + 1);
    }
    let seeds = number("LIVMIG_SEEDS")?.unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    thread::scope(|scope| {
        let lane = || -> Result<()> {
            loop {
                let first = next.fetch_add(BATCH, Ordering::Relaxed);
                if first >= seeds {
                    return Ok(());
                }
                batch(first, seeds.min(first + BATCH))?;
            }
        };
        let lanes: Vec<_> = (0..LANES).map(|_| scope.spawn(lane)).collect();
        for lane in lanes {
            lane.join().map_err(|_| anyhow!("a lane panicked"))??;
        }
        Ok(())
    })
}

fn number(variable: &str) -> Result<Option<u64>> {
    let Some(value) = env::var_os(variable) else {
        return Ok(None);
    };
    let parsed = value.to_str().and_then(|text| text.parse().ok());
    parsed
        .map(Some)
        .with_context(|| format!("{variable} is no number: {}", value.display()))
}

/// The seeds from `first` until before `end`, on new movers.
fn batch(first: u64, end: u64) -> Result<()> {
    let scratch = Scratch::new()?;
    let (a, b) = (scratch.dir("a")?, scratch.dir("b")?);
    // Not by the writers: a source with nothing in it is refused.
    change_part(&a.join("any"), &mut Rng::new(first))?;
    let keys = Keys::generate(1)?;
    let source = Mover::start(Side::Source, &a, scratch.path(), &keys)?;
    let destination = Mover::start(Side::Destination, &b, scratch.path(), &keys)?;
    let pair = Pair {
        a,
        b,
        keys,
        source,
        destination,
        scratch,
    };
    let mut client = pair.source.connect(&pair.keys.coordinator, Epoch(1))?;
    let mut pass = 0;
    for seed in first..end {
        one(&pair, &mut client, seed, &mut pass)
            .with_context(|| format!("seed {seed}: LIVMIG_SEED={seed} runs it again"))?;
    }
    drop(client);
    pair.shut_down()
}

/// Changes during one or two live passes, then a final one. `pass` is the last pass's number.
fn one(pair: &Pair, client: &mut Client, seed: u64, pass: &mut u32) -> Result<()> {
    let mut rng = Rng::new(seed);
    let acts = 1 + usize::from(rng.chance(40));
    let (any, large) = (Rng::new(rng.draw()), Rng::new(rng.draw()));
    // Each act of the writers begins with its pass.
    let curtain = Barrier::new(3);
    thread::scope(|scope| -> Result<()> {
        let any = scope.spawn(|| change_any(&pair.a, acts, &curtain, any));
        let large = scope.spawn(|| large::change(&pair.a, acts, &curtain, large));
        let mut passed = Ok(());
        for _ in 0..acts {
            curtain.wait();
            if passed.is_ok() {
                passed = live(pair, client, pass);
            }
        }
        for writer in [any, large] {
            writer
                .join()
                .map_err(|_| anyhow!("a writer panicked"))?
                .context("a writer")?;
        }
        passed
    })?;
    *pass += 1;
    pair.run_pass(*pass, PassKind::Final)
        .context("the final pass")?;
    Ok(())
}

/// A pass beside writers: what vanishes under it makes it incomplete, and nothing may go wrong
/// but that.
fn live(pair: &Pair, client: &mut Client, pass: &mut u32) -> Result<()> {
    *pass += 1;
    let report: PassReport = report(client.ask(leaving(pair.pass(*pass, PassKind::Live)?))?)?;
    let ours = |code| matches!(code, FaultCode::Internal | FaultCode::Protocol);
    ensure!(
        !report.faults.iter().any(|fault| ours(fault.code)),
        "a live pass: {report:?}"
    );
    Ok(())
}

/// The acts of the writer that changes its own part of the tree by calls of every sort.
fn change_any(root: &Path, acts: usize, curtain: &Barrier, mut rng: Rng) -> Result<()> {
    let part = root.join("any");
    let mut result = Ok(());
    for _ in 0..acts {
        // Also after an error: the others wait for this one.
        curtain.wait();
        if result.is_ok() {
            result = change_part(&part, &mut rng);
        }
    }
    result
}

fn change_part(part: &Path, rng: &mut Rng) -> Result<()> {
    if outgrown(part)? {
        fs::remove_dir_all(part)?;
    }
    if !part.exists() {
        fs::create_dir(part)?;
        random::make(part, ENTRIES_MAX / 2, rng)?;
    }
    let changes = 5 + rng.below(20);
    mutate::apply(part, usize::try_from(changes)?, rng)?;
    Ok(())
}

fn outgrown(part: &Path) -> Result<bool> {
    if !part.exists() {
        return Ok(false);
    }
    let (mut entries, mut bytes) = (0, 0);
    for entry in WalkDir::new(part) {
        entries += 1;
        bytes += entry?.metadata()?.len();
    }
    Ok(entries > ENTRIES_MAX || bytes > BYTES_MAX)
}
