//! A source that changes while it is read: the pass ends, and the next one after the changes
//! makes the copy equal.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::{Result, anyhow};
use livmig_tests::{mutate, rng::Rng, scratch::Scratch, tree::random};

use super::sync::{expect_copied, sync};

#[test]
fn a_pass_beside_a_writer_and_one_after_it() -> Result<()> {
    let scratch = Scratch::new()?;
    let (a, b) = (scratch.dir("a")?, scratch.dir("b")?);
    random::make(&a, 1500, &mut Rng::new(40))?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| -> Result<()> {
        let writer = scope.spawn(|| write_until(&stop, &a));
        let passes = (0..3).try_for_each(|_| sync(&a, &b, &[]).map(drop));
        stop.store(true, Ordering::Relaxed);
        let changes = writer
            .join()
            .map_err(|_| anyhow!("the writer panicked"))??;
        assert!(changes > 0, "the writer wrote nothing");
        passes
    })?;
    sync(&a, &b, &[])?;
    expect_copied(&a, &b)
}

/// Changes the tree over and over. Returns how often.
fn write_until(stop: &AtomicBool, root: &Path) -> Result<usize> {
    let mut rng = Rng::new(41);
    let mut changes = 0;
    while !stop.load(Ordering::Relaxed) {
        changes += mutate::apply(root, 5, &mut rng)?.len();
    }
    Ok(changes)
}
