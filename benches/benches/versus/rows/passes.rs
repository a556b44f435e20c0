//! Rows of a running session: a pass against a fresh run of the peer.

use std::{path::Path, time::Duration};

use anyhow::Result;
use livmig_proto::control::PassKind;
use livmig_tests::scratch::Scratch;

use super::{Bars, Scale, Table, expect_equal, file_system};
use crate::{data, peers::Peer, session::Session, table::Row};

/// Older than this, a file counts as settled: a mover skips it by its timestamps.
const SETTLED: Duration = Duration::from_secs(32);

/// A row of passes.
struct Passes {
    name: &'static str,
    /// What the passes that are measured are.
    kind: PassKind,
    /// Whether the files have settled by then.
    settled: bool,
    bars: Bars,
}

pub(super) fn unchanged(scale: &Scale, name: &'static str) -> Result<Row> {
    let row = Passes {
        name,
        kind: PassKind::Live,
        settled: true,
        bars: &[(Peer::RsyncDaemon, Some(0.15))],
    };
    let make = |from: &Path| data::small_files(from, scale.small_files);
    row.run(scale.runs, make, |_, _| Ok(()))
}

pub(super) fn pages(scale: &Scale, name: &'static str) -> Result<Row> {
    let row = Passes {
        name,
        kind: PassKind::Live,
        settled: false,
        bars: &[(Peer::RsyncDaemonInPlace, Some(0.12))],
    };
    let make = |from: &Path| data::large_file(&from.join("large"), scale.large_file);
    row.run(scale.runs, make, |from, round| {
        data::rewrite_pages(&from.join("large"), round).map(|_| ())
    })
}

pub(super) fn inserted(scale: &Scale, name: &'static str) -> Result<Row> {
    let row = Passes {
        name,
        kind: PassKind::Live,
        settled: false,
        bars: &[(Peer::RsyncDaemon, Some(0.6))],
    };
    let make = |from: &Path| data::large_file(&from.join("large"), scale.shifted_file);
    row.run(scale.runs, make, |from, round| {
        data::insert_in_front(&from.join("large"), round)
    })
}

/// The pass that the workload waits for. What was rewritten comes to about 100 MB of a million
/// files.
pub(super) fn last_of_many(scale: &Scale, name: &'static str) -> Result<Row> {
    let row = Passes {
        name,
        kind: PassKind::Final,
        settled: true,
        bars: &[(Peer::RsyncDaemon, Some(0.15))],
    };
    let make = |from: &Path| data::tiny_files(from, scale.many_files);
    row.run(scale.runs, make, |from, round| {
        data::rewrite_files(from, scale.many_files, round)
    })
}

impl Passes {
    /// Measures passes over what `make` has made, with a `change` before each.
    fn run(
        self,
        rounds: u64,
        make: impl FnOnce(&Path) -> Result<()>,
        change: impl Fn(&Path, u64) -> Result<()>,
    ) -> Result<Row> {
        let disk = Scratch::new()?;
        let (from, own, other) = (disk.dir("from")?, disk.dir("own")?, disk.dir("other")?);
        make(&from)?;
        let mut table = Table::new(self.name, file_system(&from)?, self.bars)?;
        let others: Vec<Peer> = table
            .peers()
            .into_iter()
            .filter(|peer| *peer != Peer::Livmig)
            .collect();
        let mut session = Session::start(&from, &own, disk.path())?;
        session.pass(PassKind::Live)?;
        for peer in &others {
            peer.copy(&from, &other, disk.path())?;
        }
        if self.settled {
            // Settled for the pass that remembers them; then the passes that skip them.
            std::thread::sleep(SETTLED);
            session.pass(PassKind::Live)?;
        }
        for round in 0..rounds {
            change(&from, round)?;
            table.add(Peer::Livmig, session.measured_pass(self.kind)?);
            for peer in &others {
                table.add(*peer, peer.copy(&from, &other, disk.path())?);
            }
        }
        session.end()?;
        expect_equal(&from, &own, Peer::Livmig)?;
        for peer in &others {
            expect_equal(&from, &other, *peer)?;
        }
        Ok(table.row)
    }
}
