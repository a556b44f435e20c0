//! What is reserved beyond the end of a file, and changes.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use livmig_tests::{
    compare,
    mounts::{self, Mount},
    require,
    rng::Rng,
    scratch::Scratch,
};

use super::{
    super::super::sync::sync,
    space::{Size, changed, expect_same_space, punch, reserve},
};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// A file before and after a change of what is reserved beyond its end, and of nothing else or of
/// content too.
type Step = fn(&File) -> Result<()>;

const CHANGES: [(&str, Step, Step); 7] = [
    (
        "made",
        |file| Ok(file.set_len(2 * MIB)?),
        |file| reserve(file, Size::Kept, 2 * MIB, 4 * MIB),
    ),
    (
        "given back",
        |file| reserve(file, Size::Kept, 0, 6 * MIB),
        |file| Ok(file.set_len(0)?),
    ),
    (
        "given back by a small one",
        |file| {
            file.write_all_at(b"small", 0)?;
            reserve(file, Size::Kept, 0, 4 * MIB)
        },
        |file| Ok(file.set_len(5)?),
    ),
    (
        "made longer",
        |file| reserve(file, Size::Kept, 0, MIB),
        |file| reserve(file, Size::Kept, 0, 9 * MIB),
    ),
    (
        "grown over with a hole",
        |file| {
            file.write_all_at(&Rng::new(4).bytes(2 << 20), 0)?;
            reserve(file, Size::Kept, 2 * MIB, 4 * MIB)
        },
        |file| {
            file.set_len(2 * MIB)?;
            file.set_len(6 * MIB)?;
            Ok(file.write_all_at(&[7; 4096], 5 * MIB)?)
        },
    ),
    (
        "grown over and punched",
        |file| reserve(file, Size::Kept, 0, 2368 * KIB),
        |file| {
            file.set_len(0)?;
            file.write_all_at(&Rng::new(5).bytes(2368 << 10), 0)?;
            punch(file, 752 * KIB, 948 * KIB)
        },
    ),
    (
        "replaced by a little content",
        |file| reserve(file, Size::Kept, 0, 2 * MIB),
        |file| {
            file.set_len(0)?;
            Ok(file.write_all_at(&[9; 50_000], 0)?)
        },
    ),
];

/// Whatever becomes of a reservation, the next run carries it, and the one after that nothing.
fn expect_followed(a: &Path, b: &Path, state: &Path) -> Result<()> {
    let open = |name: &str| {
        File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(a.join(name))
    };
    let state = ["--state", state.to_str().context("text")?];
    // With what is remembered, and with what the destination tells.
    for flags in [&state[..], &[]] {
        for (name, before, _) in CHANGES {
            let file = open(name)?;
            file.set_len(0)?;
            before(&file)?;
        }
        rustix::fs::syncfs(File::open(a)?)?;
        sync(a, b, flags)?;
        expect_same_space(a, b)?;
        for (name, _, after) in CHANGES {
            after(&open(name)?)?;
        }
        rustix::fs::syncfs(File::open(a)?)?;
        sync(a, b, flags)?;
        compare::expect_equal(a, b)?;
        expect_same_space(a, b).with_context(|| format!("with {flags:?}"))?;
        let changed = changed(a, b, flags)?;
        ensure!(changed == 0, "{changed} changed again with {flags:?}");
    }
    Ok(())
}

#[test]
fn a_reservation_that_comes_or_goes_does_so_at_the_destination() -> Result<()> {
    require!(mounts::available("mkfs.ext4"));
    require!(mounts::available("mkfs.xfs"));
    let scratch = Scratch::new()?;
    let (ext4, xfs) = (
        Mount::ext4(scratch.path(), "ext4", 256 << 20, &[])?,
        Mount::xfs(scratch.path(), "xfs", 320 << 20)?,
    );
    let memory = Mount::tmpfs(scratch.path(), "memory", "size=256m")?;
    let ends = [
        ("ext4", ext4.path()),
        ("xfs", xfs.path()),
        ("memory", memory.path()),
    ];
    for (from, source) in ends {
        for (to, destination) in ends {
            let name = format!("{from} to {to}");
            let (a, b) = (
                source.join(format!("a {name}")),
                destination.join(format!("b {name}")),
            );
            fs::create_dir(&a)?;
            fs::create_dir(&b)?;
            let state = scratch.dir(&name)?;
            expect_followed(&a, &b, &state).context(name)?;
            fs::remove_dir_all(&a)?;
            fs::remove_dir_all(&b)?;
        }
    }
    Ok(())
}

