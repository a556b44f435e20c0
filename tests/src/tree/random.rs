//! Trees from a seed.

use std::{
    ffi::OsStr,
    fs::{self, File},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileExt as _, lchown, symlink},
    },
    path::{Path, PathBuf},
};

use anyhow::Result;
use rustix::fs::FileType;

use super::posix;
use crate::rng::Rng;

/// The name of a file that every tree has: as long as one may be, and no text.
const NO_TEXT: [u8; 255] = [0xff; 255];

/// Makes about `entries` random entries below the empty directory `root`, a different tree for every
/// state of `rng`, and a file whose name is not UTF-8.
pub fn make(root: &Path, entries: usize, rng: &mut Rng) -> Result<()> {
    let mut directories = vec![root.to_owned()];
    let mut linkable: Vec<PathBuf> = Vec::new();
    for number in 0..entries {
        let parent = rng
            .pick(&directories)
            .cloned()
            .unwrap_or_else(|| root.into());
        let path = parent.join(name(number, rng));
        match rng.below(100) {
            0..15 => {
                fs::create_dir(&path)?;
                directories.push(path.clone());
            }
            15..25 => symlink(format!("target {}", rng.below(1000)), &path)?,
            25..30 => posix::make_node(&path, FileType::Fifo, 0, 0)?,
            30..40 if !linkable.is_empty() => {
                let first = rng.pick(&linkable).cloned().unwrap_or_default();
                fs::hard_link(first, &path)?;
                continue;
            }
            _ => {
                file(&path, rng)?;
                linkable.push(path.clone());
            }
        }
        decorate(&path, rng)?;
    }
    // Nothing is drawn for it: a seed makes what it made without.
    fs::write(root.join(OsStr::from_bytes(&NO_TEXT)), "no text")?;
    for directory in directories.iter().rev() {
        posix::set_mtime(directory, past(rng), nanoseconds(rng))?;
    }
    Ok(())
}

/// A regular file with random content: mostly small, sometimes large, sometimes with holes.
pub fn file(path: &Path, rng: &mut Rng) -> Result<()> {
    let length = length(rng);
    if rng.chance(15) {
        let file = File::create(path)?;
        file.set_len(length * 4)?;
        let bytes = rng.bytes(usize::try_from(length)?);
        file.write_all_at(&bytes, rng.below(length * 3 + 1))?;
    } else {
        fs::write(path, rng.bytes(usize::try_from(length)?))?;
    }
    Ok(())
}

/// Random mode, owner (as root), attributes and time of an entry that is not a hard link.
pub fn decorate(path: &Path, rng: &mut Rng) -> Result<()> {
    let kind = path.symlink_metadata()?.file_type();
    if rustix::process::geteuid().is_root() && rng.chance(30) {
        let id = u32::try_from(rng.below(70_000))?;
        lchown(path, Some(id), Some(id / 2))?;
    }
    if !kind.is_symlink() && rng.chance(40) {
        let bits = u32::try_from(rng.below(0o10000))?;
        // Readable for its owner, so that the same trees serve where tests run as a user.
        posix::set_mode(path, bits | if kind.is_dir() { 0o700 } else { 0o600 })?;
    }
    if (kind.is_file() || kind.is_dir()) && rng.chance(25) {
        let (length, number) = (rng.below(200), rng.below(4));
        let value = rng.bytes(usize::try_from(length)?);
        posix::set_xattr(path, format!("user.x{number}"), &value)?;
    }
    if rng.chance(60) {
        posix::set_mtime(path, past(rng), nanoseconds(rng))?;
    }
    Ok(())
}

fn name(number: usize, rng: &mut Rng) -> String {
    match rng.below(6) {
        0 => format!("{number}\n"),
        1 => format!("-{number} ü"),
        2 => format!("{number}{}", "x".repeat(200)),
        _ => format!("entry {number}"),
    }
}

fn length(rng: &mut Rng) -> u64 {
    match rng.below(20) {
        0 => 0,
        1..12 => rng.below(5000),
        12..16 => 8192 * rng.below(8) + rng.below(3),
        16..19 => rng.below(300_000),
        _ => rng.below(3_000_000),
    }
}

fn past(rng: &mut Rng) -> i64 {
    i64::try_from(rng.below(1_700_000_000)).unwrap_or(0)
}

fn nanoseconds(rng: &mut Rng) -> i64 {
    i64::try_from(rng.below(1_000_000_000)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn every_tree_has_a_name_that_is_no_text() {
        let scratch = Scratch::new().unwrap();
        for entries in [0, 20] {
            let root = scratch.dir(&entries.to_string()).unwrap();
            make(&root, entries, &mut Rng::new(1)).unwrap();
            let names = fs::read_dir(&root).unwrap();
            let mut names = names.map(|entry| entry.unwrap().file_name());
            assert!(names.any(|name| name.as_bytes() == NO_TEXT));
        }
    }
}
