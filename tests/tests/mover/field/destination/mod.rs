//! One entry that the destination refuses is one entry, and nothing else is harmed.

mod refused;

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt as _, MetadataExt as _, chown, symlink},
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use livmig_tests::{
    compare, mounts::Mount, require, rng::Rng, run::run, scratch::Scratch, skip,
    snapshot::Snapshot, tree::posix,
};
use rustix::fs::FileType;

use crate::sync::sync;

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
