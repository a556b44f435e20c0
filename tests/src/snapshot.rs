//! Everything that can be seen of a tree, as a value.
//!
//! The walk holds directory handles and never joins paths, so it sees trees deeper than
//! `PATH_MAX`. It shares no code with what it judges.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::fs::FileExt as _,
    },
    path::Path,
};

use anyhow::{Context as _, Result};
use rustix::{
    buffer::spare_capacity,
    fs::{CWD, FileType, Mode, OFlags, SeekFrom, Stat},
    io::Errno,
};

/// Bytes looked at at once when content is digested.
const CHUNK: u64 = 64 * 1024;

/// A tree: its entries by path relative to the root, which itself is `.`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Snapshot {
    /// The entries, in the order of their paths' bytes.
    pub entries: BTreeMap<Vec<u8>, Entry>,
}

/// One entry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// File type and permission bits, as in `st_mode`.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u32, u32),
    /// Modification time: seconds and nanoseconds.
    pub mtime: (i64, u64),
    /// Bytes; 0 for what is no regular file.
    pub size: u64,
    /// Bytes of storage taken.
    pub allocated: u64,
    /// Major and minor number of a device; 0 for others.
    pub rdev: u64,
    /// The path of the first entry that is this same inode, when it has several names in the
    /// tree.
    pub linked_to: Option<Vec<u8>>,
    /// Where a symbolic link points.
    pub target: Option<Vec<u8>>,
    /// Digest of a regular file's bytes.
    pub content: Option<[u8; 32]>,
    /// Extended attributes, ACLs and file capabilities among them.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Snapshot {
    /// The tree at `root`, content read.
    pub fn of(root: &Path) -> Result<Self> {
        let mut walk = Walk::default();
        let dir = rustix::fs::openat(
            CWD,
            root,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .with_context(|| format!("opening {}", root.display()))?;
        let entry = walk.entry(dir.as_fd(), c".", b".")?;
        walk.snapshot.entries.insert(b".".to_vec(), entry);
        walk.directory(&dir, b"")?;
        walk.drop_single_links();
        Ok(walk.snapshot)
    }

    /// Bytes of storage that all files take.
    pub fn allocated(&self) -> u64 {
        self.entries.values().map(|entry| entry.allocated).sum()
    }
}

#[derive(Default)]
struct Walk {
    snapshot: Snapshot,
    /// (device, inode) of what has several names, to its first path and how many were met.
    links: HashMap<(u64, u64), (Vec<u8>, usize)>,
}

impl Walk {
    fn directory(&mut self, dir: &OwnedFd, prefix: &[u8]) -> Result<()> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(dir)? {
            let name = entry?.file_name().to_owned();
            if !matches!(name.as_bytes(), b"." | b"..") {
                names.push(name);
            }
        }
        names.sort();
        for name in names {
            let path = [prefix, name.as_bytes()].concat();
            let shown = || format!("looking at {}", path.escape_ascii());
            let entry = self.entry(dir.as_fd(), &name, &path).with_context(shown)?;
            let is_dir = FileType::from_raw_mode(entry.mode) == FileType::Directory;
            self.snapshot.entries.insert(path.clone(), entry);
            if is_dir {
                let child = rustix::fs::openat(
                    dir,
                    &name,
                    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                    Mode::empty(),
                )
                .with_context(shown)?;
                self.directory(&child, &[&path, b"/".as_slice()].concat())?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, dir: BorrowedFd<'_>, name: &std::ffi::CStr, path: &[u8]) -> Result<Entry> {
        let fd = rustix::fs::openat(
            dir,
            name,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let stat = rustix::fs::fstat(&fd)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let is_file = kind == FileType::RegularFile;
        let target = if kind == FileType::Symlink {
            Some(rustix::fs::readlinkat(dir, name, Vec::new())?.into_bytes())
        } else {
            None
        };
        let content = if is_file {
            Some(content(dir, name, &stat)?)
        } else {
            None
        };
        Ok(Entry {
            mode: stat.st_mode,
            owner: (stat.st_uid, stat.st_gid),
            mtime: (stat.st_mtime, stat.st_mtime_nsec),
            size: if is_file {
                u64::try_from(stat.st_size)?
            } else {
                0
            },
            allocated: if is_file {
                u64::try_from(stat.st_blocks)? * 512
            } else {
                0
            },
            rdev: if matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) {
                stat.st_rdev
            } else {
                0
            },
            linked_to: self.linked_to(&stat, path),
            target,
            content,
            xattrs: xattrs(&fd)?,
        })
    }

    fn linked_to(&mut self, stat: &Stat, path: &[u8]) -> Option<Vec<u8>> {
        if stat.st_nlink < 2 || FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return None;
        }
        let (first, count) = self
            .links
            .entry((stat.st_dev, stat.st_ino))
            .or_insert_with(|| (path.to_vec(), 0));
        *count += 1;
        Some(first.clone())
    }

