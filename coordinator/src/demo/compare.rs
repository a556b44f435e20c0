//! Two trees compared entry by entry, by a program part that shares nothing with the movers: what
//! each holds is read again, here.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs::{self, File, Metadata},
    io::{self, Read as _},
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{lgetxattr, llistxattr},
    io::Errno,
};
use walkdir::WalkDir;

/// Bytes that a copy may take more on disk than the original: a file system may round, but not
/// fill holes.
const SLACK: u64 = 1 << 20;

/// Differences that are told; more are counted.
const TOLD_MAX: usize = 10;

/// What a comparison found.
#[derive(Debug, Default)]
pub struct DemoComparison {
    /// Entries that both trees hold alike.
    pub equal: u64,
    /// What differs, in words.
    pub differences: Vec<String>,
    /// How much differs in all.
    pub differing: u64,
}

impl DemoComparison {
    /// Notes a difference.
    pub fn differs(&mut self, difference: String) {
        self.differing += 1;
        if self.differences.len() < TOLD_MAX {
            self.differences.push(difference);
        }
    }
}

/// Compares everything below two directories, and the directories themselves, but what lies at or
/// below the relative paths in `except`. Of a directory that holds one of those, the time of
/// change is left out.
pub fn compare(old: &Path, new: &Path, except: &[&str]) -> io::Result<DemoComparison> {
    let (old_entries, new_entries) = (list(old, except)?, list(new, except)?);
    let mut found = DemoComparison::default();
    for path in old_entries.keys() {
        if !new_entries.contains_key(path) {
            found.differs(format!("{} is missing", shown(path)));
        }
    }
    for path in new_entries.keys() {
        if !old_entries.contains_key(path) {
            found.differs(format!("{} was not there before", shown(path)));
        }
    }
    let (mut old_links, mut new_links) = (BTreeMap::new(), BTreeMap::new());
    for (path, before) in &old_entries {
        let Some(after) = new_entries.get(path) else {
            continue;
        };
        let (from, to) = (old.join(path), new.join(path));
        let first = |links: &mut BTreeMap<u64, PathBuf>, metadata: &Metadata| {
            links
                .entry(metadata.ino())
                .or_insert_with(|| path.clone())
                .clone()
        };
        let mut wrong = metadata_differences(before, after);
        if before.is_dir()
            && except
                .iter()
                .any(|left_out| Path::new(left_out).parent() == Some(path.as_path()))
        {
            wrong.retain(|what| *what != "time");
        }
        if !before.is_dir() && first(&mut old_links, before) != first(&mut new_links, after) {
            wrong.push("hard links");
        }
        if before.is_symlink() && fs::read_link(&from)? != fs::read_link(&to)? {
            wrong.push("target");
        }
        if before.is_file() && after.is_file() && !same_content(&from, &to)? {
            wrong.push("content");
        }
        if attributes(&from)? != attributes(&to)? {
            wrong.push("attributes");
        }
        if wrong.is_empty() {
            found.equal += 1;
        } else {
            found.differs(format!("{} differs: {}", shown(path), wrong.join(", ")));
        }
    }
    Ok(found)
}

/// A path for people: quoted, with everything odd escaped.
pub fn shown(path: &Path) -> String {
    // Names need not be text; the escapes show where they are not.
    format!("\"{}\"", path.as_os_str().as_encoded_bytes().escape_ascii())
}

/// Every entry by its relative path; the root by the empty one.
fn list(root: &Path, except: &[&str]) -> io::Result<BTreeMap<PathBuf, Metadata>> {
    let mut entries = BTreeMap::new();
    let mut walk = WalkDir::new(root).into_iter();
    while let Some(entry) = walk.next() {
        let entry = entry?;
        let path = entry
            .path()
            .strip_prefix(root)
            .map_err(io::Error::other)?
            .to_owned();
        if except.iter().any(|left_out| path == Path::new(left_out)) {
            if entry.file_type().is_dir() {
                walk.skip_current_dir();
            }
            continue;
        }
        // An ext file system's own; no tool carries it.
        if path == Path::new("lost+found") {
            walk.skip_current_dir();
            continue;
        }
        entries.insert(path, entry.metadata()?);
    }
    Ok(entries)
}

