//! Holes, reservations and giants: what takes no space takes none, what is reserved stays so, and
//! what did not change is not sent again.

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use livmig_tests::{
    compare,
    mounts::{self, Mount},
    require,
    rng::Rng,
    scratch::Scratch,
    skip,
};
use rustix::fs::{FallocateFlags, fallocate};
use serde_json::Value;

use super::super::super::sync::{sync, try_sync};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// What a reservation makes of a file's size.
#[derive(Clone, Copy, Debug)]
pub(super) enum Size {
    Kept,
    Grown,
}

pub(super) fn reserve(file: &File, size: Size, offset: u64, len: u64) -> Result<()> {
    let flags = match size {
        Size::Kept => FallocateFlags::KEEP_SIZE,
        Size::Grown => FallocateFlags::empty(),
    };
    Ok(fallocate(file, flags, offset, len)?)
}

pub(super) fn punch(file: &File, offset: u64, len: u64) -> Result<()> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    Ok(fallocate(file, flags, offset, len)?)
}

/// Files of every mixture of data, zeros, holes and reservations, within and beyond the end.
fn furnish(dir: &Path) -> Result<()> {
    let file = |name: &str, size| -> Result<File> {
        let file = File::create_new(dir.join(name))?;
        file.set_len(size)?;
        Ok(file)
    };
    file("small hole", 100_000)?;
    file("page", 4096)?;
    file("hole", 40 * MIB + 5)?;
    reserve(&file("unwritten", 0)?, Size::Grown, 0, 8 * MIB)?;
    reserve(&file("small unwritten", 0)?, Size::Grown, 0, 64 * KIB)?;
    reserve(&file("nothing but reserved", 0)?, Size::Kept, 0, 4 * MIB)?;
    let log = file("log", 0)?;
    log.write_all_at(&Rng::new(1).bytes(3000), 0)?;
    reserve(&log, Size::Kept, 0, 4 * MIB)?;
    let wal = file("wal", 0)?;
    wal.write_all_at(&Rng::new(2).bytes(1 << 20), 0)?;
    reserve(&wal, Size::Kept, 0, 16 * MIB)?;
    let beyond = file("hole and beyond", 32 * MIB)?;
    beyond.write_all_at(b"tail", 32 * MIB - 4)?;
    reserve(&beyond, Size::Kept, 32 * MIB, 33 * MIB)?;
    let mixed = file("mixed", 32 * MIB)?;
    reserve(&mixed, Size::Grown, 4 * MIB, 6 * MIB)?;
    mixed.write_all_at(b"x", 20 * MIB)?;
    reserve(&mixed, Size::Kept, 32 * MIB, 2 * MIB)?;
    let seeded = file("random", 16 * MIB)?;
    let mut rng = Rng::new(3);
    for _ in 0..24 {
        let (at, len) = (rng.below(1000) * 16 * KIB, (1 + rng.below(8)) * 16 * KIB);
        let len = len.min(16 * MIB - at);
        match rng.below(4) {
            0 => reserve(&seeded, Size::Grown, at, len)?,
            1 => punch(&seeded, at, len)?,
            2 => seeded.write_all_at(&vec![0; usize::try_from(len)?], at)?,
            _ => seeded.write_all_at(&rng.bytes(usize::try_from(len)?), at)?,
        }
    }
    Ok(())
}

/// Fails unless each file in `b` takes the space that it takes in `a`, but for a few blocks.
pub(super) fn expect_same_space(a: &Path, b: &Path) -> Result<()> {
    for entry in fs::read_dir(a)? {
        let name = entry?.file_name();
        let (there, here) = (a.join(&name).metadata()?, b.join(&name).metadata()?);
        let (there, here) = (there.blocks() * 512, here.blocks() * 512);
        ensure!(
            there.abs_diff(here) <= 64 * KIB,
            "{}: {there} at the source, {here} at the destination",
            name.display()
        );
    }
    Ok(())
}

pub(super) fn changed(a: &Path, b: &Path, flags: &[&str]) -> Result<u64> {
    let report = try_sync(a, b, flags)?.expect(0)?.json()?;
    let changed = report.get("changed").and_then(Value::as_u64);
    changed.with_context(|| format!("no number of changes in {report}"))
}

/// Copies what [`furnish`] makes, and again, with a state and without one.
fn expect_kept(a: &Path, b: &Path, state: &Path) -> Result<()> {
    furnish(a)?;
    rustix::fs::syncfs(File::open(a)?)?;
    let state = ["--state", state.to_str().context("text")?];
    sync(a, b, &state)?;
    for flags in [&state[..], &[]] {
        compare::expect_equal(a, b)?;
        expect_same_space(a, b)?;
        let changed = changed(a, b, flags)?;
        ensure!(changed == 0, "{changed} changed again with {flags:?}");
    }
    Ok(())
}

fn dir(scratch: &Scratch, name: &str) -> Result<PathBuf> {
    scratch.dir(name)
}

