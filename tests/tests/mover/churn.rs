//! A tree that never rests: random changes of random trees *while* passes run, by stores into
//! mapped memory and by writes in flight across the scan among others. Then the writer stops, one
//! final pass follows, and the copy is equal byte for byte.
//!
//! Every seed is a tree and a program of changes of its own. A part of each tree is older than the
//! margin of the mover's proof, so that what is skipped for its timestamps is met as well. Movers
//! serve [`BLOCK`] seeds each: a seed meets what the movers remember of those before it. A failure
//! names its seed; `LIVMIG_SEED=7` tries that one alone and `LIVMIG_SEED=0..8` a range in order.

use std::{
    env,
    fs::{self, File},
    ops::Range,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use livmig_proto::{
    control::{FaultCode, PassKind, PassReport, RequestBody, ResponseBody, Side},
    ids::Epoch,
};
use livmig_tests::{
    compare,
    control::{Client, Keys, Mover},
    mutate,
    pair::{leaving, pass_to, report},
    require,
    rng::Rng,
    run::{LIMIT, await_started},
    scratch::Scratch,
    skip,
    tree::random,
};

use super::{aged::age, mapped::Mapped};

const SEEDS: u64 = 600;

/// Seeds that one pair of movers serves.
const BLOCK: usize = 25;

/// Pairs of movers at a time: they wait for the device much of the time.
const PAIRS: usize = 16;

/// Bytes of the file that is written through a mapping: large enough for blocks of its own.
const MAPPED: u64 = 192 << 10;

/// Bytes of the file that is written across the scan.
const FLIGHT: u64 = 512 << 10;

#[test]
fn a_tree_that_changes_during_passes_is_equal_after_the_last() -> Result<()> {
    require!(skip::program("python3"));
    let seeds = seeds(SEEDS)?;
    let scratch = Scratch::new()?;
    let blocks = seeds
        .chunks(BLOCK)
        .enumerate()
        .map(|(number, seeds)| Block::new(&scratch, number, seeds))
        .collect::<Result<Vec<_>>>()?;
    age();
    let next = AtomicUsize::new(0);
    thread::scope(|scope| -> Result<()> {
        let pair = || -> Result<()> {
            while let Some(block) = blocks.get(next.fetch_add(1, Ordering::Relaxed)) {
                // One failure is enough: the others begin no more.
                block
                    .run()
                    .inspect_err(|_| next.store(blocks.len(), Ordering::Relaxed))?;
            }
            Ok(())
        };
        let pairs: Vec<_> = (0..PAIRS).map(|_| scope.spawn(pair)).collect();
        pairs.into_iter().try_for_each(|pair| joined(pair.join()))
    })
}

/// The seeds to try: so `many`, ten times as many, or those that `LIVMIG_SEED` names.
pub(crate) fn seeds(many: u64) -> Result<Vec<u64>> {
    let Ok(text) = env::var("LIVMIG_SEED") else {
        let full = env::var_os("LIVMIG_TESTS").is_some_and(|value| value == "full");
        return Ok((0..if full { 10 * many } else { many }).collect());
    };
    let range: Range<u64> = if let Some((first, end)) = text.split_once("..") {
        first.parse()?..end.parse()?
    } else {
        let seed = text.parse().context("LIVMIG_SEED is no number")?;
        seed..seed + 1
    };
    Ok(range.collect())
}

/// Seeds that share a pair of movers.
struct Block {
    seeds: Vec<u64>,
    dir: PathBuf,
    a: PathBuf,
    b: PathBuf,
}

impl Block {
    /// The old parts of its trees, to be aged.
    fn new(scratch: &Scratch, number: usize, seeds: &[u64]) -> Result<Self> {
        let dir = scratch.dir(&format!("block {number}"))?;
        let (a, b) = (dir.join("a"), dir.join("b"));
        fs::create_dir(&a)?;
        fs::create_dir(&b)?;
        for seed in seeds {
            let mut rng = Rng::new(!seed);
            fs::create_dir_all(tree_of(&a, *seed))?;
            random::make(&tree_of(&a, *seed), 6, &mut rng)?;
            fs::create_dir(held_of(&a, *seed))?;
            for (name, size) in [("mapped", MAPPED), ("flight", FLIGHT)] {
                // A hole is left where the size is not a multiple of what is written.
                let file = File::create(held_of(&a, *seed).join(name))?;
                file.set_len(size)?;
                file.write_all_at(&rng.bytes(96 << 10), 8192 * rng.below(8))?;
            }
        }
        Ok(Self {
            seeds: seeds.to_vec(),
            dir,
            a,
            b,
        })
    }

    fn run(&self) -> Result<()> {
        let keys = Keys::generate(1)?;
        let source = Mover::start(Side::Source, &self.a, &self.dir, &keys)?;
        let destination = Mover::start(Side::Destination, &self.b, &self.dir, &keys)?;
        let mut session = Session {
            client: source.connect(&keys.coordinator, Epoch(1))?,
            data: destination.data()?,
            number: 0,
        };
        let first = session.pass(PassKind::Live)?;
        ensure!(first.complete, "the first pass: {first:?}");
        for seed in &self.seeds {
            self.one(*seed, &mut session).with_context(|| {
                let first = self.seeds.first().unwrap_or(seed);
                format!(
                    "seed {seed}; again with LIVMIG_SEED={seed}, or after those before it with \
                     LIVMIG_SEED={first}..{}",
                    seed + 1
                )
            })?;
            // The next seed's first pass finds them gone.
            for dir in [tree_of(&self.a, *seed), held_of(&self.a, *seed)] {
                fs::remove_dir_all(dir)?;
            }
        }
        for mover in [source, destination] {
            let mut client = mover.connect(&keys.coordinator, Epoch(1))?;
            ensure!(client.ask(RequestBody::Shutdown)? == ResponseBody::Accepted);
            mover.process.wait(LIMIT)?.expect(0)?;
        }
        fs::remove_dir_all(&self.dir)?;
        Ok(())
    }

    fn one(&self, seed: u64, session: &mut Session) -> Result<()> {
        let mut rng = Rng::new(seed);
        let young = tree_of(&self.a, seed).join("young");
        fs::create_dir(&young)?;
        random::make(&young, 8, &mut rng)?;
        let mut writer = Writer::new(&self.a, seed, rng.clone())?;
        let mut done = Vec::new();
        for _ in 0..=rng.below(3) {
            let begin = Barrier::new(2);
            let live = thread::scope(|scope| -> Result<PassReport> {
                let writing = scope.spawn(|| writer.work(&begin));
                begin.wait();
                let live = session.pass(PassKind::Live);
                done.extend(joined(writing.join())?);
                live
            })?;
            let wrong = |code| matches!(code, FaultCode::Internal | FaultCode::Protocol);
            ensure!(
                !live.faults.iter().any(|fault| wrong(fault.code)),
                "a live pass: {live:?}; {done:#?}"
            );
        }
        writer.stop()?;
        let last = session.pass(PassKind::Final)?;
        ensure!(last.complete, "the final pass: {last:?}; {done:#?}");
        ensure!(last.digest_source == last.digest_destination, "{last:?}");
        let equal = |of: fn(&Path, u64) -> PathBuf| {
            compare::expect_equal(&of(&self.a, seed), &of(&self.b, seed))
        };
        equal(tree_of)
            .and_then(|()| equal(held_of))
            .with_context(|| format!("{done:#?}"))
    }
}

/// Where the tree of a seed is.
fn tree_of(root: &Path, seed: u64) -> PathBuf {
    root.join(format!("tree {seed}"))
}

/// Where the files are that a seed's writer holds open.
fn held_of(root: &Path, seed: u64) -> PathBuf {
    root.join(format!("held {seed}"))
}

/// A source that is asked for passes.
struct Session {
    client: Client,
    data: std::net::SocketAddr,
    number: u32,
}

impl Session {
    fn pass(&mut self, kind: PassKind) -> Result<PassReport> {
        self.number += 1;
        let report = report(
            self.client
                .ask(leaving(pass_to(self.data, self.number, kind)))?,
        )?;
        let pass = report.pass;
        self.client.ask(RequestBody::Acknowledge { pass })?;
        Ok(report)
    }
}

/// The workload of one seed.
struct Writer {
    rng: Rng,
    tree: PathBuf,
    held: PathBuf,
    mapped: Mapped,
    /// Where the mapped file is now.
    name: PathBuf,
    flight: File,
}

impl Writer {
    fn new(root: &Path, seed: u64, rng: Rng) -> Result<Self> {
        let held = held_of(root, seed);
        let name = held.join("mapped");
        Ok(Self {
            rng,
            tree: tree_of(root, seed),
            mapped: Mapped::open(&name)?,
            flight: File::options().write(true).open(held.join("flight"))?,
            name,
            held,
        })
    }

    /// Changes everything while a pass runs that begins with `begin`. Returns what was done, a
    /// line each.
    fn work(&mut self, begin: &Barrier) -> Result<Vec<String>> {
        let mut rng = Rng::new(self.rng.draw());
        let flight = self.flight.try_clone()?;
        thread::scope(|scope| {
            let writing = scope.spawn(move || -> Result<()> {
                begin.wait();
                for _ in 0..=rng.below(4) {
                    let length = FLIGHT / 2 + rng.below(FLIGHT / 2);
                    let bytes = rng.bytes(usize::try_from(length)?);
                    flight.write_all_at(&bytes, rng.below(FLIGHT - length))?;
                    if rng.chance(20) {
                        flight.set_len(rng.below(FLIGHT))?;
                    }
                }
                Ok(())
            });
            let mut done = Vec::new();
            for _ in 0..4 + self.rng.below(12) {
                done.push(self.step()?);
            }
            joined(writing.join())?;
            Ok(done)
        })
    }

    fn step(&mut self) -> Result<String> {
        let rng = &mut self.rng;
        match rng.below(10) {
            0..3 => {
                let offset = rng.below(MAPPED);
                self.mapped
                    .store(usize::try_from(offset)?, u8::try_from(rng.below(256))?)?;
                Ok(format!("a store at {offset} of {}", self.name.display()))
            }
            3 => {
                let name = self.held.join(format!("mapped {}", rng.below(1000)));
                fs::rename(&self.name, &name)?;
                self.name.clone_from(&name);
                Ok(format!("the mapped file is {}", name.display()))
            }
            _ => Ok(mutate::apply(&self.tree, 1, rng)?.join("")),
        }
    }

    /// Ends: nothing is mapped or open any more, not even in a child that another test starts.
    fn stop(self) -> Result<()> {
        self.mapped.close()?;
        drop(self.flight);
        await_started();
        Ok(())
    }
}

/// What a thread returned.
fn joined<T>(result: thread::Result<Result<T>>) -> Result<T> {
    result.map_err(|_| anyhow!("a thread panicked"))?
}
