//! Entries that the destination refuses, and owners that may do less than root.

use std::{
    fs::{self, File},
    os::unix::fs::{MetadataExt as _, symlink},
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use livmig_tests::{
    compare,
    mounts::{self, Mount},
    require,
    run::run,
    scratch::Scratch,
    skip,
    snapshot::Snapshot,
    tree::posix,
};
use rustix::fs::FileType;

use super::{Memory, Place};
use crate::sync::{sync, try_sync};

/// Lifts what `chattr` has set, so that a test leaves nothing that cannot be removed.
struct Flags<'p>(&'p Path);

impl Flags<'_> {
    fn set(&self, flag: &str, name: &str) -> Result<()> {
        run(Command::new("chattr").arg(flag).arg(self.0.join(name)))?.expect(0)?;
        Ok(())
    }
}

impl Drop for Flags<'_> {
    fn drop(&mut self) {
        let _ = run(Command::new("chattr")
            .args(["-R", "-f", "-i", "-a"])
            .arg(self.0));
    }
}

#[test]
fn what_may_not_be_changed_is_named_and_everything_else_is_carried() -> Result<()> {
    require!(mounts::available("mkfs.ext4"));
    require!(skip::program("chattr"));
    let scratch = Scratch::new()?;
    let mount = Mount::ext4(scratch.path(), "ext4", 16 << 20, &[])?;
    let (a, b) = (scratch.dir("a")?, mount.dir("b")?);
    for root in [&a, &b] {
        fs::create_dir_all(root.join("stale/deep"))?;
        fs::create_dir(root.join("closed"))?;
        for name in [
            "fixed",
            "grows",
            "stale/deep/fixed",
            "stale/deep/goes",
            "closed/old",
        ] {
            fs::write(root.join(name), "old")?;
        }
        fs::hard_link(root.join("closed/old"), root.join("linked"))?;
    }
    let flags = Flags(&b);
    flags.set("+i", "fixed")?;
    flags.set("+a", "grows")?;
    flags.set("+i", "stale/deep/fixed")?;
    flags.set("+i", "closed")?;
    fs::write(a.join("fixed"), "new content")?;
    fs::remove_file(a.join("grows"))?;
    fs::remove_dir_all(a.join("stale"))?;
    fs::write(a.join("closed/new"), "new")?;
    fs::write(a.join("zz"), "zz")?;
    fs::hard_link(a.join("zz"), a.join("zz2"))?;
    posix::set_mode(&a, 0o751)?;
    let finished = try_sync(&a, &b, &[])?.expect(1)?;
    finished.says(&[
        "operation not permitted",
        "chattr",
        ": fixed\n",
        ": grows\n",
        ": stale/deep/fixed\n",
        ": closed/new\n",
    ])?;
    ensure!(!finished.stderr.contains("root may"), "{}", finished.stderr);
    ensure!(fs::read(b.join("zz2"))? == b"zz", "links are carried");
    ensure!(
        fs::metadata(&b)?.mode() & 0o7777 == 0o751,
        "the root's mode"
    );
    ensure!(
        !b.join("stale/deep/goes").exists(),
        "what lies beside it goes"
    );
    drop(flags);
    sync(&a, &b, &[])?;
    compare::expect_equal(&a, &b)
}

/// A file system that refuses one entry keeps nothing else from arriving.
#[test]
fn one_entry_that_is_refused_takes_no_links_with_it() -> Result<()> {
    require!(mounts::available("mkfs.xfs"));
    let scratch = Scratch::new()?;
    let mount = Mount::xfs(scratch.path(), "xfs", 320 << 20)?;
    for memory in [Memory::State, Memory::Nothing] {
        let place = Place::new()?;
        let b = mount.dir(&format!("{memory:?}"))?;
        fs::create_dir(place.a("sub"))?;
        fs::write(place.a("one"), "content")?;
        fs::hard_link(place.a("one"), place.a("sub/two"))?;
        fs::hard_link(place.a("one"), place.a("three"))?;
        // xfs keeps twenty bits of a minor number, but for its highest.
        posix::make_node(&place.a("device"), FileType::CharacterDevice, 4095, 1)?;
        posix::set_mode(&place.a(""), 0o711)?;
        let state = place.scratch.path().join("state");
        let state = state.to_str().context("a path that is text")?;
        let flags: &[&str] = match memory {
            Memory::State => &["--state", state],
            Memory::Nothing => &[],
        };
        for _ in 0..2 {
            try_sync(&place.a(""), &b, flags)?
                .expect(1)?
                .says(&[": device\n"])?;
            let inode = |name: &str| Ok::<_, anyhow::Error>(fs::metadata(b.join(name))?.ino());
            ensure!(inode("one")? == inode("sub/two")? && inode("one")? == inode("three")?);
            ensure!(fs::metadata(&b)?.mode() & 0o7777 == 0o711);
            // A new name of the group, while the refusal lasts.
            fs::write(place.a("one"), "other content")?;
            let _ = fs::hard_link(place.a("one"), place.a("sub/four"));
        }
        fs::remove_file(place.a("device"))?;
        sync(&place.a(""), &b, flags)?;
        compare::expect_equal(&place.a(""), &b)?;
    }
    Ok(())
}

