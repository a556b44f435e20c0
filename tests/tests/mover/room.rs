//! Destinations that have room for the source, but not for both it and what they held before: a
//! pass succeeds whenever what it ends with fits, in whatever order it comes upon the entries.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use anyhow::Result;
use livmig_tests::{
    compare,
    mounts::{self, Mount},
    require,
    rng::Rng,
    scratch::Scratch,
};

use super::sync::{sync, try_sync};

const MIB: usize = 1 << 20;

/// A source without limits and a destination with room for some 20 MiB.
struct Tight {
    a: PathBuf,
    b: PathBuf,
    state: PathBuf,
    rng: Rng,
    _small: Mount,
    _scratch: Scratch,
}

impl Tight {
    fn new(seed: u64, options: &[&str]) -> Result<Self> {
        let scratch = Scratch::new()?;
        let (a, state) = (scratch.dir("a")?, scratch.dir("state")?);
        let small = Mount::ext4(scratch.path(), "small", 32 << 20, options)?;
        let b = small.dir("b")?;
        Ok(Self {
            a,
            b,
            state,
            rng: Rng::new(seed),
            _small: small,
            _scratch: scratch,
        })
    }

    fn write(&mut self, name: &str, mib: usize) -> Result<()> {
        let path = self.a.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        Ok(fs::write(path, self.rng.bytes(mib * MIB))?)
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        Ok(fs::rename(self.a.join(from), self.a.join(to))?)
    }

    fn remove(&self, name: &str) -> Result<()> {
        Ok(fs::remove_file(self.a.join(name))?)
    }

    /// Syncs, going on from what the last run left, and compares.
    fn sync(&self) -> Result<()> {
        sync(&self.a, &self.b, &["--state", text(&self.state)])?;
        compare::expect_equal(&self.a, &self.b)
    }

