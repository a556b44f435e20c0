//! The rows of the table: what is copied where, and against whom.

mod first;
mod passes;

use std::{fs, path::Path};

use anyhow::{Result, ensure};
use livmig_tests::{compare, rsync, skip};

use crate::{measure::Cost, peers::Peer, table::Row};

/// How much is copied, and how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    pub(crate) name: &'static str,
    small_files: u64,
    large_file: u64,
    shifted_file: u64,
    many_files: u64,
    runs: u64,
}

/// The sizes of the README's table.
pub(crate) const FULL: Scale = Scale {
    name: "full",
    small_files: 200_000,
    large_file: 4 << 30,
    shifted_file: 1 << 30,
    many_files: 1_000_000,
    runs: 3,
};

/// A run of a few minutes.
pub(crate) const QUICK: Scale = Scale {
    name: "quick",
    small_files: 20_000,
    large_file: 512 << 20,
    shifted_file: 256 << 20,
    many_files: 50_000,
    runs: 3,
};

/// Whom livmig is measured beside, and the ratios of times that it is to stay below.
type Bars = &'static [(Peer, Option<f64>)];
type Measuring = fn(&Scale, &'static str) -> Result<Row>;

const ALL: [(&str, Measuring); 9] = [
    ("small files, first copy", first::small),
    ("small files, first copy, cold", first::small_cold),
    ("one large file, first copy", first::large),
    ("small files, nothing changed (pass)", passes::unchanged),
    (
        "1 % of the pages of a large file changed (pass)",
        passes::pages,
    ),
    (
        "1 MiB + 13 bytes inserted in front (pass)",
        passes::inserted,
    ),
    (
        "small files, the destination holds an older copy",
        first::older,
    ),
    ("many tiny files, first copy", first::many),
    (
        "many tiny files, 1 % rewritten (final pass)",
        passes::last_of_many,
    ),
];

/// Runs the rows whose name contains `wanted`.
pub(crate) fn run(scale: &Scale, wanted: &str) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (name, row) in ALL {
        if name.contains(wanted) {
            eprintln!("{name}");
            rows.push(row(scale, name)?);
        }
    }
    Ok(rows)
}

/// A row that fills.
struct Table {
    row: Row,
}

impl Table {
    /// A row about `work`, done in `place`, with livmig and whom the bars name.
    fn new(work: &'static str, place: String, bars: Bars) -> Result<Self> {
        let mut row = Row {
            work,
            place,
            runs: Vec::new(),
            missing: Vec::new(),
            bars: bars
                .iter()
                .filter_map(|(peer, bar)| Some((*peer, (*bar)?)))
                .collect(),
            memory_bar: None,
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
    // Others judge, where they are there.
    if skip::program("rsync").is_err() {
        return compare::expect_equal(from, to);
    }
    let differences = rsync::differences(from, to)?;
    ensure!(
        differences.is_empty(),
        "{peer} made another tree: {differences}"
    );
    Ok(())
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
