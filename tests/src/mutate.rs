//! Random changes of a tree, of every sort that a workload makes between two passes.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::{FileExt as _, MetadataExt as _, symlink},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use rustix::fs::{CWD, FallocateFlags, RenameFlags};
use walkdir::WalkDir;

use crate::{
    rng::Rng,
    tree::{posix, random},
};

/// The page size of the databases that are imitated.
pub const PAGE: u64 = 8192;

/// One sort of change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// Pages of a file are overwritten in place.
    RewritePages,
    /// Bytes are added at a file's end.
    Append,
    /// A file is cut.
    Truncate,
    /// Bytes are put before a file's content, which shifts.
    InsertFront,
    /// A hole is punched into a file.
    Punch,
    /// A file is overwritten and its size and modification time are put back.
    RewriteSameTime,
    /// A file is replaced by another under its name, as editors and databases do.
    RenameOver,
    /// An entry moves to another directory or name.
    Rename,
    /// Two entries of any kinds swap their names.
    SwapNames,
    /// A file becomes a directory with something in it.
    FileToDirectory,
    /// An entry that is no directory becomes a symbolic link.
    ToSymlink,
    /// A directory with everything in it becomes a file.
    DirectoryToFile,
    /// Mode, owner, attributes and time change, content does not.
    Metadata,
    /// A file gets one more name.
    LinkAdded,
    /// An entry goes.
    Delete,
    /// A directory goes with everything in it.
    DeleteDirectory,
    /// A file comes.
    NewFile,
    /// A directory comes with a file in it.
    NewDirectory,
}

impl Change {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::RewritePages,
        Self::Append,
        Self::Truncate,
        Self::InsertFront,
        Self::Punch,
        Self::RewriteSameTime,
        Self::RenameOver,
        Self::Rename,
        Self::SwapNames,
        Self::FileToDirectory,
        Self::ToSymlink,
        Self::DirectoryToFile,
        Self::Metadata,
        Self::LinkAdded,
        Self::Delete,
        Self::DeleteDirectory,
        Self::NewFile,
        Self::NewDirectory,
    ];
}

/// Makes `count` random changes below `root`. Returns what was done, a line each.
pub fn apply(root: &Path, count: usize, rng: &mut Rng) -> Result<Vec<String>> {
    let mut done = Vec::new();
    while done.len() < count {
        let change = *rng.pick(&Change::ALL).unwrap_or(&Change::NewFile);
        if let Some(path) =
            apply_one(root, change, rng).with_context(|| format!("making {change:?}"))?
        {
            done.push(format!("{change:?} {}", path.display()));
        }
    }
    Ok(done)
}

/// Makes one change. Returns what was changed; nothing when the tree has nothing to change so.
pub fn apply_one(root: &Path, change: Change, rng: &mut Rng) -> Result<Option<PathBuf>> {
    let Some(victim) = victim(root, change, rng)? else {
        return Ok(None);
    };
    let fresh = || victim.with_file_name(format!("fresh {}", rng.clone().draw()));
    match change {
        Change::RewritePages => rewrite_pages(&victim, 3, rng)?,
        Change::Append => {
            let file = OpenOptions::new().append(true).open(&victim)?;
            let length = rng.below(20_000);
            let bytes = rng.bytes(usize::try_from(length)?);
            std::io::Write::write_all(&mut &file, &bytes)?;
        }
        Change::Truncate => {
            let length = rng.below(victim.metadata()?.len());
            OpenOptions::new()
                .write(true)
                .open(&victim)?
                .set_len(length)?;
        }
        Change::InsertFront => insert_front(&victim, 1 + rng.below(10_000), rng)?,
        Change::Punch => {
            let length = victim.metadata()?.len();
            let (from, bytes) = (rng.below(length), 1 + rng.below(length));
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            let file = OpenOptions::new().write(true).open(&victim)?;
            rustix::fs::fallocate(&file, flags, from, bytes)?;
        }
        Change::RewriteSameTime => {
            let (seconds, nanoseconds) = posix::mtime(&victim)?;
            rewrite_pages(&victim, 1, rng)?;
            posix::set_mtime(&victim, seconds, nanoseconds)?;
        }
        Change::RenameOver => {
            let other = fresh();
            random::file(&other, rng)?;
            random::decorate(&other, rng)?;
            fs::rename(other, &victim)?;
        }
        Change::Rename => {
            let target =
                directory_outside(root, &victim, rng)?.join(format!("moved {}", rng.draw()));
            fs::rename(&victim, target)?;
        }
        Change::SwapNames => {
            let Some(other) = swap_partner(root, &victim, rng)? else {
                return Ok(None);
            };
            rustix::fs::renameat_with(CWD, &victim, CWD, &other, RenameFlags::EXCHANGE)?;
        }
        Change::FileToDirectory => {
            fs::remove_file(&victim)?;
            fs::create_dir(&victim)?;
            random::file(&victim.join("was a file"), rng)?;
        }
        Change::ToSymlink => {
            fs::remove_file(&victim)?;
            symlink(format!("was something {}", rng.draw()), &victim)?;
        }
        Change::DirectoryToFile => {
            fs::remove_dir_all(&victim)?;
            random::file(&victim, rng)?;
        }
        Change::Metadata => random::decorate(&victim, rng)?,
        Change::LinkAdded => {
            let name = format!("link {}", rng.draw());
            fs::hard_link(&victim, directory_outside(root, &victim, rng)?.join(name))?;
        }
        Change::Delete => fs::remove_file(&victim)?,
        Change::DeleteDirectory => fs::remove_dir_all(&victim)?,
        Change::NewFile => {
            let path = victim.join(format!("new {}", rng.draw()));
            random::file(&path, rng)?;
            random::decorate(&path, rng)?;
        }
        Change::NewDirectory => {
            let path = victim.join(format!("new {}", rng.draw()));
            fs::create_dir(&path)?;
            random::file(&path.join("in it"), rng)?;
        }
    }
    Ok(Some(victim))
}

