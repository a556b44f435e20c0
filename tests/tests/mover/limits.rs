//! Destinations that cannot hold the source, and sources that may not be read: refused by name,
//! the source untouched, and right as soon as the cause is gone.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::{FileExt as _, chown},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use livmig_tests::{
    bins, compare,
    mounts::{self, Mount},
    require,
    rng::Rng,
    run::{Finished, run},
    scratch::Scratch,
    skip,
    snapshot::Snapshot,
    tree::{posix, random},
};

use super::sync::{sync, try_sync};

/// A user without rights.
const NOBODY: u32 = 65_534;

/// Syncs what must fail, saying `words`; the source must not notice.
fn expect_failed(a: &Path, b: &Path, words: &[&str]) -> Result<()> {
    let before = Snapshot::of(a)?;
    try_sync(a, b, &[])?.expect(1)?.says(words)?;
    compare::expect_unchanged(&before, a)
}

#[test]
fn a_destination_that_is_full() -> Result<()> {
    require!(mounts::available("mkfs.ext4"));
    let scratch = Scratch::new()?;
    let a = scratch.dir("a")?;
    let small = Mount::ext4(scratch.path(), "small", 32 << 20, &[])?;
    let b = small.dir("b")?;
    fs::write(a.join("fits"), "fits")?;
    fs::write(a.join("too much"), Rng::new(1).bytes(60 << 20))?;
    expect_failed(&a, &b, &["too much", "space"])?;

    fs::remove_file(a.join("too much"))?;
    sync(&a, &b, &[])?;
    compare::expect_equal(&a, &b)
}

#[test]
fn a_destination_out_of_inodes() -> Result<()> {
    require!(mounts::available("mkfs.ext4"));
    let scratch = Scratch::new()?;
    let a = scratch.dir("a")?;
    let small = Mount::ext4(scratch.path(), "small", 32 << 20, &["-N", "128"])?;
    let b = small.dir("b")?;
    for number in 0..500 {
        fs::write(a.join(format!("file {number}")), "x")?;
    }
    expect_failed(&a, &b, &["inode"])?;

    for number in 50..500 {
        fs::remove_file(a.join(format!("file {number}")))?;
    }
    sync(&a, &b, &[])?;
    compare::expect_equal(&a, &b)
}

/// What a mover cannot write down it must not do, and neither end may wait for the other then.
#[test]
fn a_state_directory_that_is_full() -> Result<()> {
    require!(mounts::available("mkfs.ext4"));
    let scratch = Scratch::new()?;
    let (a, b) = (scratch.dir("a")?, scratch.dir("b")?);
    let small = Mount::ext4(scratch.path(), "small", 8 << 20, &[])?;
    let state = small.dir("state")?;
    for number in 0..4000 {
        fs::write(a.join(format!("file {number}")), "content")?;
    }
    let ballast = small.path().join("ballast");
    let mut file = File::create(&ballast)?;
    // Up to the last block but some.
    let piece = vec![1; 64 << 10];
    while file.write_all(&piece).is_ok() {}
    let len = file.metadata()?.len();
    file.set_len(len - (256 << 10))?;
    drop(file);
    let flags = ["--state", state.to_str().context("text")?];
    try_sync(&a, &b, &flags)?
        .expect(1)?
        .says(&["state directory", "space"])?;

    fs::remove_file(ballast)?;
    sync(&a, &b, &flags)?;
    compare::expect_equal(&a, &b)
}

#[test]
fn a_destination_that_cannot_hold_a_file_that_large() -> Result<()> {
    require!(mounts::available("mkfs.ext4"));
    let scratch = Scratch::new()?;
    let a = scratch.dir("a")?;
    // Without extents and with small blocks a file has at most 16 GiB and a little.
    let options = ["-b", "1024", "-O", "^extent,^64bit"];
    let old = Mount::ext4(scratch.path(), "old", 64 << 20, &options)?;
    let b = old.dir("b")?;
    let file = File::create(a.join("giant"))?;
    file.set_len(20 << 30)?;
    file.write_all_at(b"data", 19 << 30)?;
    expect_failed(&a, &b, &["giant", "large"])?;

    file.set_len(1 << 20)?;
    sync(&a, &b, &[])?;
    compare::expect_equal(&a, &b)
}