/// As much reserved beyond the end as is missing within: the file takes its size, and is not full.
#[test]
fn a_hole_that_a_reservation_makes_up_for_stays_a_hole() -> Result<()> {
    require!(mounts::available("mkfs.ext4"));
    let scratch = Scratch::new()?;
    let ext4 = Mount::ext4(scratch.path(), "ext4", 128 << 20, &[])?;
    let (a, b) = (ext4.path().join("a"), ext4.path().join("b"));
    fs::create_dir(&a)?;
    fs::create_dir(&b)?;
    let file = File::create_new(a.join("f"))?;
    file.write_all_at(&Rng::new(6).bytes(4 << 20), 0)?;
    file.set_len(8 * MIB)?;
    reserve(&file, Size::Kept, 8 * MIB, 4 * MIB)?;
    let open = |dir: &Path| File::open(dir.join("f"));
    rustix::fs::syncfs(&file)?;
    for run in 0..2 {
        let changed = changed(&a, &b, &[])?;
        ensure!(
            (changed == 0) == (run == 1),
            "{changed} changed in run {run}"
        );
        let hole = rustix::fs::seek(&open(&b)?, rustix::fs::SeekFrom::Hole(0))?;
        ensure!(hole == 4 * MIB, "the hole begins at {hole}");
    }
    expect_same_space(&a, &b)
}

/// What was a hole takes space, whoever looked at it in between.
#[test]
fn a_hole_that_is_filled_or_reserved_is_so_at_the_destination() -> Result<()> {
    require!(mounts::available("mkfs.ext4"));
    require!(mounts::available("mkfs.xfs"));
    let scratch = Scratch::new()?;
    let ext4 = Mount::ext4(scratch.path(), "ext4", 128 << 20, &[])?;
    let xfs = Mount::xfs(scratch.path(), "xfs", 320 << 20)?;
    for (number, root) in [ext4.path(), xfs.path()].into_iter().enumerate() {
        for (round, size) in [100 * KIB, 4 * MIB].into_iter().enumerate() {
            let name = |end: &str| root.join(format!("{end}{round}"));
            let (a, b) = (name("a"), name("b"));
            fs::create_dir(&a)?;
            fs::create_dir(&b)?;
            let state = scratch.dir(&format!("state {number} {round}"))?;
            let state = ["--state", state.to_str().context("text")?];
            for file in ["zeros", "reserved and read"] {
                File::create_new(a.join(file))?.set_len(size)?;
            }
            sync(&a, &b, &state)?;
            expect_same_space(&a, &b)?;
            fs::write(a.join("zeros"), vec![0; usize::try_from(size)?])?;
            let path = a.join("reserved and read");
            reserve(
                &File::options().write(true).open(&path)?,
                Size::Grown,
                0,
                size,
            )?;
            fs::read(&path)?;
            rustix::fs::syncfs(File::open(&a)?)?;
            sync(&a, &b, &state)?;
            compare::expect_equal(&a, &b)?;
            expect_same_space(&a, &b)?;
            for flags in [&state[..], &[]] {
                let changed = changed(&a, &b, flags)?;
                ensure!(changed == 0, "{changed} changed again with {flags:?}");
            }
        }
    }
    Ok(())
}

/// With the gap between them they would take more than there is.
#[test]
fn reservations_far_apart_are_not_one() -> Result<()> {
    require!(mounts::available("mkfs.ext4"));
    let scratch = Scratch::new()?;
    let ext4 = Mount::ext4(scratch.path(), "ext4", 64 << 20, &[])?;
    let (a, b) = (ext4.path().join("a"), ext4.path().join("b"));
    fs::create_dir(&a)?;
    fs::create_dir(&b)?;
    let file = File::create_new(a.join("f"))?;
    file.write_all_at(&[1; 5000], 0)?;
    reserve(&file, Size::Kept, 8 * KIB, 64 * KIB)?;
    reserve(&file, Size::Kept, 20 << 30, 64 * KIB)?;
    rustix::fs::syncfs(&file)?;
    sync(&a, &b, &[])?;
    expect_same_space(&a, &b)?;
    ensure!(changed(&a, &b, &[])? == 0);
    Ok(())
}