fn metadata_differences(before: &Metadata, after: &Metadata) -> Vec<&'static str> {
    let (old, new) = (before.file_type(), after.file_type());
    let same_type = old == new
        && old.is_fifo() == new.is_fifo()
        && old.is_socket() == new.is_socket()
        && old.is_char_device() == new.is_char_device()
        && old.is_block_device() == new.is_block_device();
    let facts = [
        ("type", same_type),
        ("mode", before.mode() == after.mode()),
        (
            "owner",
            (before.uid(), before.gid()) == (after.uid(), after.gid()),
        ),
        (
            "time",
            (before.mtime(), before.mtime_nsec()) == (after.mtime(), after.mtime_nsec()),
        ),
        ("size", before.is_dir() || before.len() == after.len()),
        ("device", before.rdev() == after.rdev()),
        (
            "number of links",
            before.is_dir() || before.nlink() == after.nlink(),
        ),
        (
            "holes",
            before.is_dir() || after.blocks() * 512 <= before.blocks() * 512 + SLACK,
        ),
    ];
    facts
        .into_iter()
        .filter(|(_, same)| !same)
        .map(|(what, _)| what)
        .collect()
}

fn same_content(one: &Path, other: &Path) -> io::Result<bool> {
    let (mut one, mut other) = (File::open(one)?, File::open(other)?);
    let (mut left, mut right) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let count = one.read(&mut left)?;
        let (Some(left), Some(right)) = (left.get(..count), right.get_mut(..count)) else {
            return Ok(false);
        };
        match other.read_exact(right) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            read => read?,
        }
        if left != right {
            return Ok(false);
        }
        if count == 0 {
            return Ok(other.read(&mut [0])? == 0);
        }
    }
}

/// The user attributes and access lists of an entry.
fn attributes(path: &Path) -> io::Result<BTreeMap<OsString, Vec<u8>>> {
    use std::os::unix::ffi::OsStringExt as _;

    let mut names = vec![0; 65_536];
    let length = match llistxattr(path, &mut names[..]) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => return Ok(BTreeMap::new()),
        Err(errno) => return Err(errno.into()),
    };
    names.truncate(length);
    let carried = |name: &[u8]| name.starts_with(b"user.") || name.starts_with(b"system.posix_acl");
    let wanted: BTreeSet<&[u8]> = names
        .split(|byte| *byte == 0)
        .filter(|name| carried(name))
        .collect();
    wanted
        .into_iter()
        .map(|name| {
            let name = OsString::from_vec(name.to_vec());
            let mut value = vec![0; 65_536];
            let length = lgetxattr(path, &*name, &mut value[..])?;
            value.truncate(length);
            Ok((name, value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt as _, process::Command};

    use super::*;
    use crate::demo::data;

    fn copy() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("old"), folder.path().join("new"));
        fs::create_dir(&old).unwrap();
        data::build(&old, 1 << 20, 20, 1, &false.into()).unwrap();
        let copied = Command::new("cp").arg("-a").args([&old, &new]).status();
        assert!(copied.unwrap().success());
        (folder, old, new)
    }

    #[test]
    fn a_faithful_copy_is_equal() {
        let (_folder, old, new) = copy();
        let found = compare(&old, &new, &[]).unwrap();
        assert_eq!(found.differences, Vec::<String>::new());
        assert!(found.equal > 40);
    }

    #[test]
    fn each_difference_is_seen() {
        let (_folder, old, new) = copy();
        fs::remove_file(new.join("odd/fifo")).unwrap();
        fs::write(new.join("odd/extra"), "").unwrap();
        fs::set_permissions(new.join("odd/open"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::remove_file(new.join("odd/hard-2")).unwrap();
        fs::copy(new.join("odd/hard-1"), new.join("odd/hard-2")).unwrap();
        fs::write(new.join("small/0000/000003"), "other").unwrap();
        let found = compare(&old, &new, &["large.bin"]).unwrap();
        let text = found.differences.join("\n");
        for expected in [
            "\"odd/fifo\" is missing",
            "\"odd/extra\" was not there before",
            "\"odd/open\" differs: mode",
            "hard links",
            "\"small/0000/000003\" differs: time, size, content",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }
}
