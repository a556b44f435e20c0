//! One entry that the destination refuses is one entry, and nothing else is harmed.

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt as _, MetadataExt as _, chown, symlink},
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use livmig_tests::{
    compare,
    mounts::{self, Mount},
    require,
    rng::Rng,
    run::run,
    scratch::Scratch,
    skip,
    snapshot::Snapshot,
    tree::posix,
};
use rustix::fs::FileType;

use crate::sync::{sync, try_sync};

/// How a run remembers the one before.
#[derive(Clone, Copy, Debug)]
enum Memory {
    State,
    Nothing,
}

impl Memory {
    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::State => &["--state", "state"],
            Self::Nothing => &[],
        }
    }
}

/// A source `a`, a destination `b` and a state directory `state`.
struct Place {
    scratch: Scratch,
}

impl Place {
    fn new() -> Result<Self> {
        let scratch = Scratch::new()?;
        for name in ["a", "b", "state"] {
            scratch.dir(name)?;
        }
        Ok(Self { scratch })
    }

    fn a(&self, name: &str) -> std::path::PathBuf {
        self.scratch.path().join("a").join(name)
    }

    fn b(&self, name: &str) -> std::path::PathBuf {
        self.scratch.path().join("b").join(name)
    }

    /// A run that must succeed, and after which both are equal.
    fn sync(&self, memory: Memory) -> Result<()> {
        let state = self.scratch.path().join("state");
        let state = state.to_str().context("a path that is text")?;
        let flags: Vec<&str> = memory
            .flags()
            .iter()
            .map(|flag| if *flag == "state" { state } else { flag })
            .collect();
        sync(&self.a(""), &self.b(""), &flags)?;
        compare::expect_equal(&self.a(""), &self.b(""))
    }
}

/// Copies the tree `from` as links to what it holds.
fn link_copy(from: &Path, to: &Path) -> Result<()> {
    run(Command::new("cp").arg("-al").args([from, to]))?.expect(0)?;
    Ok(())
}

/// What the snapshot `dir` holds, as far as a change of its names' number does not count.
fn expect_snapshot(before: &Snapshot, dir: &Path) -> Result<()> {
    compare::expect_unchanged(before, dir).context("a snapshot of the destination was changed")
}

/// Everything that is changed through a name: content in part and as a whole, metadata, kind.
#[test]
fn what_names_outside_of_the_destination_share_stays_theirs() -> Result<()> {
    require!(skip::root());
    for memory in [Memory::State, Memory::Nothing] {
        let place = Place::new()?;
        let mut rng = Rng::new(5);
        let (small, large) = (rng.bytes(700), rng.bytes(900_000));
        for name in ["one", "pair", "trio"] {
            for (kind, content) in [("small", &small), ("large", &large)] {
                for change in ["whole", "part", "mode"] {
                    fs::write(place.a(&format!("{kind}-{change}-{name}")), content)?;
                }
            }
            let sparse = File::create(place.a(&format!("sparse-{name}")))?;
            sparse.set_len(3 << 20)?;
            sparse.write_all_at(&small, 1 << 20)?;
            symlink("target", place.a(&format!("link-{name}")))?;
            posix::make_node(&place.a(&format!("fifo-{name}")), FileType::Fifo, 0, 0)?;
            posix::make_node(
                &place.a(&format!("null-{name}")),
                FileType::CharacterDevice,
                1,
                3,
            )?;
        }
        fs::create_dir(place.a("sub"))?;
        for entry in fs::read_dir(place.a(""))? {
            let entry = entry?;
            let name = entry
                .file_name()
                .into_string()
                .map_err(|_| anyhow::anyhow!("no text"))?;
            if name.ends_with("pair") || name.ends_with("trio") {
                fs::hard_link(entry.path(), place.a("sub").join(&name))?;
            }
            if name.ends_with("trio") {
                fs::hard_link(entry.path(), place.a(&format!("sub/more-{name}")))?;
            }
        }
        place.sync(memory)?;
        let snapshot = place.scratch.path().join("snapshot");
        link_copy(&place.b(""), &snapshot)?;
        let before = Snapshot::of(&snapshot)?;

        for name in ["one", "pair", "trio"] {
            for (kind, size) in [("small", 700), ("large", 900_000)] {
                fs::write(place.a(&format!("{kind}-whole-{name}")), rng.bytes(size))?;
                let part = fs::OpenOptions::new()
                    .write(true)
                    .open(place.a(&format!("{kind}-part-{name}")))?;
                part.write_all_at(b"changed", 100)?;
                let mode = place.a(&format!("{kind}-mode-{name}"));
                posix::set_mode(&mode, 0o604)?;
                chown(&mode, Some(7), Some(8))?;
                posix::set_xattr(&mode, "user.new", b"value")?;
            }
            let sparse = fs::OpenOptions::new()
                .write(true)
                .open(place.a(&format!("sparse-{name}")))?;
            sparse.write_all_at(b"more", 2 << 20)?;
            for kind in ["link", "fifo", "null"] {
                let path = place.a(&format!("{kind}-{name}"));
                std::os::unix::fs::lchown(&path, Some(9), Some(9))?;
            }
            posix::set_mode(&place.a(&format!("fifo-{name}")), 0o640)?;
        }
        place.sync(memory).with_context(|| format!("{memory:?}"))?;
        expect_snapshot(&before, &snapshot)?;
        place.sync(memory)?;
    }
    Ok(())
}

