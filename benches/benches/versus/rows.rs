//! The rows of the table: what is copied where, and against whom.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use livmig_proto::control::PassKind;
use livmig_tests::{rsync, scratch::Scratch};

use crate::{data, measure::Cost, peers::Peer, session::Session, table::Row};

/// How much is copied, and how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    small_files: u64,
    large_file: u64,
    shifted_file: u64,
    runs: u64,
}

/// The sizes of the README's table.
pub(crate) const FULL: Scale = Scale {
    small_files: 200_000,
    large_file: 4 << 30,
    shifted_file: 1 << 30,
    runs: 3,
};

/// A run of a few minutes.
pub(crate) const QUICK: Scale = Scale {
    small_files: 20_000,
    large_file: 512 << 20,
    shifted_file: 256 << 20,
    runs: 3,
};

/// Older than this, a file counts as settled: a mover skips it by its timestamps.
const SETTLED: Duration = Duration::from_secs(32);

type Bars = &'static [(Peer, f64)];
type Measuring = fn(&Scale, &'static str) -> Result<Row>;

/// Runs the rows whose name contains `wanted`.
pub(crate) fn run(scale: &Scale, wanted: &str) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let rows_of_all: [(&'static str, Measuring); 6] = [
        ("small files, first copy", small_first),
        ("one large file, first copy", large_first),
        ("small files, nothing changed (pass)", small_unchanged),
        (
            "1 % of the pages of a large file changed (pass)",
            pages_changed,
        ),
        ("1 MiB + 13 bytes inserted in front (pass)", shifted),
        (
            "small files, the destination holds an older copy",
            older_copy,
        ),
    ];
    for (name, row) in rows_of_all {
        if name.contains(wanted) {
            eprintln!("{name}");
            rows.push(row(scale, name)?);
        }
    }
    Ok(rows)
}

fn small_first(scale: &Scale, name: &'static str) -> Result<Row> {
    let memory = Memory::folder()?;
    let from = memory.dir("from")?;
    data::small_files(&from, scale.small_files)?;
    let bars: Bars = &[
        (Peer::RsyncDaemon, 0.6),
        (Peer::RsyncSsh, 0.45),
        (Peer::Cp, 1.1),
    ];
    first_copies(scale, name, &memory, &from, bars)
}

fn large_first(scale: &Scale, name: &'static str) -> Result<Row> {
    let memory = Memory::folder()?;
    let from = memory.dir("from")?;
    data::large_file(&from.join("large"), scale.large_file)?;
    let bars: Bars = &[(Peer::RsyncDaemon, 1.0), (Peer::RsyncSsh, 0.35)];
    first_copies(scale, name, &memory, &from, bars)
}

/// Copies to an empty folder, everybody in turn.
fn first_copies(
    scale: &Scale,
    name: &'static str,
    place: &Memory,
    from: &Path,
    bars: Bars,
) -> Result<Row> {
    let mut row = Table::new(name, place.path(), bars)?;
    for _ in 0..scale.runs {
        for peer in row.peers() {
            let to = place.dir("to")?;
            let cost = peer.copy(from, &to, place.path())?;
            row.add(peer, cost);
            expect_equal(from, &to, peer)?;
            fs::remove_dir_all(&to)?;
        }
    }
    Ok(row.row)
}

fn small_unchanged(scale: &Scale, name: &'static str) -> Result<Row> {
    let disk = Scratch::new()?;
    let (from, own, other) = (disk.dir("from")?, disk.dir("own")?, disk.dir("other")?);
    data::small_files(&from, scale.small_files)?;
    let mut session = Session::start(&from, &own, disk.path())?;
    session.pass(PassKind::Live)?;
    Peer::RsyncDaemon.copy(&from, &other, disk.path())?;
    // Settled for the pass that remembers them; then the passes that skip them.
    std::thread::sleep(SETTLED);
    session.pass(PassKind::Live)?;
    let mut row = Table::new(name, disk.path(), &[(Peer::RsyncDaemon, 0.15)])?;
    for _ in 0..scale.runs {
        row.add(Peer::Livmig, session.measured_pass(PassKind::Live)?);
        row.add(
            Peer::RsyncDaemon,
            Peer::RsyncDaemon.copy(&from, &other, disk.path())?,
        );
    }
    session.end()?;
    expect_equal(&from, &own, Peer::Livmig)?;
    Ok(row.row)
}

fn pages_changed(scale: &Scale, name: &'static str) -> Result<Row> {
    passes_of_a_file(
        scale,
        name,
        scale.large_file,
        (Peer::RsyncDaemonInPlace, 0.12),
        |file, round| data::rewrite_pages(file, round).map(|_| ()),
    )
}

fn shifted(scale: &Scale, name: &'static str) -> Result<Row> {
    passes_of_a_file(
        scale,
        name,
        scale.shifted_file,
        (Peer::RsyncDaemon, 0.6),
        data::insert_in_front,
    )
}

/// Passes over one file that `change` changes before each.
fn passes_of_a_file(
    scale: &Scale,
    name: &'static str,
    bytes: u64,
    (peer, bar): (Peer, f64),
    change: fn(&Path, u64) -> Result<()>,
) -> Result<Row> {
    let disk = Scratch::new()?;
    let (from, own, other) = (disk.dir("from")?, disk.dir("own")?, disk.dir("other")?);
    let file = from.join("large");
    data::large_file(&file, bytes)?;
    let mut session = Session::start(&from, &own, disk.path())?;
    session.pass(PassKind::Live)?;
    peer.copy(&from, &other, disk.path())?;
    let mut row = Table::new(name, disk.path(), &[])?;
    row.row.bars.push((peer, bar));
    row.row.runs.push((peer, Vec::new()));
    for round in 0..scale.runs {
        change(&file, round)?;
        row.add(Peer::Livmig, session.measured_pass(PassKind::Live)?);
        row.add(peer, peer.copy(&from, &other, disk.path())?);
    }
    session.end()?;
    expect_equal(&from, &own, Peer::Livmig)?;
    expect_equal(&from, &other, peer)?;
    Ok(row.row)
}

fn older_copy(scale: &Scale, name: &'static str) -> Result<Row> {
    let disk = Scratch::new()?;
    let from = disk.dir("from")?;
    data::small_files(&from, scale.small_files)?;
    let mut row = Table::new(name, disk.path(), &[(Peer::RsyncDaemon, 0.6)])?;
    for _ in 0..scale.runs {
        for peer in row.peers() {
            let to = disk.dir("to")?;
            Peer::Cp.copy(&from, &to, disk.path())?;
            data::age(&to, scale.small_files)?;
            let cost = peer.copy(&from, &to, disk.path())?;
            row.add(peer, cost);
            expect_equal(&from, &to, peer)?;
            fs::remove_dir_all(&to)?;
        }
    }
    Ok(row.row)
}

/// A row that fills.
struct Table {
    row: Row,
}

impl Table {
    fn new(work: &'static str, place: &Path, bars: Bars) -> Result<Self> {
        let mut row = Row {
            work,
            place: file_system(place)?,
            runs: Vec::new(),
            missing: Vec::new(),
            bars: bars.to_vec(),
        };
        for peer in [Peer::Livmig]
            .into_iter()
            .chain(bars.iter().map(|(peer, _)| *peer))
        {
            match peer.missing() {
                None => row.runs.push((peer, Vec::new())),
                Some(why) => row.missing.push((peer, why)),
            }
        }
        ensure!(
            row.runs
                .first()
                .is_some_and(|(peer, _)| *peer == Peer::Livmig),
            "livmig itself cannot be run: {:?}",
            row.missing
        );
        Ok(Self { row })
    }

    fn peers(&self) -> Vec<Peer> {
        self.row.runs.iter().map(|(peer, _)| *peer).collect()
    }

    fn add(&mut self, peer: Peer, cost: Cost) {
        eprintln!("  {peer}: {:.2} s", cost.seconds);
        for (who, runs) in &mut self.row.runs {
            if *who == peer {
                runs.push(cost);
            }
        }
    }
}

/// A copy that is not one makes its time worthless.
fn expect_equal(from: &Path, to: &Path, peer: Peer) -> Result<()> {
    let differences = rsync::differences(from, to)?;
    ensure!(
        differences.is_empty(),
        "{peer} made another tree: {differences}"
    );
    Ok(())
}

/// A folder in memory.
struct Memory(tempfile::TempDir);

impl Memory {
    fn folder() -> Result<Self> {
        tempfile::Builder::new()
            .prefix("livmig-bench-")
            .tempdir_in("/dev/shm")
            .map(Self)
            .context("no folder could be made in /dev/shm")
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn dir(&self, name: &str) -> Result<std::path::PathBuf> {
        let path = self.0.path().join(name);
        fs::create_dir(&path)?;
        Ok(path)
    }
}

/// The kind of file system that holds `path`.
fn file_system(path: &Path) -> Result<String> {
    let path = path.canonicalize()?;
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let kind = mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            let (at, kind) = (words.next()?, words.next()?);
            path.starts_with(at).then_some((at.len(), kind))
        })
        .max_by_key(|(length, _)| *length);
    Ok(kind.map_or("?", |(_, kind)| kind).to_owned())
}
