//! Passes are thrifty: what the destination has is not sent, holes cost nothing, and memory
//! does not grow with the tree.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::Path,
};

use anyhow::{Result, ensure};
use livmig_proto::control::{PassKind, Side};
use livmig_tests::{
    compare,
    control::Mover,
    mounts::{self, Mount},
    mutate::{self, PAGE},
    pair::Pair,
    rng::Rng,
    run::LIMIT,
    scratch::Scratch,
    snapshot::Snapshot,
    tree::every_kind,
};
use rustix::{fs::FallocateFlags, process::Signal};

use super::sync::sync;

const MIB: u64 = 1 << 20;

#[test]
fn nothing_changed_sends_under_1_percent() -> Result<()> {
    let scratch = Scratch::new()?;
    let (a, b) = (scratch.dir("a")?, scratch.dir("b")?);
    every_kind::make(&a)?;
    let first = sync(&a, &b, &[])?;
    let second = sync(&a, &b, &[])?;
    assert!(first.bytes_sent > 40 * MIB, "{first:?}");
    assert!(
        second.bytes_sent * 100 < first.bytes_sent,
        "{second:?} after {first:?}"
    );
    assert_eq!(first.digest, second.digest);
    compare::expect_equal(&a, &b)
}

#[test]
fn changed_pages_of_1_gib_send_under_3_percent() -> Result<()> {
    let scratch = Scratch::new()?;
    for state in [None, Some("state")] {
        let (a, b) = (scratch.path().join("a"), scratch.path().join("b"));
        fs::create_dir(&a)?;
        fs::create_dir(&b)?;
        let mut rng = Rng::new(30);
        make_file(&a.join("database"), 1024 * MIB, &mut rng)?;
        let state = state.map(|name| scratch.path().join(name));
        let state = state.as_deref().and_then(Path::to_str);
        let flags: Vec<&str> = state.into_iter().flat_map(|dir| ["--state", dir]).collect();

        let first = sync(&a, &b, &flags)?;
        mutate::rewrite_pages(&a.join("database"), 1024 * MIB / PAGE / 100, &mut rng)?;
        let second = sync(&a, &b, &flags)?;
        assert!(
            second.bytes_sent * 100 < first.bytes_sent * 3,
            "{second:?} after {first:?} with {flags:?}"
        );
        compare::expect_equal(&a, &b)?;
        fs::remove_dir_all(a)?;
        fs::remove_dir_all(b)?;
    }
    Ok(())
}

#[test]
fn shifted_content_is_found() -> Result<()> {
    let scratch = Scratch::new()?;
    let (a, b) = (scratch.dir("a")?, scratch.dir("b")?);
    let mut rng = Rng::new(31);
    let file = a.join("log");
    make_file(&file, 256 * MIB, &mut rng)?;
    let first = sync(&a, &b, &[])?;
    mutate::insert_front(&file, MIB + 13, &mut rng)?;
    let second = sync(&a, &b, &[])?;
    assert!(
        second.bytes_sent * 10 < first.bytes_sent,
        "{second:?} after {first:?}"
    );
    compare::expect_equal(&a, &b)
}

#[test]
fn a_sparse_file_of_10_gib_stays_sparse() -> Result<()> {
    let scratch = Scratch::new()?;
    let (a, b) = (scratch.dir("a")?, scratch.dir("b")?);
    let mut rng = Rng::new(32);
    let file = File::create(a.join("sparse"))?;
    file.set_len(10 * 1024 * MIB)?;
    for part in 0..16 {
        file.write_all_at(&rng.bytes(65_536), part * 640 * MIB + 4096)?;
    }
    file.sync_all()?;

    let synced = sync(&a, &b, &[])?;
    assert!(synced.bytes_sent < 2 * MIB, "{synced:?}");
    let allocated = Snapshot::of(&b)?.allocated();
    assert!(allocated < 2 * MIB, "{allocated} bytes of storage");
    compare::expect_equal(&a, &b)
}

#[test]
fn a_hundred_thousand_files_fit_in_128_mib_of_memory() -> Result<()> {
    let scratch = Scratch::new()?;
    // Where that is possible in an image, which is gone at once afterwards: to remove so many
    // files takes minutes on a disk that discards what is freed.
    let image = match mounts::available("mkfs.ext4") {
        Ok(()) => Some(Mount::ext4(
            scratch.path(),
            "many",
            4096 * MIB,
            &["-N", "300000"],
        )?),
        Err(_) => None,
    };
    let root = image.as_ref().map_or(scratch.path(), Mount::path);
    let (a, b) = (root.join("a"), root.join("b"));
    fs::create_dir(&a)?;
    fs::create_dir(&b)?;
    for directory in 0..200 {
        let directory = a.join(format!("directory {directory}"));
        fs::create_dir(&directory)?;
        for file in 0..500 {
            fs::write(
                directory.join(format!("a file with number {file}")),
                [7; 300],
            )?;
        }
    }
    for pass in ["first", "second"] {
        let synced = sync(&a, &b, &[])?;
        assert_eq!(synced.entries, 100_201, "{pass}");
        assert_eq!(synced.bytes_total, 30_000_000, "{pass}");
        assert!(synced.peak_rss <= 128 * MIB, "{pass}: {synced:?}");
    }
    compare::expect_equal(&a, &b)
}

/// A file of random bytes, without holding it in memory.
fn make_file(path: &Path, length: u64, rng: &mut Rng) -> Result<()> {
    let file = File::create(path)?;
    let mut offset = 0;
    while offset < length {
        let part = (length - offset).min(4 * MIB);
        file.write_all_at(&rng.bytes(usize::try_from(part)?), offset)?;
        offset += part;
    }
    Ok(())
}

/// Zeros that take space at the source, until a hole is punched there: nothing of the content changes,
/// and the copy gives the space back all the same, whether the pass before it is remembered or not.
#[test]
fn space_that_zeros_give_back_is_given_back_by_the_copy() -> Result<()> {
    const PART: u64 = 2 << 20;
    let pair = Pair::start(95)?;
    let file = |name: &str| File::create_new(pair.a.join(name));
    let (asked, remembered) = (file("asked")?, file("remembered")?);
    let zeros = vec![0; usize::try_from(3 * PART)?];
    for file in [&asked, &remembered] {
        file.write_all_at(&zeros, 0)?;
        file.write_all_at(&Rng::new(96).bytes(usize::try_from(PART)?), 3 * PART)?;
    }
    let punch = |file: &File, from| {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(file, flags, from, PART)
    };
    pair.run_pass(1, PassKind::Live)?;
    for hole in [0, PART] {
        punch(&remembered, hole)?;
        let pass = if hole == 0 { 2 } else { 3 };
        let report = pair.run_pass(pass, PassKind::Live)?;
        ensure!(report.bytes_sent < PART / 8, "{report:?}");
    }
    pair.source.process.signal(Signal::KILL)?;
    pair.source.process.wait(LIMIT)?;
    fs::remove_dir_all(pair.scratch.path().join("source.state"))?;
    punch(&asked, PART)?;
    let source = Mover::start(Side::Source, &pair.a, pair.scratch.path(), &pair.keys)?;
    let pair = Pair { source, ..pair };
    let fourth = pair.run_pass(4, PassKind::Live)?;
    ensure!(fourth.bytes_sent < PART / 8, "{fourth:?}");
    pair.shut_down()
}
