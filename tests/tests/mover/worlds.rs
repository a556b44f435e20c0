//! Strange worlds: whatever a tree lies on and whoever changes it, each name that the source has is
//! at the destination with its content and metadata, or the run fails and names it. No name is
//! removed at the destination that the source still has.
//!
//! Every seed is a world: file systems, a tree, what the destination held before, runs while the
//! source changes, and a quiet run. `LIVMIG_SEED=7` tries that one alone, `LIVMIG_SEED=0..8` a
//! range, `LIVMIG_TESTS=full` ten times as many. What fails is made smaller as long as it fails.

use std::{
    collections::BTreeSet,
    env,
    fmt::Write as _,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use livmig_tests::{
    bins, require,
    rng::Rng,
    run::{Finished, run},
    scratch::Scratch,
    world::{
        self, Ground, Laid, Step, World,
        change::{Moved, change},
        judge::{self, Aspect, Difference},
        lay::throughout,
        report::Report,
        seen::{self, Tree},
    },
};

use super::churn::seeds;

const SEEDS: u64 = 300;

/// Worlds at a time: they wait for devices much of the time.
const WORKERS: usize = 6;

/// Failing seeds after which no more are tried, unless `LIVMIG_SEED` names those to try.
const ENOUGH: usize = 5;

/// Of what is broken, what is shown.
const SHOWN: usize = 12;

/// Worlds that are tried to make one smaller.
const SMALLER: u32 = 120;

#[test]
fn every_world_is_equal_or_told() -> Result<()> {
    require!(world::available());
    let seeds = seeds(SEEDS)?;
    let scratch = Scratch::new()?;
    let ground = Ground::new(&scratch.dir("ground")?)?;
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(Vec::<u64>::new());
    let bench = Bench {
        ground: &ground,
        laid: AtomicU64::new(0),
    };
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let Err(error) = bench.try_once(&World::draw(*seed)) else {
                        continue;
                    };
                    let told = bench.smallest(World::draw(*seed), error);
                    println!("{told}\n");
                    let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                    failed.push(*seed);
                    if failed.len() >= ENOUGH && env::var_os("LIVMIG_SEED").is_none() {
                        next.store(seeds.len(), Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    let many = seeds.len();
    ensure!(
        failed.is_empty(),
        "{} worlds of {many} failed; each is told above",
        failed.len()
    );
    Ok(())
}

/// Where worlds are tried.
struct Bench<'g> {
    ground: &'g Ground,
    /// How many there were.
    laid: AtomicU64,
}

impl Bench<'_> {
    /// The smallest world that fails as this one does, for people.
    fn smallest(&self, mut world: World, mut error: anyhow::Error) -> String {
        let mut left = SMALLER;
        'smaller: loop {
            for simpler in world.simpler() {
                if left == 0 {
                    break 'smaller;
                }
                left -= 1;
                if let Err(other) = self.try_once(&simpler) {
                    (world, error) = (simpler, other);
                    continue 'smaller;
                }
            }
            break;
        }
        let seed = world.seed;
        format!("seed {seed}; again with LIVMIG_SEED={seed}; smallest: {world}\n{error:?}")
    }

    fn try_once(&self, world: &World) -> Result<()> {
        let number = self.laid.fetch_add(1, Ordering::Relaxed);
        let name = format!("{} {number}", world.seed);
        let mut laid = Laid::new(self.ground, world, &name).context("laying out a world")?;
        let state = laid.own("state")?;
        let state = state.to_str().context("a path that is text")?;
        let flags = |remembers: bool| {
            if remembers {
                vec!["--state", state]
            } else {
                Vec::new()
            }
        };
        for (step, seed) in &world.steps {
            let mut rng = Rng::new(*seed);
            laid.take(*step, &mut rng)
                .with_context(|| format!("laying out: {step:?}"))?;
            if let Step::Live { state, changes } = step {
                live(&laid, &flags(*state), *changes, &mut rng)
                    .with_context(|| format!("{step:?}"))?;
            }
        }
        laid.rise().context("laying out what is above")?;
        quiet(&laid, &flags(world.state)).context("the quiet run")
    }
}

/// What must not change by a run, whatever happens.
struct Before {
    kept: Vec<Tree>,
    names: Vec<Vec<u8>>,
    below_points: Tree,
}

impl Before {
    fn of(laid: &Laid<'_>) -> Result<Self> {
        Ok(Self {
            kept: kept(laid)?,
            names: seen::paths(laid.destination())?,
            below_points: below_points(laid, |_| true)?,
        })
    }

    /// Fails if something changed that must not, given the names that the source had throughout.
    /// What could not be put in a name's place after what was there had to go is named.
    fn expect_kept(&self, laid: &Laid<'_>, had: &BTreeSet<Vec<u8>>, report: &Report) -> Result<()> {
        let there: BTreeSet<Vec<u8>> = seen::paths(laid.destination())?.into_iter().collect();
        let removed: Vec<String> = self
            .names
            .iter()
            .filter(|name| had.contains(*name) && !there.contains(*name))
            .filter(|name| !report.faults.paths.contains(name))
            .map(|name| name.escape_ascii().to_string())
            .collect();
        ensure!(
            removed.is_empty(),
            "removed at the destination, but never gone at the source: {removed:?}"
        );
        for (before, after) in self.kept.iter().zip(kept(laid)?) {
            let differences = judge::differences(before, &after);
            ensure!(
                differences.is_empty(),
                "changed beside the destination:\n{}",
                shown(&differences)
            );
        }
        // With a directory above it a mount goes where that goes.
        let stood = |point: &[u8]| had.contains(point);
        let mut before = self.below_points.clone();
        before.retain(|path, _| is_below_point(laid, path, stood));
        let differences = judge::differences(&before, &below_points(laid, stood)?);
        ensure!(
            differences.is_empty(),
            "changed at the destination, where something is mounted in the source:\n{}",
            shown(&differences)
        );
        Ok(())
    }
}

