//! A source that changes while it is read: the pass ends, and the next one after the changes
//! makes the copy equal.

use std::{
    collections::VecDeque,
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Result, anyhow, ensure};
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

/// Directories that are moved away and back while they are visited, and stay from then on, with time
/// left: the pass must not take those that it missed for empty.
#[test]
fn a_directory_that_was_away_for_a_moment_is_copied_all_the_same() -> Result<()> {
    const MOVERS: usize = 8;
    const EACH: usize = 8;
    let scratch = Scratch::new()?;
    let (a, b, away) = (scratch.dir("a")?, scratch.dir("b")?, scratch.dir("away")?);
    let name = |mover: usize, number: usize| format!("d{mover}-{number}");
    for mover in 0..MOVERS {
        for number in 0..EACH {
            let dir = a.join("parent").join(name(mover, number));
            fs::create_dir_all(&dir)?;
            fs::write(dir.join("file"), name(mover, number))?;
        }
    }
    // What keeps the pass busy until long after they are back.
    fs::write(a.join("slow"), Rng::new(42).bytes(12 << 20))?;
    let stop = AtomicBool::new(false);
    // Half of them are away at any time.
    let move_until = |mover: usize| -> Result<()> {
        let mut here: VecDeque<String> = (0..EACH).map(|number| name(mover, number)).collect();
        let mut gone: VecDeque<String> = here.drain(..EACH / 2).collect();
        let there = |name: &str| a.join("parent").join(name);
        for name in &gone {
            fs::rename(there(name), away.join(name))?;
        }
        while !stop.load(Ordering::Relaxed) {
            if let Some(name) = here.pop_front() {
                fs::rename(there(&name), away.join(&name))?;
                gone.push_back(name);
            }
            if let Some(name) = gone.pop_front() {
                fs::rename(away.join(&name), there(&name))?;
                here.push_back(name);
            }
        }
        gone.iter()
            .try_for_each(|name| Ok(fs::rename(away.join(name), there(name))?))
    };
    thread::scope(|scope| -> Result<()> {
        let movers: Vec<_> = (0..MOVERS)
            .map(|mover| scope.spawn(move || move_until(mover)))
            .collect();
        let pass = scope.spawn(|| sync(&a, &b, &["--bandwidth", "4Mi"]).map(drop));
        // The pass has been there: it makes a directory once it has listed the parent.
        while !b.join("parent").exists() && !pass.is_finished() {
            thread::yield_now();
        }
        thread::sleep(Duration::from_millis(500));
        stop.store(true, Ordering::Relaxed);
        for mover in movers {
            mover.join().map_err(|_| anyhow!("a mover panicked"))??;
        }
        assert!(!pass.is_finished(), "the pass was over too early");
        pass.join().map_err(|_| anyhow!("the pass panicked"))?
    })?;
    // Which of them it saw at all is chance; those it has whole.
    for dir in fs::read_dir(b.join("parent"))? {
        let dir = dir?.path();
        ensure!(dir.join("file").exists(), "{} is empty", dir.display());
    }
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
