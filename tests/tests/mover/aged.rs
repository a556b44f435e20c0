//! Files that have not changed for so long that their timestamps prove it: the mover need not
//! read them again, and must still see every later change.

use std::{
    fs, thread,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};
use livmig_tests::{compare, mutate, require, rng::Rng, scratch::Scratch, skip, tree::random};

use super::{mapped::Mapped, sync::sync};

/// How long a change may be in flight after its timestamp, as the mover's rule has it, and a
/// second.
const MARGIN: Duration = Duration::from_secs(31);

/// Waits until what was written by now is older than the margin. Nothing announces that: it is
/// the clock itself that is waited for.
pub(crate) fn age() {
    let aged = SystemTime::now() + MARGIN;
    while let Ok(left) = aged.duration_since(SystemTime::now()) {
        thread::sleep(left + Duration::from_millis(1));
    }
}

#[test]
fn changes_of_aged_files_are_seen() -> Result<()> {
    let scratch = Scratch::new()?;
    let mut trees = Vec::new();
    for seed in 0..8 {
        let mut rng = Rng::new(seed);
        let [a, b, state] = ["a", "b", "state"].map(|name| scratch.dir(&format!("{name}{seed}")));
        let (a, b, state) = (a?, b?, state?);
        random::make(&a, 100, &mut rng)?;
        let state = state.to_str().context("a path that is text")?.to_owned();
        trees.push((rng, a, b, state));
    }
    age();
    for (_, a, b, state) in &trees {
        // The first pass proves, the second uses the proof.
        sync(a, b, &["--state", state])?;
        sync(a, b, &["--state", state])?;
        compare::expect_equal(a, b)?;
    }
    for (rng, a, b, state) in &mut trees {
        for _ in 0..4 {
            let done = mutate::apply(a, 6, rng)?;
            sync(a, b, &["--state", state])?;
            compare::expect_equal(a, b).with_context(|| format!("{done:#?}"))?;
        }
    }
    Ok(())
}

/// Stores into a mapped page leave no timestamp while the page is dirty; the mover's `syncfs`
/// makes the next store leave one.
#[test]
fn stores_into_mapped_memory_are_seen() -> Result<()> {
    require!(skip::program("python3"));
    let scratch = Scratch::new()?;
    let (a, b, state) = (scratch.dir("a")?, scratch.dir("b")?, scratch.dir("state")?);
    let flags = ["--state", state.to_str().context("a path that is text")?];
    let file = a.join("mapped");
    fs::write(&file, vec![b'.'; 1 << 20])?;
    age();
    sync(&a, &b, &flags)?;
    let mut mapped = Mapped::open(&file)?;
    for round in 0..4_u8 {
        // Two stores into one page around a pass: the second meets a page that was dirty.
        mapped.store(4096, b'a' + round)?;
        sync(&a, &b, &flags)?;
        mapped.store(4097, b'A' + round)?;
        mapped.store(900_000, b'0' + round)?;
        sync(&a, &b, &flags)?;
        let (was, is) = (fs::read(&file)?, fs::read(b.join("mapped"))?);
        assert!(was == is, "round {round}: a store was lost");
    }
    Ok(())
}