/// Overwrites `count` random pages of a file in place.
pub fn rewrite_pages(path: &Path, count: u64, rng: &mut Rng) -> Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    let length = file.metadata()?.len();
    for _ in 0..count {
        let start = rng.below(length.div_ceil(PAGE)) * PAGE;
        let bytes = rng.bytes(usize::try_from((length - start).min(PAGE))?);
        file.write_all_at(&bytes, start)?;
    }
    Ok(())
}

/// Puts `length` random bytes before a file's content.
pub fn insert_front(path: &Path, length: u64, rng: &mut Rng) -> Result<()> {
    let mut bytes = rng.bytes(usize::try_from(length)?);
    bytes.append(&mut fs::read(path)?);
    let mut file = File::options().write(true).truncate(true).open(path)?;
    std::io::Write::write_all(&mut file, &bytes)?;
    Ok(())
}

/// An entry that `change` can be made to.
fn victim(root: &Path, change: Change, rng: &mut Rng) -> Result<Option<PathBuf>> {
    let mut found = Vec::new();
    for entry in WalkDir::new(root).sort_by_file_name() {
        let entry = entry?;
        let (kind, is_root) = (entry.file_type(), entry.depth() == 0);
        let fits = match change {
            Change::NewFile | Change::NewDirectory => kind.is_dir(),
            Change::DirectoryToFile | Change::DeleteDirectory => kind.is_dir() && !is_root,
            Change::Rename | Change::SwapNames | Change::Metadata => !is_root,
            Change::ToSymlink | Change::Delete => !kind.is_dir(),
            Change::FileToDirectory | Change::LinkAdded | Change::Append | Change::RenameOver => {
                kind.is_file()
            }
            Change::RewritePages
            | Change::Truncate
            | Change::InsertFront
            | Change::Punch
            | Change::RewriteSameTime => kind.is_file() && entry.metadata()?.size() > 0,
        };
        if fits {
            found.push(entry.into_path());
        }
    }
    Ok(rng.pick(&found).cloned())
}

/// A directory of the tree that does not lie in `path`.
fn directory_outside(root: &Path, path: &Path, rng: &mut Rng) -> Result<PathBuf> {
    let mut found = Vec::new();
    for entry in WalkDir::new(root).sort_by_file_name() {
        let entry = entry?;
        if entry.file_type().is_dir() && !entry.path().starts_with(path) {
            found.push(entry.into_path());
        }
    }
    Ok(rng.pick(&found).cloned().unwrap_or_else(|| root.into()))
}

/// An entry that neither holds `path` nor lies in it.
fn swap_partner(root: &Path, path: &Path, rng: &mut Rng) -> Result<Option<PathBuf>> {
    let mut found = Vec::new();
    for entry in WalkDir::new(root).min_depth(1).sort_by_file_name() {
        let other = entry?.into_path();
        if !other.starts_with(path) && !path.starts_with(&other) {
            found.push(other);
        }
    }
    Ok(rng.pick(&found).cloned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{compare::differences, scratch::Scratch, snapshot::Snapshot};

    #[test]
    fn every_change_changes_the_tree() {
        let scratch = Scratch::new().unwrap();
        for change in Change::ALL {
            let root = scratch.dir(&format!("{change:?}")).unwrap();
            let mut rng = Rng::new(5);
            random::make(&root, 60, &mut rng).unwrap();
            let before = Snapshot::of(&root).unwrap();
            let victim = apply_one(&root, change, &mut rng).unwrap();
            assert!(victim.is_some(), "{change:?} found nothing to change");
            let after = Snapshot::of(&root).unwrap();
            assert!(!differences(&before, &after).is_empty(), "{change:?}");
        }
    }

    #[test]
    fn a_seed_repeats() {
        let scratch = Scratch::new().unwrap();
        let done = ["a", "b"].map(|name| {
            let root = scratch.dir(name).unwrap();
            let mut rng = Rng::new(9);
            random::make(&root, 40, &mut rng).unwrap();
            let done = apply(&root, 30, &mut rng).unwrap();
            done.iter()
                .map(|line| line.replace(root.to_str().unwrap(), ""))
                .collect::<Vec<_>>()
        });
        assert_eq!(done[0], done[1]);
    }
}