    /// Syncs as if for the first time, and compares.
    fn sync_anew(&self) -> Result<()> {
        sync(&self.a, &self.b, &[])?;
        compare::expect_equal(&self.a, &self.b)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

#[test]
fn a_large_file_is_renamed() -> Result<()> {
    require!(mounts::available("mkfs.ext4"));
    let mut tight = Tight::new(1, &[])?;
    tight.write("m", 16)?;
    tight.sync()?;
    // Before and after its old name, and into directories that are visited earlier and later.
    for (from, to) in [
        ("m", "c"),
        ("c", "d"),
        ("d", "x/d"),
        ("x/d", "y"),
        ("y", "a/y"),
    ] {
        if let Some(parent) = tight.a.join(to).parent() {
            fs::create_dir_all(parent)?;
        }
        tight.rename(from, to)?;
        tight.sync()?;
    }
    tight.rename("a/y", "0")?;
    tight.sync_anew()
}

#[test]
fn one_large_file_takes_the_place_of_another() -> Result<()> {
    require!(mounts::available("mkfs.ext4"));
    let mut tight = Tight::new(2, &[])?;
    tight.write("z/old", 17)?;
    tight.write("small", 1)?;
    tight.sync()?;
    tight.remove("z/old")?;
    tight.write("a/new", 17)?;
    tight.write("small", 2)?;
    tight.sync()?;
    // And the other way round: one of the two comes upon the new one first.
    tight.remove("a/new")?;
    tight.write("z/old", 17)?;
    tight.sync()
}

#[test]
fn a_file_grows_by_what_another_shrinks() -> Result<()> {
    require!(mounts::available("mkfs.ext4"));
    let mut tight = Tight::new(3, &[])?;
    for (first, second) in [(4, 15), (15, 4), (3, 16)] {
        tight.write("a", first)?;
        tight.write("b", second)?;
        tight.sync()?;
    }
    Ok(())
}

#[test]
fn the_data_of_a_sparse_file_moves_to_its_front() -> Result<()> {
    require!(mounts::available("mkfs.ext4"));
    let mut tight = Tight::new(4, &[])?;
    let data = tight.rng.bytes(14 * MIB);
    for at in [30 * MIB, 0] {
        let file = File::create(tight.a.join("sparse"))?;
        file.set_len(60 << 20)?;
        file.write_all_at(&data, at as u64)?;
        drop(file);
        tight.sync()?;
    }
    Ok(())
}

#[test]
fn content_shifts_inside_a_large_file() -> Result<()> {
    require!(mounts::available("mkfs.ext4"));
    let mut tight = Tight::new(5, &[])?;
    tight.write("log", 14)?;
    tight.sync()?;
    let content = fs::read(tight.a.join("log"))?;
    let shifted = [b"a line\n", &content[MIB..]].concat();
    fs::write(tight.a.join("log"), shifted)?;
    tight.sync()
}

#[test]
fn two_files_become_one_with_two_names() -> Result<()> {
    require!(mounts::available("mkfs.ext4"));
    let mut tight = Tight::new(6, &[])?;
    tight.write("one", 9)?;
    tight.write("two", 9)?;
    tight.sync()?;
    tight.remove("two")?;
    tight.write("one", 17)?;
    fs::hard_link(tight.a.join("one"), tight.a.join("two"))?;
    tight.sync()?;
    // And a group that is another inode now, its names elsewhere.
    tight.remove("one")?;
    tight.remove("two")?;
    tight.write("three", 17)?;
    fs::hard_link(tight.a.join("three"), tight.a.join("a"))?;
    tight.sync()?;
    tight.remove("three")?;
    tight.remove("a")?;
    tight.write("three", 9)?;
    tight.write("a", 9)?;
    tight.sync()
}

#[test]
fn directories_and_files_change_places() -> Result<()> {
    require!(mounts::available("mkfs.ext4"));
    let mut tight = Tight::new(7, &[])?;
    tight.write("a", 1)?;
    tight.write("z/deep/file", 16)?;
    tight.sync()?;
    fs::remove_dir_all(tight.a.join("z"))?;
    tight.remove("a")?;
    tight.write("a/deep/file", 16)?;
    tight.write("z", 1)?;
    tight.sync()
}

#[test]
fn a_tree_takes_the_inodes_of_another() -> Result<()> {
    require!(mounts::available("mkfs.ext4"));
    let mut tight = Tight::new(8, &["-N", "256"])?;
    for (here, gone) in [("z", "none"), ("a", "z"), ("m", "a")] {
        let _ = fs::remove_dir_all(tight.a.join(gone));
        for number in 0..100 {
            let name = format!("{here}/{}/{number}", number % 10);
            tight.write(&name, 0)?;
        }
        for number in 0..40 {
            std::os::unix::fs::symlink("target", tight.a.join(format!("{here}/link {number}")))?;
        }
        tight.sync()?;
    }
    Ok(())
}

#[test]
fn what_does_not_fit_is_named_and_what_can_go_is_gone() -> Result<()> {
    require!(mounts::available("mkfs.ext4"));
    let mut tight = Tight::new(9, &[])?;
    tight.write("a", 2)?;
    tight.write("z/old", 16)?;
    tight.sync()?;
    tight.remove("z/old")?;
    tight.write("b/too much", 60)?;
    tight.write("kept", 1)?;
    let flags = ["--state", text(&tight.state)];
    try_sync(&tight.a, &tight.b, &flags)?
        .expect(1)?
        .says(&["too much", "space", "make room"])?;
    // Going on from there, and anew.
    try_sync(&tight.a, &tight.b, &flags)?.expect(1)?;
    tight.write("b/too much", 15)?;
    tight.sync()?;
    tight.sync_anew()
}

/// Without a complete listing nothing is removed, however little room there is.
#[test]
fn room_is_not_made_at_the_cost_of_what_cannot_be_listed() -> Result<()> {
    require!(mounts::available("mkfs.ext4"));
    let mut tight = Tight::new(10, &[])?;
    tight.write("z/only copy", 16)?;
    tight.sync()?;
    fs::rename(tight.a.join("z"), tight.a.join("z is elsewhere"))?;
    fs::remove_dir_all(tight.a.join("z is elsewhere"))?;
    // The root empties: refused, and nothing is removed for want of room either.
    let flags = ["--state", text(&tight.state)];
    try_sync(&tight.a, &tight.b, &flags)?.expect(1)?;
    assert!(tight.b.join("z/only copy").exists());
    Ok(())
}