#[test]
fn a_destination_that_keeps_no_attributes() -> Result<()> {
    require!(skip::root());
    let scratch = Scratch::new()?;
    let a = scratch.dir("a")?;
    let ramfs = Mount::ramfs(scratch.path(), "ramfs")?;
    let b = ramfs.dir("b")?;
    fs::write(a.join("plain"), "plain")?;
    fs::write(a.join("labelled"), "labelled")?;
    posix::set_xattr(&a.join("labelled"), "user.label", b"value")?;
    expect_failed(&a, &b, &["labelled", "user.label"])?;

    rustix::fs::removexattr(a.join("labelled"), "user.label")?;
    sync(&a, &b, &[])?;
    compare::expect_equal(&a, &b)
}

#[test]
fn an_attribute_too_large_for_the_destination() -> Result<()> {
    require!(mounts::available("mkfs.ext4"));
    require!(mounts::available("mkfs.xfs"));
    let scratch = Scratch::new()?;
    let xfs = Mount::xfs(scratch.path(), "xfs", 320 << 20)?;
    let ext4 = Mount::ext4(scratch.path(), "ext4", 32 << 20, &[])?;
    let (a, b) = (xfs.dir("a")?, ext4.dir("b")?);
    let file = a.join("labelled");
    fs::write(&file, "labelled")?;
    posix::set_xattr(&file, "user.large", &Rng::new(1).bytes(60_000))?;
    expect_failed(&a, &b, &["labelled", "user.large"])?;

    posix::set_xattr(&file, "user.large", b"small")?;
    sync(&a, &b, &[])?;
    compare::expect_equal(&a, &b)
}

#[test]
fn a_source_on_a_read_only_file_system() -> Result<()> {
    require!(mounts::available("mkfs.ext4"));
    let scratch = Scratch::new()?;
    let ext4 = Mount::ext4(scratch.path(), "ext4", 64 << 20, &[])?;
    let (a, b) = (ext4.dir("a")?, scratch.dir("b")?);
    random::make(&a, 40, &mut Rng::new(3))?;
    ext4.make_read_only()?;
    sync(&a, &b, &[])?;
    compare::expect_equal(&a, &b)
}

/// A mover without rights, and trees that belong to it.
struct Nobody {
    a: PathBuf,
    b: PathBuf,
    mover: PathBuf,
    _scratch: Scratch,
}

impl Nobody {
    fn new() -> Result<Self> {
        let scratch = Scratch::public()?;
        let (a, b) = (scratch.dir("a")?, scratch.dir("b")?);
        let mover = scratch.path().join("livmig-mover");
        fs::copy(bins::path("livmig-mover")?, &mover)?;
        let nobody = Self {
            a,
            b,
            mover,
            _scratch: scratch,
        };
        for dir in [&nobody.a, &nobody.b] {
            chown(dir, Some(NOBODY), Some(NOBODY))?;
        }
        Ok(nobody)
    }

    fn sync(&self) -> Result<Finished> {
        run(Command::new("setpriv")
            .args([
                format!("--reuid={NOBODY}"),
                format!("--regid={NOBODY}"),
                "--clear-groups".into(),
                "--".into(),
            ])
            .arg(&self.mover)
            .arg("sync")
            .args([&self.a, &self.b]))
    }
}

/// Makes a file that belongs to nobody, as does its directory.
fn write(path: &Path, content: &str) -> Result<()> {
    let parent = path.parent().context("a file in a directory")?;
    fs::create_dir_all(parent)?;
    fs::write(path, content)?;
    for path in [path, parent] {
        chown(path, Some(NOBODY), Some(NOBODY))?;
    }
    Ok(())
}

