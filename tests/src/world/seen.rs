//! What the judge sees of a tree: all of it, mounts included, by nobody's rules.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, File},
    io::Read as _,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use rustix::{
    buffer::spare_capacity,
    fs::{IFlags, OFlags},
    io::Errno,
};

/// A tree by path relative to its root, which is `.`.
pub type Tree = BTreeMap<Vec<u8>, Seen>;

/// One entry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Seen {
    /// Type and permissions.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u32, u32),
    /// Modification time: seconds, nanoseconds.
    pub mtime: (i64, i64),
    /// Change time: seconds, nanoseconds.
    pub ctime: (i64, i64),
    /// Bytes of a file's content, as they are read.
    pub size: u64,
    /// Digest of them.
    pub content: Option<[u8; 32]>,
    /// Bytes of storage.
    pub allocated: u64,
    /// A device's number.
    pub rdev: u64,
    /// Where a symbolic link points.
    pub target: Option<Vec<u8>>,
    /// Extended attributes.
    pub attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Inode flags that mean something to who uses the file.
    pub flags: u32,
    /// Device and inode, where it is no directory.
    pub inode: Option<(u64, u64)>,
    /// How many names it has, in and out of the tree.
    pub links: u64,
}

/// Flags that are told when they do not come along.
const FLAGS: IFlags = IFlags::IMMUTABLE.union(IFlags::APPEND).union(IFlags::NOCOW);

/// All of the tree at `root`.
pub fn tree(root: &Path) -> Result<Tree> {
    let mut tree = Tree::new();
    for path in paths(root)? {
        let at = under(root, &path);
        let seen = entry(&at).with_context(|| format!("looking at {}", at.display()))?;
        tree.insert(path, seen);
    }
    Ok(tree)
}

/// The names alone, relative to `root`. What goes while this looks is left out.
pub fn paths(root: &Path) -> Result<Vec<Vec<u8>>> {
    let mut found = vec![b".".to_vec()];
    let mut left = vec![PathBuf::new()];
    while let Some(dir) = left.pop() {
        let listing = match fs::read_dir(root.join(&dir)) {
            Ok(listing) => listing,
            Err(error) if dir.as_os_str().is_empty() => return Err(error.into()),
            Err(_) => continue,
        };
        for entry in listing {
            let Ok(entry) = entry else { continue };
            let path = dir.join(entry.file_name());
            let Ok(stat) = root.join(&path).symlink_metadata() else {
                continue;
            };
            found.push(path.as_os_str().as_bytes().to_vec());
            if stat.is_dir() {
                left.push(path);
            }
        }
    }
    Ok(found)
}

/// Where the entry `path` of the tree at `root` is.
pub fn under(root: &Path, path: &[u8]) -> PathBuf {
    if path == b"." {
        root.to_owned()
    } else {
        root.join(OsStr::from_bytes(path))
    }
}

/// One entry.
pub fn entry(at: &Path) -> Result<Seen> {
    let stat = at.symlink_metadata()?;
    let kind = stat.file_type();
    let (size, content) = if kind.is_file() {
        let (size, content) = content(at)?;
        (size, Some(content))
    } else {
        (0, None)
    };
    let target = if kind.is_symlink() {
        Some(fs::read_link(at)?.into_os_string().into_encoded_bytes())
    } else {
        None
    };
    Ok(Seen {
        mode: stat.mode(),
        owner: (stat.uid(), stat.gid()),
        mtime: (stat.mtime(), stat.mtime_nsec()),
        ctime: (stat.ctime(), stat.ctime_nsec()),
        size,
        content,
        allocated: if kind.is_file() {
            stat.blocks() * 512
        } else {
            0
        },
        rdev: if kind.is_char_device() || kind.is_block_device() {
            stat.rdev()
        } else {
            0
        },
        target,
        attributes: attributes(at)?,
        flags: if kind.is_file() || kind.is_dir() {
            flags(at)
        } else {
            0
        },
        inode: (!kind.is_dir()).then(|| (stat.dev(), stat.ino())),
        links: stat.nlink(),
    })
}

/// Size and digest of what is read, whatever the size is said to be.
fn content(at: &Path) -> Result<(u64, [u8; 32])> {
    let mut file = quiet(at)?;
    let mut digest = blake3::Hasher::new();
    let mut buffer = vec![0; 128 * 1024];
    let mut size = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((size, *digest.finalize().as_bytes()));
        }
        digest.update(buffer.get(..read).unwrap_or_default());
        size += u64::try_from(read)?;
    }
}

/// Opened without moving its access time.
fn quiet(at: &Path) -> Result<File> {
    let flags = (OFlags::NOATIME | OFlags::NONBLOCK).bits().cast_signed();
    let mut options = File::options();
    options.read(true);
    options
        .clone()
        .custom_flags(flags)
        .open(at)
        .or_else(|_| options.open(at))
        .context("opening it")
}

/// Its extended attributes.
pub fn attributes(at: &Path) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut list = Vec::with_capacity(64 * 1024);
    match rustix::fs::llistxattr(at, spare_capacity(&mut list)) {
        Ok(_) => {}
        Err(Errno::NOTSUP) => return Ok(BTreeMap::new()),
        Err(error) => return Err(error).context("listing attributes"),
    }
    let mut attributes = BTreeMap::new();
    for name in list.split(|byte| *byte == 0) {
        // xfs shows each ACL once more under a name of its own.
        if name.is_empty() || name.starts_with(b"trusted.SGI_ACL_") {
            continue;
        }
        let mut value = Vec::with_capacity(64 * 1024);
        rustix::fs::lgetxattr(at, name, spare_capacity(&mut value))
            .with_context(|| format!("reading attribute {}", name.escape_ascii()))?;
        attributes.insert(name.to_vec(), value);
    }
    Ok(attributes)
}

fn flags(at: &Path) -> u32 {
    let Ok(file) = quiet(at) else { return 0 };
    rustix::fs::ioctl_getflags(&file).map_or(0, |flags| (flags & FLAGS).bits())
}
