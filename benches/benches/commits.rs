//! What a live pass costs a workload that commits: the latency of `fdatasync` on the source's
//! volume, without a pass and beside one that reads it cold, `syncfs` included.
//!
//! Runs without and with a pass take turns, since figures move with the machine; what counts is
//! the ratio of a row to the first one. The source is an ext4 of its own, so that what `syncfs`
//! writes back is the writer's and not a stranger's; the destination is memory, so that it takes
//! nothing of the source's disk. Needs root for the mount. Sizes in MiB and the number of turns:
//! `LIVMIG_COMMITS_MIB` (2048), `LIVMIG_COMMITS_TURNS` (5).

use std::{
    env,
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt as _,
    path::Path,
    process::{Command, ExitCode, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use livmig_tests::{
    bins,
    mounts::{self, Mount},
    rng::Rng,
    scratch::Scratch,
};
use rustix::fs::{Advice, fadvise};

const MIB: usize = 1 << 20;

/// Bytes of one file of the source.
const FILE: usize = 64 * MIB;

/// What is written and committed at once, and how often it may be.
const WRITE: usize = 8192;
const PAUSE: Duration = Duration::from_millis(1);

/// How long the writer is watched where no pass says so.
const ALONE: Duration = Duration::from_secs(5);

/// The rows: what they are called, and the mover's flags; none where there is no pass.
const ROWS: [(&str, Option<&[&str]>); 3] = [
    ("no pass", None),
    ("live pass", Some(&[])),
    (
        "live pass, --bandwidth 64Mi",
        Some(&["--bandwidth", "64Mi"]),
    ),
];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    if let Err(reason) = mounts::available("mkfs.ext4") {
        println!("skipped: {reason}");
        return Ok(());
    }
    let (size, turns) = (
        setting("LIVMIG_COMMITS_MIB", 2048)?,
        setting("LIVMIG_COMMITS_TURNS", 5)?,
    );
    let scratch = Scratch::new()?;
    let room = u64::try_from((size + 512) * MIB)?;
    let volume = Mount::ext4(scratch.path(), "volume", room, &[])?.like_a_disk()?;
    let (a, home) = (volume.dir("a")?, volume.dir("writer")?);
    let memory = tempfile::tempdir_in("/dev/shm")?;
    let mut rng = Rng::new(1);
    for number in 0..(size * MIB).div_ceil(FILE) {
        fs::write(a.join(number.to_string()), rng.bytes(FILE))?;
    }
    let mut latencies = ROWS.map(|_| Vec::new());
    for _ in 0..turns {
        for ((_, flags), latencies) in ROWS.iter().zip(&mut latencies) {
            make_cold(&a)?;
            let beside = || match flags {
                None => {
                    thread::sleep(ALONE);
                    Ok(())
                }
                Some(flags) => pass(&a, memory.path(), flags),
            };
            latencies.extend(writer_beside(&home, beside)?);
        }
    }
    print(&mut latencies);
    Ok(())
}

fn setting(name: &str, otherwise: usize) -> Result<usize> {
    match env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name} is {text:?}")),
        Err(_) => Ok(otherwise),
    }
}

/// Drops every file of the source from the page cache.
fn make_cold(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let file = File::open(entry?.path())?;
        file.sync_all()?;
        fadvise(&file, 0, None, Advice::DontNeed)?;
    }
    Ok(())
}

/// One first pass.
fn pass(source: &Path, memory: &Path, flags: &[&str]) -> Result<()> {
    let destination = memory.join("destination");
    let status = Command::new(bins::path("livmig-mover")?)
        .arg("sync")
        .args([source, destination.as_path()])
        .args(flags)
        .stdout(Stdio::null())
        .status()?;
    ensure!(status.success(), "the pass failed");
    Ok(fs::remove_dir_all(destination)?)
}

/// The latency of every commit while `work` is done.
fn writer_beside(home: &Path, work: impl FnOnce() -> Result<()>) -> Result<Vec<Duration>> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(home.join("log"))?;
    let content = Rng::new(2).bytes(WRITE);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| -> Result<Vec<Duration>> {
            let mut latencies = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let at = latencies.len() % 2048 * WRITE;
                let begun = Instant::now();
                file.write_all_at(&content, u64::try_from(at)?)?;
                file.sync_data()?;
                latencies.push(begun.elapsed());
                thread::sleep(PAUSE);
            }
            Ok(latencies)
        });
        let worked = work();
        stop.store(true, Ordering::Relaxed);
        let latencies = writer.join().map_err(|_| anyhow!("the writer panicked"))?;
        worked.and(latencies)
    })
}

fn print(latencies: &mut [Vec<Duration>]) {
    let mut first = None;
    println!("| Beside the writer | Commits | p50 | p99 | longest | p99 to no pass |");
    println!("|---|---|---|---|---|---|");
    for ((name, _), latencies) in ROWS.iter().zip(latencies) {
        latencies.sort_unstable();
        let at = |percent: usize| {
            let index = (latencies.len() * percent / 100).min(latencies.len().saturating_sub(1));
            latencies.get(index).copied().unwrap_or_default()
        };
        let base = *first.get_or_insert(at(99));
        println!(
            "| {name} | {} | {:.2} ms | {:.2} ms | {:.2} ms | {:.2} |",
            latencies.len(),
            at(50).as_secs_f64() * 1e3,
            at(99).as_secs_f64() * 1e3,
            at(100).as_secs_f64() * 1e3,
            at(99).as_secs_f64() / base.as_secs_f64()
        );
    }
}