#[test]
fn a_program_that_runs_from_the_destination_is_one_file() -> Result<()> {
    let place = Place::new()?;
    let sleep = ["/bin/sleep", "/usr/bin/sleep"]
        .into_iter()
        .find(|path| Path::new(path).exists());
    let sleep = sleep.context("no sleep")?;
    fs::copy(sleep, place.b("program"))?;
    fs::write(place.a("program"), "another")?;
    fs::write(place.a("z"), "z")?;
    let mut running = Command::new(place.b("program")).arg("600").spawn()?;
    let finished = try_sync(&place.a(""), &place.b(""), &[]);
    running.kill()?;
    running.wait()?;
    let finished = finished?.expect(1)?;
    finished.says(&["text file busy", ": program\n", "stop the program"])?;
    ensure!(fs::read(place.b("z"))? == b"z");
    place.sync(Memory::Nothing)
}

/// Removal needs no more handles for a deeper tree.
#[test]
fn stale_trees_of_any_depth_go_with_few_descriptors() -> Result<()> {
    let place = Place::new()?;
    for tree in 0..8 {
        let stale = place.b(&format!("stale{tree}"));
        fs::create_dir(&stale)?;
        let mut at: std::os::fd::OwnedFd = File::open(stale)?.into();
        for level in 0..1500 {
            rustix::fs::mkdirat(&at, "d", rustix::fs::Mode::RWXU)?;
            if level % 100 == 0 {
                rustix::fs::symlinkat("/", &at, "link")?;
            }
            let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
            at = rustix::fs::openat(&at, "d", flags, rustix::fs::Mode::empty())?;
        }
    }
    fs::write(place.a("file"), "file")?;
    let mover = livmig_tests::bins::path("livmig-mover")?;
    let script = "ulimit -n 256; exec \"$@\"";
    run(Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(mover)
        .arg("sync")
        .args([place.a(""), place.b("")]))?
    .expect(0)?;
    compare::expect_equal(&place.a(""), &place.b(""))
}

#[test]
fn a_time_that_cannot_be_held_is_told_with_what_was_stored() -> Result<()> {
    require!(mounts::available("mkfs.ext4"));
    let scratch = Scratch::new()?;
    let small = Mount::ext4(scratch.path(), "small", 16 << 20, &["-I", "128"])?;
    let large = Mount::ext4(scratch.path(), "large", 16 << 20, &["-I", "256"])?;
    let source = Mount::tmpfs(scratch.path(), "source", "size=1m")?;
    let a = source.dir("a")?;
    fs::write(a.join("late"), "late")?;
    fs::write(a.join("fraction"), "fraction")?;
    symlink("target", a.join("link"))?;
    posix::set_mtime(&a.join("late"), 4_294_967_296, 0)?;
    posix::set_mtime(&a.join("fraction"), 1_000_000_000, 123_456_789)?;
    posix::set_mtime(&a.join("link"), 1_000_000_000, 0)?;
    posix::set_mtime(&a, 1_000_000_000, 0)?;
    let ways: [&[&str]; 2] = [&["--verify", "wire"], &[]];
    for (round, flags) in ways.into_iter().enumerate() {
        let b = small.dir(&format!("b{round}"))?;
        let finished = try_sync(&a, &b, flags)?.expect(1)?;
        finished.says(&[
            "modification time @4294967296.000000000, it stored",
            "modification time @1000000000.123456789, it stored @1000000000.000000000",
            "ext4 with inodes of 256 bytes",
        ])?;
        ensure!(fs::read(b.join("late"))? == b"late");
    }
    let b = large.dir("b")?;
    sync(&a, &b, &[])?;
    compare::expect_equal(&a, &b)?;
    // 2446 is the last year of ext4.
    posix::set_mtime(&a.join("late"), 15_032_385_536, 0)?;
    let finished = try_sync(&a, &b, &[])?.expect(1)?;
    finished.says(&["modification time @15032385536.000000000", ": late\n"])
}