fn kept(laid: &Laid<'_>) -> Result<Vec<Tree>> {
    laid.kept().iter().map(|dir| seen::tree(dir)).collect()
}

/// What the destination has where something is mounted in the source, at the points that `stood`.
fn below_points(laid: &Laid<'_>, stood: impl Fn(&[u8]) -> bool) -> Result<Tree> {
    let mut tree = seen::tree(laid.destination())?;
    tree.retain(|path, _| is_below_point(laid, path, &stood));
    Ok(tree)
}

fn is_below_point(laid: &Laid<'_>, path: &[u8], stood: impl Fn(&[u8]) -> bool) -> bool {
    let mut points = laid.points().iter();
    points.any(|point| stood(point) && judge::holds(point, path) && point != path)
}

/// A run while the source changes.
fn live(laid: &Laid<'_>, flags: &[&str], changes: u32, rng: &mut Rng) -> Result<()> {
    let before = Before::of(laid)?;
    let root = laid.writable();
    let names = names(laid)?;
    let over = AtomicBool::new(false);
    let (finished, changed) = thread::scope(|scope| {
        let changing = scope.spawn(|| -> Result<(Moved, Vec<String>)> {
            let (mut moved, mut done) = (Moved::default(), Vec::new());
            for _ in 0..changes {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                done.push(change(root, rng, &mut moved)?);
                // Spread over the run, which needs a while to begin.
                thread::sleep(Duration::from_micros(rng.below(4000)));
            }
            Ok((moved, done))
        });
        let finished = sync(laid, flags);
        over.store(true, Ordering::Relaxed);
        (finished, changing.join())
    });
    let (moved, done) = changed.map_err(|_| anyhow!("a thread panicked"))??;
    let after = self::names(laid)?;
    let had = throughout(&names, &after, &moved);
    (|| {
        let report = told(&finished?)?;
        before.expect_kept(laid, &had, &report)?;
        let there: BTreeSet<Vec<u8>> = seen::paths(laid.destination())?.into_iter().collect();
        let missing: Vec<Difference> = had
            .iter()
            .filter(|name| !there.contains(*name) && !is_excused(laid, name, &Tree::new()))
            .map(|name| Difference {
                path: name.clone(),
                aspect: Aspect::Missing,
                shown: format!("{}: missing", name.escape_ascii()),
                others: Vec::new(),
                is_dir: false,
            })
            .collect();
        unbroken(&missing, &report)
    })()
    .with_context(|| format!("changes: {done:#?}"))
}

/// The names that the source has.
fn names(laid: &Laid<'_>) -> Result<Vec<Vec<u8>>> {
    seen::paths(if laid.points().is_empty() {
        laid.writable()
    } else {
        laid.source()
    })
}

/// The last run: nothing changes.
fn quiet(laid: &Laid<'_>, flags: &[&str]) -> Result<()> {
    let before = Before::of(laid)?;
    let source = laid.truth()?;
    let report = told(&sync(laid, flags)?)?;
    let after = laid.truth()?;
    let changed = judge::differences(&source, &after);
    ensure!(
        changed.is_empty(),
        "the source was changed:\n{}",
        shown(&changed)
    );
    before.expect_kept(laid, &source.keys().cloned().collect(), &report)?;
    let mut differences = judge::differences(&source, &seen::tree(laid.destination())?);
    differences.retain(|difference| !is_excused(laid, &difference.path, &source));
    differences.retain(|difference| !(difference.aspect == Aspect::Holes && laid.hides_holes()));
    unbroken(&differences, &report)?;
    if report.exit == 1 && report.faults.total == 0 {
        consented(laid, flags, &report).context("with consent to all that was grave")?;
    }
    Ok(())
}

/// What a person has said may be left out is no reason to fail.
fn consented(laid: &Laid<'_>, flags: &[&str], report: &Report) -> Result<()> {
    let grave = report.left.iter().filter(|left| left.is_grave);
    let reasons: Vec<&str> = grave.map(|left| left.reason.as_str()).collect();
    let reasons = reasons.join(",");
    let flags = [flags, &["--leave-out", &reasons]].concat();
    sync(laid, &flags)?.expect(0).map(drop)
}

/// Whether a path's difference is nobody's fault.
fn is_excused(laid: &Laid<'_>, path: &[u8], source: &Tree) -> bool {
    laid.may_be_missed(path) || laid.is_own(path, source)
}

fn unbroken(differences: &[Difference], report: &Report) -> Result<()> {
    let broken = judge::broken(differences, report);
    if broken.is_empty() {
        return Ok(());
    }
    let (many, first) = (broken.len(), broken.get(..SHOWN).unwrap_or(&broken));
    bail!(
        "{many} times:\n{}\nit said: {}",
        first.join("\n"),
        report.said
    )
}

fn shown(differences: &[Difference]) -> String {
    let mut text = String::new();
    for difference in differences {
        let _ = writeln!(text, "{}", difference.shown);
    }
    text
}

fn sync(laid: &Laid<'_>, flags: &[&str]) -> Result<Finished> {
    run(bins::mover()?
        .arg("sync")
        .args([laid.source(), laid.destination()])
        .arg("--json")
        .args(flags))
}

fn told(finished: &Finished) -> Result<Report> {
    Report::of(finished)
}