/// A name that goes, comes or changes its group is no reason to touch what a snapshot shares.
#[test]
fn groups_that_change_leave_a_snapshot_as_it_was() -> Result<()> {
    for memory in [Memory::State, Memory::Nothing] {
        let place = Place::new()?;
        for (first, second) in [("a1", "a2"), ("b1", "b2")] {
            fs::write(place.a(first), first)?;
            fs::hard_link(place.a(first), place.a(second))?;
        }
        place.sync(memory)?;
        let snapshot = place.scratch.path().join("snapshot");
        link_copy(&place.b(""), &snapshot)?;
        let before = Snapshot::of(&snapshot)?;
        // One group loses a name to the other, which gets new content; a third name comes.
        fs::remove_file(place.a("a2"))?;
        fs::hard_link(place.a("b1"), place.a("a2"))?;
        fs::hard_link(place.a("a1"), place.a("a3"))?;
        fs::OpenOptions::new()
            .append(true)
            .open(place.a("b2"))
            .and_then(|file| file.write_all_at(b"more", 0))?;
        place.sync(memory)?;
        expect_snapshot(&before, &snapshot)?;
        fs::remove_file(place.a("a3"))?;
        fs::write(place.a("a1"), "alone")?;
        place.sync(memory)?;
        expect_snapshot(&before, &snapshot)?;
    }
    Ok(())
}

/// The names that content shares with a snapshot are no difference to what was sent.
#[test]
fn a_snapshot_made_of_links_is_no_reason_to_fail() -> Result<()> {
    let place = Place::new()?;
    fs::write(place.a("old"), "old")?;
    fs::create_dir(place.a("sub"))?;
    fs::write(place.a("sub/old"), "old")?;
    place.sync(Memory::State)?;
    link_copy(&place.b(""), &place.scratch.path().join("snapshot"))?;
    fs::write(place.a("new"), "new")?;
    fs::write(place.a("sub/new"), "new")?;
    place.sync(Memory::State)?;
    place.sync(Memory::State)
}

#[test]
fn an_empty_source_is_as_equal_the_second_time() -> Result<()> {
    let place = Place::new()?;
    for _ in 0..4 {
        place.sync(Memory::State)?;
    }
    fs::write(place.a("file"), "file")?;
    place.sync(Memory::State)?;
    fs::remove_file(place.a("file"))?;
    let state = place.scratch.path().join("state");
    let state = state.to_str().context("a path that is text")?;
    for _ in 0..3 {
        sync(
            &place.a(""),
            &place.b(""),
            &["--state", state, "--allow-empty"],
        )?;
    }
    Ok(())
}

/// Names of one special entry are equal as long as it is.
#[test]
fn linked_special_entries_are_sent_once() -> Result<()> {
    require!(skip::root());
    for memory in [Memory::State, Memory::Nothing] {
        let place = Place::new()?;
        symlink("target", place.a("link"))?;
        posix::make_node(&place.a("fifo"), FileType::Fifo, 0, 0)?;
        posix::make_node(&place.a("null"), FileType::CharacterDevice, 1, 3)?;
        posix::make_node(&place.a("socket"), FileType::Socket, 0, 0)?;
        for name in ["link", "fifo", "null", "socket"] {
            fs::hard_link(place.a(name), place.a(&format!("{name}2")))?;
        }
        place.sync(memory)?;
        let inode = |name: &str| Ok::<_, anyhow::Error>(fs::symlink_metadata(place.b(name))?.ino());
        let before = inode("fifo2")?;
        place.sync(memory)?;
        ensure!(inode("fifo2")? == before, "made anew without a reason");
        // And all of them follow one that changes.
        posix::set_mode(&place.a("fifo"), 0o622)?;
        place.sync(memory)?;
        ensure!(inode("fifo")? == inode("fifo2")?);
    }
    Ok(())
}

/// Nothing but a file is ever opened to be written.
#[test]
fn whatever_stands_in_the_place_of_a_file_is_replaced_and_not_opened() -> Result<()> {
    require!(skip::root());
    let scratch = Scratch::new()?;
    let without_devices = Mount::tmpfs(scratch.path(), "nodev", "nodev,size=16m")?;
    for b in [scratch.dir("b")?, without_devices.dir("b")?] {
        let a = Scratch::new()?;
        let (a, state) = (a.dir("a")?, a.dir("state")?);
        let state = state.to_str().context("a path that is text")?;
        for round in 0..3 {
            for name in ["whiteout", "vcs", "block", "fifo", "socket"] {
                fs::write(a.join(name), format!("content {round}"))?;
                fs::write(a.join(format!("{name}-large")), vec![round; 300_000])?;
            }
            // In the second round, the last one's files were replaced meanwhile.
            if round < 2 {
                for suffix in ["", "-large"] {
                    let node = |name: &str, kind, major, minor| {
                        let path = b.join(format!("{name}{suffix}"));
                        let _ = fs::remove_file(&path);
                        posix::make_node(&path, kind, major, minor)
                    };
                    node("whiteout", FileType::CharacterDevice, 0, 0)?;
                    node("vcs", FileType::CharacterDevice, 7, 255)?;
                    node("block", FileType::BlockDevice, 7, 250)?;
                    node("fifo", FileType::Fifo, 0, 0)?;
                    node("socket", FileType::Socket, 0, 0)?;
                }
            }
            let flags: &[&str] = if round == 1 { &["--state", state] } else { &[] };
            sync(&a, &b, flags)?;
            compare::expect_equal(&a, &b)?;
        }
    }
    Ok(())
}

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
