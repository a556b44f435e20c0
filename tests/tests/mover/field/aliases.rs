//! Source and destination that are one tree, locks, links that others planted, output that goes nowhere.

use std::{
    fs::{self, File, OpenOptions},
    os::{
        fd::AsFd as _,
        unix::{
            fs::{MetadataExt as _, PermissionsExt as _, lchown, symlink},
            process::CommandExt as _,
        },
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use livmig_tests::{
    bins, compare,
    mounts::{self, Mount},
    require,
    run::{self, Finished, run},
    scratch::Scratch,
    skip,
    snapshot::Snapshot,
};
use rustix::fs::{FlockOperation, flock};

use super::filled;
use crate::sync::{sync, try_sync};

/// Exit code of what was not asked right.
const USAGE: i32 = 2;

/// What the kernel gives those who may do nothing.
const NOBODY: u32 = 65_534;

/// A directory that holds a file and a directory with another.
/// Runs a sync that must be refused, naming both ends, with nothing changed below `world`.
fn expect_refused(world: &Path, a: &Path, b: &Path, flags: &[&str]) -> Result<Finished> {
    let before = Snapshot::of(world)?;
    let finished = try_sync(a, b, flags)?.expect(USAGE)?;
    finished.says(&["nothing was changed"])?;
    compare::expect_unchanged(&before, world)
        .with_context(|| format!("sync {} {}", a.display(), b.display()))?;
    Ok(finished)
}

/// As [`expect_refused`], either way round, and for what is not there yet in `other`, which is `one`
/// or lies in it.
fn expect_one_tree(world: &Path, one: &Path, other: &Path) -> Result<()> {
    for (a, b) in [(one, other), (other, one)] {
        let finished = expect_refused(world, a, b, &[])?;
        for end in [a, b] {
            let end = end.canonicalize()?;
            finished.says(&[end.to_str().context("a path that is text")?])?;
        }
    }
    expect_refused(world, one, &other.join("new"), &[])?;
    Ok(())
}

/// State in either end, by another name of that.
fn expect_no_state_in(world: &Path, alias: &Path, a: &Path, b: &Path) -> Result<()> {
    let state = alias.join("new/state");
    let state = state.to_str().context("a path that is text")?;
    for (a, b) in [(a, b), (b, a)] {
        let finished = expect_refused(world, a, b, &["--state", state])?;
        finished.says(&["the state directory"])?;
    }
    Ok(())
}

#[test]
fn a_bind_mount_is_the_directory_that_it_shows() -> Result<()> {
    require!(skip::root());
    let scratch = Scratch::new()?;
    let (vol, other) = (scratch.dir("vol")?, scratch.dir("other")?);
    filled(&vol)?;
    filled(&other)?;
    let alias = Mount::bind(&vol, &scratch.dir("alias")?)?;
    let part = Mount::bind(&vol.join("sub"), &scratch.dir("part")?)?;
    for (one, other) in [
        (vol.as_path(), alias.path()),
        (&vol, part.path()),
        (alias.path(), part.path()),
        (&vol, &alias.path().join("sub")),
    ] {
        expect_one_tree(scratch.path(), one, other)?;
    }
    expect_no_state_in(scratch.path(), alias.path(), &vol, &other)?;
    expect_no_state_in(scratch.path(), part.path(), &vol, &other)?;
    // Beside each other they are two.
    fs::create_dir(vol.join("beside"))?;
    sync(part.path(), &alias.path().join("beside"), &[])?;
    compare::expect_equal(&vol.join("sub"), &vol.join("beside"))
}

#[test]
fn a_device_that_is_mounted_twice_is_one() -> Result<()> {
    require!(mounts::available("mkfs.ext4"));
    let scratch = Scratch::new()?;
    let first = Mount::ext4(scratch.path(), "disk", 64 << 20, &[])?;
    let second = Mount::again(&scratch.path().join("disk.img"), &scratch.dir("again")?)?;
    filled(&first.path().join("vol"))?;
    filled(&first.path().join("other"))?;
    let (vol, again) = (first.path().join("vol"), second.path().join("vol"));
    expect_one_tree(scratch.path(), &vol, &again)?;
    expect_one_tree(scratch.path(), &vol, &again.join("sub"))?;
    expect_one_tree(scratch.path(), first.path(), &again)?;
    expect_no_state_in(scratch.path(), &again, &vol, &first.path().join("other"))?;
    sync(&vol, &second.path().join("other"), &[])?;
    compare::expect_equal(&vol, &first.path().join("other"))
}

#[test]
fn a_subvolume_that_is_mounted_by_itself_lies_in_its_file_system() -> Result<()> {
    require!(mounts::available("mkfs.btrfs"));
    require!(skip::program("btrfs"));
    let scratch = Scratch::new()?;
    let top = Mount::btrfs(scratch.path(), "btrfs", 256 << 20)?;
    let subvolume = top.path().join("@data");
    let made = Command::new("btrfs")
        .args(["-q", "subvolume", "create"])
        .arg(&subvolume)
        .status()?;
    ensure!(made.success(), "no subvolume");
    filled(&subvolume)?;
    filled(&top.path().join("beside"))?;
    let image = scratch.path().join("btrfs.img");
    let alone = Mount::with(&image, &scratch.dir("alone")?, "loop,subvol=@data")?;
    expect_one_tree(scratch.path(), top.path(), alone.path())?;
    expect_one_tree(scratch.path(), &subvolume, alone.path())?;
    expect_one_tree(scratch.path(), &subvolume, &alone.path().join("sub"))?;
    expect_no_state_in(
        scratch.path(),
        alone.path(),
        &subvolume,
        &top.path().join("beside"),
    )?;
    sync(alone.path(), &top.path().join("beside"), &[])?;
    compare::expect_equal(&subvolume, &top.path().join("beside"))
}

#[test]
fn layers_of_an_overlay_are_part_of_it() -> Result<()> {
    require!(skip::root());
    let scratch = Scratch::new()?;
    let (lower, upper) = (scratch.dir("lo:w,er")?, scratch.dir("upper")?);
    let (other, above) = (scratch.dir("other")?, scratch.dir("above")?);
    filled(&lower)?;
    filled(&other)?;
    let escaped = scratch.path().join("lo\\:w\\,er");
    let overlay = match Mount::overlay(scratch.path(), "overlay", &escaped, &upper) {
        Ok(overlay) => overlay,
        Err(error) => {
            require!(Err::<(), _>(format!("needs overlayfs ({error:#})")));
            return Ok(());
        }
    };
    let merged = overlay.path();
    fs::write(merged.join("new"), "in the upper one")?;
    let work = upper.with_extension("work");
    for layer in [lower.as_path(), &upper, &work] {
        expect_one_tree(&other, merged, layer)?;
        expect_one_tree(&other, &merged.join("sub"), layer)?;
    }
    // By other names, and from a directory above the overlay.
    let alias = Mount::bind(&upper, &scratch.dir("alias")?)?;
    let shown = Mount::bind(merged, &above)?;
    expect_one_tree(&other, merged, alias.path())?;
    expect_one_tree(&other, shown.path(), &lower)?;
    expect_no_state_in(&other, alias.path(), merged, &other)?;
    let holder = scratch.dir("holder")?;
    fs::create_dir(holder.join("below"))?;
    let below = Mount::bind(merged, &holder.join("below"))?;
    for layer in [lower.as_path(), &upper, alias.path()] {
        expect_refused(&other, &holder, layer, &[])?;
        expect_refused(&other, layer, &holder, &[])?;
    }
    drop(below);
    // What only lies beside is none of it, and two parts of one overlay are apart.
    sync(merged, &scratch.path().join("copy"), &[])?;
    compare::expect_equal(merged, &scratch.path().join("copy"))?;
    sync(&merged.join("sub"), &merged.join("beside"), &[])?;
    compare::expect_equal(&merged.join("sub"), &merged.join("beside"))
}

#[test]
fn layers_that_are_told_by_halves_are_found() -> Result<()> {
    require!(skip::root());
    let scratch = Scratch::new()?;
    let other = scratch.dir("other")?;
    for name in ["l1", "l2", "m"] {
        filled(&scratch.path().join(name))?;
    }
    let mounted = Command::new("mount")
        .current_dir(scratch.path())
        .args(["-t", "overlay", "overlay", "-o", "lowerdir=l1:l2", "m"])
        .output()?;
    if !mounted.status.success() {
        require!(Err::<(), _>("needs overlays of relative layers".to_owned()));
    }
    let overlay = Mount::taken(&scratch.path().join("m"));
    for layer in ["l1", "l2/sub"] {
        expect_one_tree(&other, overlay.path(), &scratch.path().join(layer))?;
    }
    Ok(())
}

#[test]
fn a_disk_that_is_a_file_of_the_other_end() -> Result<()> {
    require!(mounts::available("mkfs.ext4"));
    let scratch = Scratch::new()?;
    let images = scratch.dir("images")?;
    let disk = Mount::ext4(&images, "disk", 64 << 20, &[])?;
    fs::create_dir(scratch.path().join("at"))?;
    let elsewhere = Mount::bind(disk.path(), &scratch.path().join("at"))?;
    let vol = elsewhere.path().join("vol");
    filled(&vol)?;
    drop(disk);
    expect_refused(&vol, &vol, &images, &[])?;
    expect_refused(&vol, &images, &vol, &[])?;
    Ok(())
}

/// A data base locks its directory, and must be able to at any time.
#[test]
fn a_pass_takes_no_lock_that_a_workload_may_want() -> Result<()> {
    let scratch = Scratch::new()?;
    let (a, b) = (scratch.dir("a")?, scratch.dir("b")?);
    filled(&a)?;
    let lock = |dir: &Path| -> Result<File> {
        let dir = File::open(dir)?;
        flock(&dir, FlockOperation::NonBlockingLockExclusive)?;
        Ok(dir)
    };
    let held = [lock(&a)?, lock(&a.join("sub"))?];
    sync(&a, &b, &[])?;
    compare::expect_equal(&a, &b)?;
    drop(held);
    // While a pass runs, which waits for its share of the network.
    let big = OpenOptions::new()
        .create_new(true)
        .write(true)
        .open(a.join("big"))?;
    for block in 0..1024_u64 {
        let bytes: Vec<u8> = (0..4096_u64)
            .map(|at| (at ^ block).to_le_bytes()[0])
            .collect();
        std::os::unix::fs::FileExt::write_all_at(&big, &bytes, block * 4096)?;
    }
    let mut running = run::Running::start(
        bins::mover()?
            .arg("sync")
            .args([&a, &b])
            .args(["--bandwidth", "64Ki"]),
    )?;
    while !b.join("big").exists() {
        ensure!(running.is_running()?, "it has ended: {}", running.stderr()?);
        std::thread::yield_now();
    }
    drop(lock(&a)?);
    drop(lock(&a.join("sub"))?);
    let shared = File::open(&a)?;
    flock(&shared, FlockOperation::NonBlockingLockShared)?;
    ensure!(running.is_running()?, "it has ended: {}", running.stderr()?);
    // Others still find it at work, whichever end they want.
    for (source, destination) in [(&a, &b), (&b, &scratch.path().join("c"))] {
        try_sync(source, destination, &[])?
            .expect(1)?
            .says(&["another livmig-mover", "nothing was changed"])?;
    }
    // A source may be read twice.
    sync(&a, &scratch.path().join("d"), &[])?;
    Ok(())
}

#[test]
fn a_lock_on_the_destination_is_not_taken_for_a_mover() -> Result<()> {
    let scratch = Scratch::new()?;
    let (a, b) = (scratch.dir("a")?, scratch.dir("b")?);
    filled(&a)?;
    let held = File::open(&b)?;
    flock(&held, FlockOperation::NonBlockingLockExclusive)?;
    let refused = try_sync(&a, &b, &[])?.expect(1)?;
    refused.says(&["some process", "holds a lock on", "nothing was changed"])?;
    ensure!(!refused.stderr.contains("another"), "{}", refused.stderr);
    ensure!(fs::read_dir(&b)?.next().is_none(), "it wrote all the same");
    drop(held);
    sync(&a, &b, &[])?;
    Ok(())
}

#[test]
fn links_that_somebody_else_planted_are_not_followed() -> Result<()> {
    require!(skip::root());
    let scratch = Scratch::public()?;
    let (a, out) = (scratch.dir("a")?, scratch.dir("out")?);
    filled(&a)?;
    filled(&out.join("deep"))?;
    let planted = scratch.path().join("planted");
    symlink(&out, &planted)?;
    lchown(&planted, Some(NOBODY), None)?;
    let relative = scratch.path().join("relative");
    symlink("out/deep", &relative)?;
    lchown(&relative, Some(NOBODY), None)?;
    let over = scratch.path().join("over");
    symlink("planted/deep", &over)?;
    let name = |path: &Path| {
        path.to_str()
            .map(str::to_owned)
            .context("a path that is text")
    };
    for link in [&planted, &relative, &over] {
        for path in [
            link.clone(),
            link.join("new"),
            link.join("sub"),
            link.join("."),
        ] {
            let refused = expect_refused(scratch.path(), &a, &path, &[])?;
            refused.says(&["symbolic link", &NOBODY.to_string()])?;
        }
        let refused = expect_refused(scratch.path(), link, &scratch.path().join("b"), &[])?;
        refused.says(&["symbolic link"])?;
        let b = scratch.path().join("b");
        let state = name(&link.join("state"))?;
        expect_refused(scratch.path(), &a, &b, &["--state", &state])?;
    }
    // One's own are followed.
    let own = scratch.path().join("own");
    symlink("out/deep", &own)?;
    let state = name(&own.join("../state"))?;
    sync(&a, &own, &["--state", &state])?;
    compare::expect_equal(&a, &out.join("deep"))?;
    ensure!(out.join("state/uid").is_file(), "no state");
    sync(&own, &own.join("../new"), &["--verify", "full"])?;
    compare::expect_equal(&a, &out.join("new"))
}

#[test]
fn links_of_the_same_user_are_followed_without_root() -> Result<()> {
    require!(skip::root());
    let scratch = Scratch::public()?;
    let home = scratch.dir("home")?;
    filled(&home.join("a"))?;
    for path in ["", "a", "a/sub", "a/file", "a/sub/file"] {
        std::os::unix::fs::chown(home.join(path), Some(1000), Some(1000))?;
    }
    symlink("a", home.join("own"))?;
    lchown(home.join("own"), Some(1000), None)?;
    symlink("a", home.join("roots"))?;
    symlink("a", home.join("theirs"))?;
    lchown(home.join("theirs"), Some(NOBODY), None)?;
    let as_user = |source: &str| -> Result<Finished> {
        let mover = scratch.path().join("mover");
        if !mover.exists() {
            fs::copy(bins::path("livmig-mover")?, &mover)?;
            fs::set_permissions(&mover, fs::Permissions::from_mode(0o755))?;
        }
        run(Command::new(&mover)
            .arg("sync")
            .args([home.join(source), home.join("b")])
            .uid(1000)
            .gid(1000)
            .env("TMPDIR", &home))
    };
    for followed in ["own", "roots"] {
        as_user(followed)?.expect(0)?;
        compare::expect_equal(&home.join("a"), &home.join("b"))?;
    }
    as_user("theirs")?.expect(USAGE)?.says(&["symbolic link"])?;
    Ok(())
}

/// Runs with its output at `/dev/full`.
fn into_full(command: &mut Command) -> Result<(Option<i32>, String)> {
    let full = OpenOptions::new().write(true).open("/dev/full")?;
    let output = command.stdin(Stdio::null()).stdout(full).output()?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok((output.status.code(), told))
}

/// Runs with its output in a pipe that nobody reads.
fn into_nothing(command: &mut Command) -> Result<(Option<i32>, String)> {
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let output = command.stdin(Stdio::null()).stdout(writer).output()?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok((output.status.code(), told))
}

#[test]
fn a_report_that_cannot_be_written_is_a_failure() -> Result<()> {
    let scratch = Scratch::new()?;
    let (a, b) = (scratch.dir("a")?, scratch.dir("b")?);
    filled(&a)?;
    let mover = |arguments: &[&str]| -> Result<Command> {
        let mut command = bins::mover()?;
        command.args(arguments).arg(&a);
        if arguments.contains(&"sync") {
            command.arg(&b);
        }
        Ok(command)
    };
    for arguments in [
        &["sync"][..],
        &["sync", "--json"],
        &["inspect"],
        &["inspect", "--json"],
    ] {
        let (code, told) = into_full(&mut mover(arguments)?)?;
        ensure!(code == Some(1), "{arguments:?}: {code:?} {told}");
        ensure!(told.contains("standard output"), "{arguments:?}: {told}");
        let (code, told) = into_nothing(&mut mover(arguments)?)?;
        // Whoever leaves a pager has seen enough; half a document is none.
        let expected = i32::from(arguments.contains(&"--json"));
        ensure!(code == Some(expected), "{arguments:?}: {code:?} {told}");
        ensure!(
            told.contains("standard output") == (expected == 1),
            "{told}"
        );
    }
    compare::expect_equal(&a, &b)
}

/// What is opened first gets the numbers that everybody writes to.
#[test]
fn nothing_is_written_to_files_that_took_a_closed_descriptor() -> Result<()> {
    let scratch = Scratch::new()?;
    let (a, b) = (scratch.dir("a")?, scratch.dir("b")?);
    filled(&a)?;
    let mover = bins::path("livmig-mover")?;
    for closed in ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"] {
        fs::write(a.join("sub/file"), closed)?;
        for flags in ["", "--json"] {
            let line = format!("exec \"$0\" sync \"$1\" \"$2\" {flags} {closed}");
            let status = Command::new("sh")
                .args(["-c", &line])
                .arg(&mover)
                .args([&a, &b])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()?;
            // A document that nobody can have read was not delivered.
            let expected =
                i32::from(flags == "--json" && closed.split(' ').any(|one| one == ">&-"));
            ensure!(status.code() == Some(expected), "{closed}: {status}");
            compare::expect_equal(&a, &b)?;
        }
    }
    Ok(())
}

/// Lines on stderr are for what a person should look at.
#[test]
fn a_run_in_which_nothing_is_wrong_says_nothing_about_it() -> Result<()> {
    let scratch = Scratch::new()?;
    let a = scratch.dir("a")?;
    filled(&a)?;
    for transport in ["tcp", "quic", "auto"] {
        let b = scratch.path().join(transport);
        for round in 0..20 {
            fs::write(a.join(format!("file {}", round % 7)), format!("{round}"))?;
            let finished = try_sync(&a, &b, &["--transport", transport])?.expect(0)?;
            ensure!(finished.stderr.is_empty(), "{round}: {}", finished.stderr);
        }
        compare::expect_equal(&a, &b)?;
    }
    Ok(())
}

/// The lock files of movers go with them.
#[test]
fn nothing_is_left_of_a_run_but_its_copy() -> Result<()> {
    require!(skip::root());
    let scratch = Scratch::new()?;
    let (a, b) = (scratch.dir("a")?, scratch.dir("b")?);
    filled(&a)?;
    sync(&a, &b, &[])?;
    let name = |dir: &PathBuf| -> Result<String> {
        let metadata = dir.metadata()?;
        let (major, minor) = (
            rustix::fs::major(metadata.dev()),
            rustix::fs::minor(metadata.dev()),
        );
        Ok(format!("{major:x}-{minor:x}-{:x}", metadata.ino()))
    };
    for dir in [&a, &b] {
        let left = Path::new("/run/livmig").join(name(dir)?);
        ensure!(!left.exists(), "{} is left", left.display());
    }
    let held = File::open(&a)?;
    flock(held.as_fd(), FlockOperation::NonBlockingLockExclusive)?;
    Ok(())
}