#[test]
fn a_file_that_may_not_be_read_keeps_its_copy() -> Result<()> {
    require!(skip::root());
    require!(skip::program("setpriv"));
    let nobody = Nobody::new()?;
    write(&nobody.a.join("open"), "new")?;
    write(&nobody.a.join("secret"), "newer secret")?;
    write(&nobody.b.join("secret"), "older secret")?;
    posix::set_mode(&nobody.a.join("secret"), 0)?;
    nobody.sync()?.expect(1)?.says(&["secret", "permission"])?;
    // What could be read is there, and what could not has not been damaged.
    assert_eq!(fs::read_to_string(nobody.b.join("open"))?, "new");
    assert_eq!(fs::read_to_string(nobody.b.join("secret"))?, "older secret");

    posix::set_mode(&nobody.a.join("secret"), 0o600)?;
    nobody.sync()?.expect(0)?;
    compare::expect_equal(&nobody.a, &nobody.b)
}

/// What the mover owns at the destination it may change, whatever its mode says.
#[test]
fn entries_of_the_destination_that_lock_their_owner_out() -> Result<()> {
    require!(skip::root());
    require!(skip::program("setpriv"));
    let nobody = Nobody::new()?;
    for (name, content) in [("file", "new"), ("same", "same"), ("dir/file", "new")] {
        write(&nobody.a.join(name), content)?;
    }
    write(&nobody.b.join("file"), "old")?;
    write(&nobody.b.join("same"), "same")?;
    write(&nobody.b.join("gone"), "gone")?;
    write(&nobody.b.join("dir/deep/gone"), "gone")?;
    chown(nobody.b.join("dir"), Some(NOBODY), Some(NOBODY))?;
    for locked in ["file", "same", "gone", "dir/deep/gone", "dir/deep", "dir"] {
        posix::set_mode(&nobody.b.join(locked), 0)?;
    }
    // One that may be listed but not entered, and one that may only be read.
    for (name, mode) in [("listed", 0o600), ("read", 0o500)] {
        write(&nobody.a.join(name).join("file"), "new")?;
        write(&nobody.b.join(name).join("file"), "old")?;
        posix::set_mode(&nobody.b.join(name), mode)?;
    }
    nobody.sync()?.expect(0)?;
    compare::expect_equal(&nobody.a, &nobody.b)
}

#[test]
fn a_directory_that_may_not_be_listed_deletes_nothing() -> Result<()> {
    require!(skip::root());
    require!(skip::program("setpriv"));
    let nobody = Nobody::new()?;
    write(&nobody.a.join("closed/new"), "new")?;
    write(&nobody.a.join("open/new"), "new")?;
    write(&nobody.b.join("closed/only copy"), "only copy")?;
    write(&nobody.b.join("open/stale"), "stale")?;
    posix::set_mode(&nobody.a.join("closed"), 0)?;
    nobody.sync()?.expect(1)?.says(&["closed", "permission"])?;
    assert_eq!(
        fs::read_to_string(nobody.b.join("closed/only copy"))?,
        "only copy"
    );

    posix::set_mode(&nobody.a.join("closed"), 0o700)?;
    nobody.sync()?.expect(0)?;
    compare::expect_equal(&nobody.a, &nobody.b)
}

#[test]
fn a_destination_that_may_not_be_written() -> Result<()> {
    require!(skip::root());
    require!(skip::program("setpriv"));
    let nobody = Nobody::new()?;
    write(&nobody.a.join("file"), "file")?;
    chown(&nobody.b, Some(0), Some(0))?;
    posix::set_mode(&nobody.b, 0o755)?;
    nobody.sync()?.expect(1)?.says(&["permi"])?;
    assert_eq!(fs::read_dir(&nobody.b)?.count(), 0);
    Ok(())
}