    /// An entry whose other names lie outside the tree is linked to nothing here.
    fn drop_single_links(&mut self) {
        for (first, count) in self.links.values() {
            if *count == 1
                && let Some(entry) = self.snapshot.entries.get_mut(first)
            {
                entry.linked_to = None;
            }
        }
    }
}

/// Digest of a file's bytes: of every chunk that is not all zero, with its place. Holes and
/// written zeros read the same, so they count the same, and gigabytes of hole cost nothing.
fn content(dir: BorrowedFd<'_>, name: &std::ffi::CStr, stat: &Stat) -> Result<[u8; 32]> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir, name, flags | OFlags::NOATIME, Mode::empty())
        .or_else(|_| rustix::fs::openat(dir, name, flags, Mode::empty()))?;
    let size = u64::try_from(stat.st_size)?;
    let file = File::from(fd);
    let mut digest = blake3::Hasher::new();
    let zeros = vec![0; usize::try_from(CHUNK)?];
    let mut chunk = zeros.clone();
    let mut offset = 0;
    while offset < size {
        offset = match rustix::fs::seek(&file, SeekFrom::Data(offset)) {
            Ok(data) => data / CHUNK * CHUNK,
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let length = (size - offset).min(CHUNK);
        let part = chunk
            .get_mut(..usize::try_from(length)?)
            .unwrap_or_default();
        file.read_exact_at(part, offset)?;
        if zeros.get(..part.len()) != Some(&*part) {
            digest.update(&offset.to_le_bytes());
            digest.update(part);
        }
        offset += length;
    }
    Ok(*digest.finalize().as_bytes())
}

/// The extended attributes of an entry of any type. Through `/proc/self/fd`, because the calls
/// that take a descriptor refuse one opened with `O_PATH`.
fn xattrs(fd: &OwnedFd) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let mut list = Vec::with_capacity(64 * 1024);
    match rustix::fs::listxattr(&path, spare_capacity(&mut list)) {
        Ok(_) => {}
        Err(Errno::NOTSUP) => return Ok(BTreeMap::new()),
        Err(error) => return Err(error).context("listing attributes"),
    }
    let mut attributes = BTreeMap::new();
    for name in list.split(|byte| *byte == 0) {
        let has = |other: &[u8]| list.split(|byte| *byte == 0).any(|name| name == other);
        // xfs shows its ACLs there a second time.
        let is_twin = match name {
            b"trusted.SGI_ACL_FILE" => has(b"system.posix_acl_access"),
            b"trusted.SGI_ACL_DEFAULT" => has(b"system.posix_acl_default"),
            _ => false,
        };
        if name.is_empty() || is_twin {
            continue;
        }
        let mut value = Vec::with_capacity(64 * 1024);
        rustix::fs::getxattr(&path, name, spare_capacity(&mut value))
            .with_context(|| format!("reading attribute {}", name.escape_ascii()))?;
        attributes.insert(name.to_vec(), value);
    }
    Ok(attributes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn holes_and_zeros_have_one_digest() {
        let scratch = Scratch::new().unwrap();
        let root = scratch.path();
        fs::write(root.join("zeros"), vec![0; 300_000]).unwrap();
        let hole = File::create(root.join("hole")).unwrap();
        hole.set_len(300_000).unwrap();
        fs::write(root.join("other"), [vec![0; 299_999], vec![1]].concat()).unwrap();

        let snapshot = Snapshot::of(root).unwrap();
        let [zeros, hole, other] =
            ["zeros", "hole", "other"].map(|name| &snapshot.entries[name.as_bytes()]);
        assert_eq!(zeros.content, hole.content);
        assert_ne!(zeros.content, other.content);
        assert!(hole.allocated < zeros.allocated);
    }

    #[test]
    fn a_link_to_the_outside_is_no_link() {
        let scratch = Scratch::new().unwrap();
        let (inside, outside) = (scratch.dir("in").unwrap(), scratch.dir("out").unwrap());
        fs::write(inside.join("a"), "x").unwrap();
        fs::hard_link(inside.join("a"), outside.join("a")).unwrap();
        assert_eq!(
            Snapshot::of(&inside).unwrap().entries[b"a".as_slice()].linked_to,
            None
        );

        fs::hard_link(inside.join("a"), inside.join("b")).unwrap();
        let snapshot = Snapshot::of(&inside).unwrap();
        assert_eq!(
            snapshot.entries[b"b".as_slice()].linked_to.as_deref(),
            Some(b"a".as_slice())
        );
    }
}