#[test]
fn reservations_from_xfs_to_ext4_and_back() -> Result<()> {
    require!(mounts::available("mkfs.ext4"));
    require!(mounts::available("mkfs.xfs"));
    let scratch = Scratch::new()?;
    let xfs = Mount::xfs(scratch.path(), "xfs", 400 << 20)?;
    let ext4 = Mount::ext4(scratch.path(), "ext4", 400 << 20, &["-b", "4096"])?;
    let (a, b) = (xfs.dir("a")?, ext4.dir("b")?);
    expect_kept(&a, &b, &dir(&scratch, "there")?)?;
    fs::remove_dir_all(&a)?;
    fs::remove_dir_all(&b)?;
    let (a, b) = (ext4.dir("a")?, xfs.dir("b")?);
    expect_kept(&a, &b, &dir(&scratch, "back")?)
}

#[test]
fn reservations_in_memory() -> Result<()> {
    require!(skip::root());
    let scratch = Scratch::new()?;
    let memory = tempfile::tempdir_in("/dev/shm")?;
    let (a, b) = (memory.path().join("a"), memory.path().join("b"));
    fs::create_dir(&a)?;
    expect_kept(&a, &b, &dir(&scratch, "state")?)
}

/// Zeros that were written take space, and give it back when they become a hole.
fn expect_given_back(a: &Path, b: &Path, state: &[&str]) -> Result<()> {
    for (name, size) in [("large", 3_000_000), ("small", 120_000)] {
        fs::write(a.join(name), vec![0; size])?;
    }
    sync(a, b, state)?;
    expect_same_space(a, b)?;
    for (name, size) in [("large", 3_000_000), ("small", 120_000)] {
        let file = File::options().write(true).open(a.join(name))?;
        file.set_len(0)?;
        file.set_len(size)?;
    }
    sync(a, b, state)?;
    compare::expect_equal(a, b)?;
    for name in ["large", "small"] {
        let blocks = b.join(name).metadata()?.blocks();
        ensure!(blocks == 0, "{name} still takes {blocks} blocks");
    }
    Ok(())
}

#[test]
fn zeros_that_become_a_hole_give_their_space_back() -> Result<()> {
    let scratch = Scratch::new()?;
    let memory = tempfile::tempdir_in("/dev/shm")?;
    let state = dir(&scratch, "state")?;
    let state = ["--state", state.to_str().context("text")?];
    for (round, flags) in [&state[..], &[]].into_iter().enumerate() {
        let a = memory.path().join(format!("a{round}"));
        fs::create_dir(&a)?;
        expect_given_back(&a, &dir(&scratch, &format!("b{round}"))?, flags)?;
        fs::remove_dir_all(&a)?;
        if flags.is_empty() {
            break;
        }
        fs::remove_dir_all(scratch.path().join("state"))?;
        fs::create_dir(scratch.path().join("state"))?;
    }
    Ok(())
}

#[test]
fn a_giant_of_nothing_is_carried_or_refused_by_name_and_the_rest_is_carried() -> Result<()> {
    require!(mounts::available("mkfs.ext4"));
    require!(mounts::available("mkfs.xfs"));
    let scratch = Scratch::new()?;
    let xfs = Mount::xfs(scratch.path(), "xfs", 400 << 20)?;
    let ext4 = Mount::ext4(scratch.path(), "ext4", 64 << 20, &["-b", "4096"])?;
    let (a, b, c) = (xfs.dir("a")?, xfs.dir("b")?, ext4.dir("c")?);
    let giant = File::create(a.join("giant"))?;
    giant.set_len(7 << 60)?;
    giant.write_all_at(b"data", 6 << 60)?;
    fs::write(a.join("other"), "other")?;
    // Whatever the state lies on.
    let state = ext4.dir("state")?;
    let state = ["--state", state.to_str().context("text")?];
    sync(&a, &b, &state)?;
    for flags in [&state[..], &[]] {
        let copy = File::open(b.join("giant"))?;
        ensure!(copy.metadata()?.size() == 7 << 60, "its size");
        let mut data = [0; 8];
        copy.read_exact_at(&mut data, (6 << 60) - 4)?;
        ensure!(data == *b"\0\0\0\0data", "its content");
        ensure!(copy.metadata()?.blocks() < 1000, "its space");
        ensure!(changed(&a, &b, flags)? == 0, "sent again with {flags:?}");
    }
    giant.write_all_at(b"more", 5 << 60)?;
    giant.set_len(6 << 60)?;
    sync(&a, &b, &state)?;
    let mut data = [0; 4];
    File::open(b.join("giant"))?.read_exact_at(&mut data, 5 << 60)?;
    ensure!(data == *b"more", "what was written since");

    try_sync(&a, &c, &[])?
        .expect(1)?
        .says(&["giant", "too large"])?;
    ensure!(fs::read(c.join("other"))? == b"other", "the rest");
    Ok(())
}
