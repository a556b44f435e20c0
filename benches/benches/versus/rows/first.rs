//! Rows in which everything, or all that differs, is copied by a run of its own.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use livmig_tests::{mounts, mounts::Mount, scratch::Scratch};

use super::{Bars, Scale, Table, expect_equal, file_system};
use crate::{data, peers::Peer, table::Row};

/// What a `sync` of any number of files may take, both ends together, in bytes.
const MEMORY_BAR: u64 = 128 << 20;

/// Bytes of image that hold a small file and all that its file system keeps about it, with room.
const IMAGE_PER_FILE: u64 = 32 << 10;

/// Bytes of the smallest image.
const IMAGE_MIN: u64 = 1 << 30;

pub(super) fn small(scale: &Scale, name: &'static str) -> Result<Row> {
    let memory = Memory::folder()?;
    let from = memory.dir("from")?;
    data::small_files(&from, scale.small_files)?;
    let bars: Bars = &[
        (Peer::RsyncDaemon, Some(0.6)),
        (Peer::RsyncSsh, Some(0.45)),
        (Peer::Cp, Some(1.1)),
        (Peer::LivmigUnread, None),
    ];
    let table = Table::new(name, file_system(&from)?, bars)?;
    first_copies(table, scale.runs, &memory, &from)
}

pub(super) fn large(scale: &Scale, name: &'static str) -> Result<Row> {
    let memory = Memory::folder()?;
    let from = memory.dir("from")?;
    data::large_file(&from.join("large"), scale.large_file)?;
    let bars: Bars = &[
        (Peer::RsyncDaemon, Some(1.0)),
        (Peer::RsyncSsh, Some(0.35)),
        (Peer::LivmigUnread, None),
    ];
    let table = Table::new(name, file_system(&from)?, bars)?;
    first_copies(table, scale.runs, &memory, &from)
}

fn first_copies(mut table: Table, runs: u64, place: &Memory, from: &Path) -> Result<Row> {
    for _ in 0..runs {
        for peer in table.peers() {
            let to = place.dir("to")?;
            table.add(peer, peer.copy(from, &to, place.path())?);
            expect_equal(from, &to, peer)?;
            fs::remove_dir_all(&to)?;
        }
    }
    Ok(table.row)
}

/// From one image to another, and nothing of either in memory.
pub(super) fn small_cold(scale: &Scale, name: &'static str) -> Result<Row> {
    let bars: Bars = &[(Peer::RsyncDaemon, Some(0.7)), (Peer::LivmigUnread, None)];
    let mut table = Table::new(name, "ext4 to xfs, images".to_owned(), bars)?;
    let makers = ["mkfs.ext4", "mkfs.xfs"];
    if let Some(why) = makers
        .iter()
        .find_map(|maker| mounts::available(maker).err())
    {
        let all = std::mem::take(&mut table.row.runs);
        let all = all.into_iter().map(|(peer, _)| (peer, why.clone()));
        table.row.missing.extend(all);
        return Ok(table.row);
    }
    let disk = Scratch::new()?;
    let bytes = IMAGE_MIN.max(scale.small_files * IMAGE_PER_FILE);
    let old = Mount::ext4(disk.path(), "old", bytes, &[])?.like_a_disk()?;
    let new = Mount::xfs(disk.path(), "new", bytes)?.like_a_disk()?;
    let from = old.dir("from")?;
    data::small_files(&from, scale.small_files)?;
    for _ in 0..scale.runs {
        for peer in table.peers() {
            let to = new.dir("to")?;
            forget_what_was_read()?;
            table.add(peer, peer.copy(&from, &to, disk.path())?);
            expect_equal(&from, &to, peer)?;
            fs::remove_dir_all(&to)?;
        }
    }
    Ok(table.row)
}

/// Has the kernel drop everything that can be read again, as after a start of the machine.
fn forget_what_was_read() -> Result<()> {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").context("the page cache could not be dropped")
}

pub(super) fn older(scale: &Scale, name: &'static str) -> Result<Row> {
    let disk = Scratch::new()?;
    let from = disk.dir("from")?;
    data::small_files(&from, scale.small_files)?;
    let bars: Bars = &[(Peer::RsyncDaemon, Some(0.6))];
    let mut table = Table::new(name, file_system(&from)?, bars)?;
    for _ in 0..scale.runs {
        for peer in table.peers() {
            let to = disk.dir("to")?;
            Peer::Cp.copy(&from, &to, disk.path())?;
            data::age(&to, scale.small_files)?;
            table.add(peer, peer.copy(&from, &to, disk.path())?);
            expect_equal(&from, &to, peer)?;
            fs::remove_dir_all(&to)?;
        }
    }
    Ok(table.row)
}

/// What counts is the memory it takes: a table of all files would show.
pub(super) fn many(scale: &Scale, name: &'static str) -> Result<Row> {
    let disk = Scratch::new()?;
    let (from, to) = (disk.dir("from")?, disk.dir("to")?);
    data::tiny_files(&from, scale.many_files)?;
    let mut table = Table::new(name, file_system(&from)?, &[])?;
    table.row.memory_bar = Some(MEMORY_BAR);
    table.add(Peer::Livmig, Peer::Livmig.copy(&from, &to, disk.path())?);
    expect_equal(&from, &to, Peer::Livmig)?;
    Ok(table.row)
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

    fn dir(&self, name: &str) -> Result<PathBuf> {
        let path = self.0.path().join(name);
        fs::create_dir(&path)?;
        Ok(path)
    }
}
