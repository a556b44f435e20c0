//! Situations in which other tools fail and this one does not: sizes, links, quotas, bad blocks,
//! names that fold, writers that keep times.

use std::{
    fs::{self, File, OpenOptions},
    io::{Seek as _, SeekFrom, Write as _},
    os::unix::fs::{FileExt as _, MetadataExt as _, symlink},
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use livmig_tests::{
    compare,
    mounts::{self, Mount},
    require,
    rng::Rng,
    run::{Finished, run},
    scratch::Scratch,
    skip,
    tree::posix,
};
use rustix::fs::FileType;

use crate::sync::{sync, try_sync};

const EXT4: u64 = 64 << 20;
const XFS: u64 = 320 << 20;
const BTRFS: u64 = 256 << 20;

/// Fails unless the run says `words` and names each of `paths` in its own list of faults.
fn expect_named(finished: &Finished, paths: &[&str], words: &[&str]) -> Result<()> {
    finished.says(words)?;
    let report = finished.json()?;
    let faults = report.get("faults").and_then(serde_json::Value::as_array);
    let named: Vec<&str> = faults
        .context("no faults")?
        .iter()
        .filter_map(|fault| fault.get("path")?.as_str())
        .collect();
    for path in paths {
        ensure!(named.contains(path), "{path} is not named: {named:?}");
    }
    Ok(())
}

#[test]
fn long_targets_of_links_go_where_the_file_system_holds_them() -> Result<()> {
    require!(mounts::available("mkfs.xfs"));
    require!(mounts::available("mkfs.btrfs"));
    let scratch = Scratch::new()?;
    let a = scratch.dir("a")?;
    for length in [1000, 1023, 1024, 2000, 4095] {
        symlink("x".repeat(length), a.join(format!("l{length}")))?;
    }
    fs::write(a.join("z"), "after them")?;
    let btrfs = Mount::btrfs(scratch.path(), "btrfs", BTRFS)?;
    sync(&a, btrfs.path(), &[])?;
    compare::expect_equal(&a, btrfs.path())?;
    let xfs = Mount::xfs(scratch.path(), "xfs", XFS)?;
    let finished = try_sync(&a, xfs.path(), &[])?.expect(1)?;
    expect_named(&finished, &["l1024", "l2000", "l4095"], &["name too long"])?;
    for held in ["l1000", "l1023", "z"] {
        ensure!(xfs.path().join(held).symlink_metadata().is_ok(), "{held}");
    }
    Ok(())
}

#[test]
fn more_names_of_one_inode_than_the_destination_holds() -> Result<()> {
    const NAMES: usize = 65_100;
    require!(mounts::available("mkfs.xfs"));
    let scratch = Scratch::new()?;
    let a = Mount::xfs(scratch.path(), "a", XFS)?;
    let b = Mount::ext4(scratch.path(), "b", 128 << 20, &["-N", "100000"])?;
    fs::create_dir(a.path().join("l"))?;
    fs::write(a.path().join("l/00000"), "shared")?;
    for name in 1..NAMES {
        fs::hard_link(
            a.path().join("l/00000"),
            a.path().join(format!("l/{name:05}")),
        )?;
    }
    fs::create_dir(a.path().join("m"))?;
    fs::write(a.path().join("m/other"), "other")?;
    let finished = try_sync(a.path(), b.path(), &[])?.expect(1)?;
    finished.says(&["too many links"])?;
    ensure!(fs::read(b.path().join("m/other"))? == b"other");
    ensure!(fs::metadata(b.path().join("l/00000"))?.nlink() >= 65_000);
    Ok(())
}

/// The destination keeps no two names that differ in case alone.
#[test]
fn names_that_are_one_at_the_destination() -> Result<()> {
    require!(mounts::available("mkfs.ext4"));
    let scratch = Scratch::new()?;
    let (a, b) = (scratch.dir("a")?, scratch.path());
    let Ok(mount) = Mount::ext4(b, "b", EXT4, &["-O", "casefold", "-E", "encoding=utf8"]) else {
        livmig_tests::skip_part!("needs a kernel whose ext4 folds cases");
        return Ok(());
    };
    let b = mount.dir("folding")?;
    run(Command::new("chattr").arg("+F").arg(&b))?.expect(0)?;
    for name in ["README", "readme", "é", "e\u{301}"] {
        fs::write(a.join(name), name)?;
    }
    fs::create_dir(a.join("Dir"))?;
    fs::create_dir(a.join("dir"))?;
    fs::write(a.join("Dir/one"), "1")?;
    fs::write(a.join("dir/two"), "2")?;
    fs::write(a.join("plain"), "plain")?;
    let finished = try_sync(&a, &b, &[])?.expect(1)?;
    finished.says(&["does not hold what was sent"])?;
    ensure!(fs::read(b.join("plain"))? == b"plain");
    Ok(())
}

#[test]
fn content_that_changes_behind_equal_times_and_size_is_seen() -> Result<()> {
    let scratch = Scratch::new()?;
    let (a, b, state) = (scratch.dir("a")?, scratch.dir("b")?, scratch.dir("state")?);
    let flags = ["--state", state.to_str().unwrap_or_default()];
    let mut rng = Rng::new(42);
    fs::write(a.join("container"), rng.bytes(4 << 20))?;
    fs::write(a.join("small"), "one")?;
    sync(&a, &b, &flags)?;
    for (name, offset) in [("container", 1 << 20), ("small", 0)] {
        let path = a.join(name);
        let (seconds, nanoseconds) = posix::mtime(&path)?;
        let file = OpenOptions::new().write(true).open(&path)?;
        file.write_all_at(b"two", offset)?;
        posix::set_mtime(&path, seconds, nanoseconds)?;
    }
    let sent = sync(&a, &b, &flags)?.bytes_sent;
    ensure!(sent < 64 << 10, "{sent} bytes for two blocks");
    compare::expect_equal(&a, &b)
}

/// Whatever a pass meets meanwhile, the next one after the writers have stopped is exact.
#[test]
fn files_that_grow_shrink_rotate_and_are_deleted_open() -> Result<()> {
    let scratch = Scratch::new()?;
    let (a, b) = (scratch.dir("a")?, scratch.dir("b")?);
    let stop = AtomicBool::new(false);
    let rounds = thread::scope(|scope| {
        let writer = scope.spawn(|| churn(&a, &stop));
        let synced = (0..8).try_for_each(|_| {
            let finished = try_sync(&a, &b, &[])?;
            let code = finished.status.code();
            ensure!(matches!(code, Some(0 | 1)), "{code:?}: {}", finished.stderr);
            Ok(())
        });
        stop.store(true, Ordering::SeqCst);
        let rounds = writer.join().unwrap_or_else(|_| Ok(0));
        synced.and(rounds)
    })?;
    ensure!(rounds > 0);
    sync(&a, &b, &[])?;
    compare::expect_equal(&a, &b)
}

fn churn(root: &Path, stop: &AtomicBool) -> Result<usize> {
    let mut log = File::create(root.join("log"))?;
    let mut shrinking = File::create(root.join("shrinking"))?;
    let mut held = Vec::new();
    let mut rounds = 0;
    while !stop.load(Ordering::SeqCst) {
        log.write_all(&[b'l'; 5000])?;
        if rounds % 16 == 0 {
            fs::rename(root.join("log"), root.join("log.1"))?;
            log = File::create(root.join("log"))?;
        }
        shrinking.seek(SeekFrom::Start(0))?;
        shrinking.write_all(&vec![b's'; 300_000])?;
        shrinking.set_len(u64::try_from(rounds * 997 % 300_000)?)?;
        let temporary = root.join("deleted");
        let mut deleted = File::create(&temporary)?;
        deleted.write_all(b"nobody's")?;
        fs::remove_file(&temporary)?;
        held.push(deleted);
        held.drain(..held.len().saturating_sub(8));
        rounds += 1;
    }
    Ok(rounds)
}

/// Content that the source stores once and the destination has to store four times.
#[test]
fn shared_blocks_that_do_not_fit_unshared() -> Result<()> {
    require!(mounts::available("mkfs.btrfs"));
    let scratch = Scratch::new()?;
    let a = Mount::btrfs(scratch.path(), "a", BTRFS)?;
    let b = Mount::ext4(scratch.path(), "b", EXT4, &[])?;
    fs::write(a.path().join("0"), Rng::new(44).bytes(24 << 20))?;
    for copy in 1..4 {
        let mut command = Command::new("cp");
        command.args(["--reflink=always", "0", &copy.to_string()]);
        run(command.current_dir(a.path()))?.expect(0)?;
    }
    let finished = try_sync(a.path(), b.path(), &[])?.expect(1)?;
    finished.says(&["no space left"])
}

#[test]
fn odd_devices_links_of_links_and_the_longest_names() -> Result<()> {
    require!(mounts::available("mkfs.xfs"));
    let scratch = Scratch::new()?;
    let a = scratch.dir("a")?;
    posix::make_node(&a.join("whiteout"), FileType::CharacterDevice, 0, 0)?;
    posix::make_node(&a.join("large"), FileType::BlockDevice, 259, 300_000)?;
    posix::make_node(
        &a.join("beyond"),
        FileType::CharacterDevice,
        1,
        (1 << 20) - 1,
    )?;
    symlink("nowhere", a.join("link"))?;
    fs::hard_link(a.join("link"), a.join("link of the link"))?;
    posix::make_node(&a.join("fifo"), FileType::Fifo, 0, 0)?;
    fs::hard_link(a.join("fifo"), a.join("fifo again"))?;
    fs::write(a.join("n".repeat(255)), "long")?;
    let b = scratch.dir("b")?;
    sync(&a, &b, &[])?;
    compare::expect_equal(&a, &b)?;
    let xfs = Mount::xfs(scratch.path(), "xfs", XFS)?;
    let finished = try_sync(&a, xfs.path(), &[])?;
    if finished.status.success() {
        return compare::expect_equal(&a, xfs.path());
    }
    expect_named(&finished, &["beyond"], &["could not make the entry"])?;
    ensure!(fs::read(xfs.path().join("n".repeat(255)))? == b"long");
    Ok(())
}

/// A block of the device that the file system knows to be wrong.
#[test]
fn a_file_with_a_bad_block_keeps_its_copy_and_harms_no_other() -> Result<()> {
    require!(mounts::available("mkfs.btrfs"));
    let scratch = Scratch::new()?;
    let image = scratch.path().join("a.img");
    let b = scratch.dir("b")?;
    let older = {
        let a = Mount::btrfs(scratch.path(), "a", BTRFS)?;
        fs::create_dir(a.path().join("d"))?;
        fs::write(a.path().join("d/bad"), "needle in a stack ".repeat(20_000))?;
        fs::write(a.path().join("d/good"), "good")?;
        sync(a.path(), &b, &[])?;
        fs::write(a.path().join("d/good"), "better")?;
        fs::write(a.path().join("d/new"), "new")?;
        fs::read(a.path().join("d/bad"))?
    };
    damage(&image, b"needle in a stack needle")?;
    let at = scratch.path().join("a");
    let a = Mount::again(&image, &at)?;
    if fs::read(a.path().join("d/bad")).is_ok() {
        livmig_tests::skip_part!("another copy of the block was read");
        return Ok(());
    }
    let finished = try_sync(a.path(), &b, &[])?.expect(1)?;
    expect_named(&finished, &["d/bad"], &["input/output error"])?;
    ensure!(fs::read(b.join("d/bad"))? == older);
    ensure!(fs::read(b.join("d/good"))? == b"better" && fs::read(b.join("d/new"))? == b"new");
    Ok(())
}

/// Overwrites a part of the content that begins like `needle`.
fn damage(image: &Path, needle: &[u8]) -> Result<()> {
    let bytes = fs::read(image)?;
    let at = bytes
        .windows(needle.len())
        .position(|window| window == needle)
        .context("the content is not on the device")?;
    let file = OpenOptions::new().write(true).open(image)?;
    file.write_all_at(&[0xff; 64], u64::try_from(at)? + 8192)?;
    Ok(())
}

#[test]
fn a_mount_below_the_destination_is_never_written_through() -> Result<()> {
    require!(skip::root());
    let scratch = Scratch::new()?;
    let (a, b, elsewhere) = (scratch.dir("a")?, scratch.dir("b")?, scratch.dir("else")?);
    for root in [&a, &b] {
        fs::create_dir(root.join("d"))?;
        fs::create_dir(root.join("gone"))?;
        fs::write(root.join("f"), "source or destination")?;
    }
    fs::write(a.join("d/new"), "new")?;
    fs::write(a.join("z"), "z")?;
    fs::remove_dir(a.join("gone"))?;
    fs::write(elsewhere.join("keep"), "keep")?;
    fs::write(scratch.path().join("file"), "not the destination's")?;
    let mounts = [
        Mount::bind(&elsewhere, &b.join("d"))?,
        Mount::bind(&elsewhere, &b.join("gone"))?,
        Mount::bind(&scratch.path().join("file"), &b.join("f"))?,
    ];
    let finished = try_sync(&a, &b, &[])?.expect(1)?;
    expect_named(&finished, &["gone"], &[])?;
    ensure!(fs::read(elsewhere.join("keep"))? == b"keep");
    ensure!(fs::read_dir(&elsewhere)?.count() == 1);
    ensure!(fs::read(scratch.path().join("file"))? == b"not the destination's");
    ensure!(fs::read(b.join("z"))? == b"z", "the rest is carried");
    drop(mounts);
    sync(&a, &b, &[])?;
    compare::expect_equal(&a, &b)
}

/// Two projects of one xfs, each with a limit, and hard links that may not cross them.
#[test]
fn a_quota_of_a_project_is_named_and_a_later_run_completes() -> Result<()> {
    require!(mounts::available("mkfs.xfs"));
    require!(skip::program("xfs_quota"));
    let scratch = Scratch::new()?;
    let a = scratch.dir("a")?;
    fs::write(a.join("a-small"), "small")?;
    fs::write(a.join("large"), Rng::new(36).bytes(8 << 20))?;
    fs::write(a.join("z-small"), "small too")?;
    let Ok(mount) = Mount::xfs_with_projects(scratch.path(), "b", XFS) else {
        livmig_tests::skip_part!("needs a kernel with quotas of projects");
        return Ok(());
    };
    let b = mount.dir("b")?;
    let quota = |command: &str| -> Result<()> {
        let mut program = Command::new("xfs_quota");
        program.args(["-x", "-c", command]).arg(mount.path());
        run(&mut program)?.expect(0).map(drop)
    };
    quota(&format!("project -s -p {} 7", b.display()))?;
    quota("limit -p bhard=2m 7")?;
    let finished = try_sync(&a, &b, &[])?.expect(1)?;
    expect_named(&finished, &["large"], &[])?;
    ensure!(fs::read(b.join("z-small"))? == b"small too");
    quota("limit -p bhard=100m 7")?;
    sync(&a, &b, &[])?;
    compare::expect_equal(&a, &b)
}