/// Users that own what they copy: root without its capabilities is one of them.
#[test]
fn an_owner_carries_what_it_may_whatever_its_number() -> Result<()> {
    require!(skip::root());
    require!(skip::program("setpriv"));
    for user in [0, 65_534] {
        let scratch = Scratch::public()?;
        let program = scratch.path().join("livmig-mover");
        fs::copy(livmig_tests::bins::path("livmig-mover")?, &program)?;
        posix::set_mode(&program, 0o755)?;
        let work = scratch.dir("work")?;
        let (a, b) = (work.join("a"), work.join("b"));
        fs::create_dir_all(a.join("readonly/sub"))?;
        fs::create_dir(&b)?;
        for (name, mode) in [
            ("readonly/file", 0o444),
            ("secret", 0o400),
            ("plain", 0o640),
        ] {
            fs::write(a.join(name), name)?;
            posix::set_xattr(&a.join(name), "user.test", name.as_bytes())?;
            posix::set_mode(&a.join(name), mode)?;
        }
        posix::set_xattr(&a.join("readonly"), "user.test", b"directory")?;
        posix::set_mode(&a.join("readonly"), 0o555)?;
        let own = |path: &Path| {
            run(Command::new("chown")
                .arg("-R")
                .arg(format!("{user}:{user}"))
                .arg(path))
        };
        own(&work)?.expect(0)?;
        let sync = || {
            let id = user.to_string();
            run(Command::new("setpriv")
                .args(["--reuid", &id, "--regid", &id, "--clear-groups"])
                .args([
                    "--bounding-set=-all",
                    "--inh-caps=-all",
                    "--ambient-caps=-all",
                ])
                .arg(&program)
                .arg("sync")
                .args([&a, &b])
                .args(["--leave-out", "attributes-unseen"])
                .env("TMPDIR", &work))?
            .expect(0)
        };
        for round in 0..6 {
            sync().with_context(|| format!("user {user}, round {round}"))?;
            compare::expect_equal(&a, &b)?;
            posix::set_mode(&a.join("readonly"), 0o755)?;
            fs::create_dir(a.join(format!("readonly/new{round}")))?;
            fs::write(a.join(format!("readonly/new{round}/file")), "new")?;
            let _ = fs::remove_file(a.join("readonly/file"));
            own(&a)?.expect(0)?;
            posix::set_mode(&a.join("readonly"), 0o500)?;
        }
    }
    Ok(())
}

/// What may not be listed keeps what is in it at the destination, and gets its own rights.
#[test]
fn a_directory_that_may_not_be_listed_has_no_rights_left_that_were_revoked() -> Result<()> {
    require!(skip::root());
    require!(skip::program("setpriv"));
    let scratch = Scratch::public()?;
    let program = scratch.path().join("livmig-mover");
    fs::copy(livmig_tests::bins::path("livmig-mover")?, &program)?;
    let work = scratch.dir("work")?;
    let (a, b) = (work.join("a"), work.join("b"));
    for (root, user) in [(&a, 60_002), (&b, 60_009)] {
        fs::create_dir_all(root.join("box"))?;
        fs::write(root.join("box/kept"), "kept")?;
        let acl = "system.posix_acl_access";
        if !posix::set_xattr(&root.join("box"), acl, &posix::acl(user, 7))? {
            return Ok(());
        }
        posix::set_mode(&root.join("box"), 0o300)?;
    }
    run(Command::new("chown").args(["-R", "65534:65534"]).arg(&work))?.expect(0)?;
    let finished = run(Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(&program)
        .arg("sync")
        .args([&a, &b])
        .env("TMPDIR", &work))?
    .expect(1)?;
    finished.says(&["could not open the directory", ": box\n"])?;
    let rights = |root: &Path| -> Result<_> {
        let snapshot = Snapshot::of(root)?;
        let entry = snapshot.entries.get(&b"box"[..]).context("no box")?;
        Ok((entry.mode, entry.xattrs.clone()))
    };
    ensure!(rights(&a)? == rights(&b)?, "{:?}", rights(&b)?);
    ensure!(fs::read(b.join("box/kept"))? == b"kept");
    Ok(())
}
