//! Random trees, random changes: after each pass the copy is equal. `LIVMIG_TESTS=full` tries ten
//! times as many seeds; a failure names its seed and every change since.

use std::env;

use anyhow::{Context as _, Result, ensure};
use livmig_tests::{compare, mutate, rng::Rng, scratch::Scratch, tree::random};

use super::sync::{digest, expect_copied, sync};

const SEEDS: u64 = 30;

#[test]
fn any_tree_after_any_changes() -> Result<()> {
    let full = env::var_os("LIVMIG_TESTS").is_some_and(|value| value == "full");
    let seeds = if full { 10 * SEEDS } else { SEEDS };
    for seed in 0..seeds {
        one(seed).with_context(|| format!("seed {seed}"))?;
    }
    Ok(())
}

/// One change and one pass at a time, so that what fails has a name.
#[test]
fn each_sort_of_change_alone() -> Result<()> {
    let mut failed = Vec::new();
    for change in mutate::Change::ALL {
        for seed in 0..4 {
            if let Err(error) = one_change(change, seed) {
                failed.push(format!("{change:?}, seed {seed}: {error:?}"));
            }
        }
    }
    ensure!(failed.is_empty(), "{}", failed.join("\n\n"));
    Ok(())
}

fn one_change(change: mutate::Change, seed: u64) -> Result<()> {
    let scratch = Scratch::new()?;
    let (a, b) = (scratch.dir("a")?, scratch.dir("b")?);
    let mut rng = Rng::new(seed);
    random::make(&a, 25, &mut rng)?;
    sync(&a, &b, &[])?;
    let victim = mutate::apply_one(&a, change, &mut rng)?;
    let context = || format!("after a change of {victim:?}");
    sync(&a, &b, &[]).with_context(context)?;
    compare::expect_equal(&a, &b).with_context(context)
}

fn one(seed: u64) -> Result<()> {
    let scratch = Scratch::new()?;
    let (a, b, state) = (scratch.dir("a")?, scratch.dir("b")?, scratch.dir("state")?);
    let mut rng = Rng::new(seed);
    random::make(&a, 80, &mut rng)?;
    // With what was remembered, and by looking at the destination: both must find the same.
    let state = state.to_str().context("a path that is text")?;
    let flags: &[&str] = if rng.chance(50) {
        &["--state", state]
    } else {
        &[]
    };
    sync(&a, &b, flags)?;
    compare::expect_equal(&a, &b).context("after the first pass")?;
    for round in 1..=3 {
        let done = mutate::apply(&a, 25, &mut rng)?;
        let synced = sync(&a, &b, flags)?;
        let context = || format!("flags {flags:?}, round {round}: {done:#?}");
        compare::expect_equal(&a, &b).with_context(context)?;
        assert_eq!(synced.digest, digest(&b)?, "{}", context());
    }
    expect_copied(&a, &b)
}
