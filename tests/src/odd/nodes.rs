//! What the kernel knows of the backing tree: a handle for each inode that it was shown.

use std::{
    collections::HashMap,
    ffi::OsStr,
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::{
    fs::{CWD, Mode, OFlags, Stat},
    io::Errno,
};

/// The number that the kernel has for the root.
const ROOT: u64 = 1;

/// One inode of the backing tree.
#[derive(Debug)]
pub(super) struct Node {
    /// Opened with `O_PATH`: it stays the same inode whatever becomes of its names.
    pub(super) fd: OwnedFd,
    /// Whether it was found by a name that is struck.
    struck: AtomicBool,
}

impl Node {
    /// A path that leads to the inode itself, for calls that take no such handle.
    pub(super) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.fd.as_raw_fd()).into()
    }

    /// As it is in the backing tree.
    pub(super) fn stat(&self) -> Result<Stat, Errno> {
        rustix::fs::fstat(&self.fd)
    }

    /// Whether it was found by a name that is struck.
    pub(super) fn is_struck(&self) -> bool {
        self.struck.load(Ordering::Relaxed)
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Nodes {
    table: Mutex<Table>,
    /// The name of the entries that are struck; all, if there is none.
    victim: Vec<u8>,
}

#[derive(Debug)]
struct Table {
    by_id: HashMap<u64, (Arc<Node>, Key, u64)>,
    by_key: HashMap<Key, u64>,
    next: u64,
}

/// Device and inode in the backing tree.
type Key = (u64, u64);

impl Nodes {
    /// Those of the tree at `backing`; `victim` names the entries that are struck.
    pub(super) fn new(backing: &Path, victim: &OsStr) -> Result<Self, Errno> {
        let victim = victim.as_encoded_bytes().to_vec();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, backing, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&fd)?;
        let struck = AtomicBool::new(victim.is_empty());
        let key = (stat.st_dev, stat.st_ino);
        let root = (Arc::new(Node { fd, struck }), key, u64::MAX);
        Ok(Self {
            table: Mutex::new(Table {
                by_id: HashMap::from([(ROOT, root)]),
                by_key: HashMap::from([(key, ROOT)]),
                next: ROOT + 1,
            }),
            victim,
        })
    }

    /// Whether entries of this name are struck.
    pub(super) fn strikes(&self, name: &OsStr) -> bool {
        self.victim.is_empty() || self.victim == name.as_encoded_bytes()
    }

    /// The node of a number that the kernel was told.
    pub(super) fn get(&self, id: u64) -> Result<Arc<Node>, Errno> {
        let table = self.table();
        let (node, ..) = table.by_id.get(&id).ok_or(Errno::STALE)?;
        Ok(node.clone())
    }

    /// Finds `name` in `parent`, for the kernel to know: the node, its number and how it is.
    pub(super) fn find(
        &self,
        parent: &Node,
        name: &OsStr,
    ) -> Result<(u64, Arc<Node>, Stat), Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&parent.fd, name, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&fd)?;
        let key = (stat.st_dev, stat.st_ino);
        let mut table = self.table();
        let table = &mut *table;
        let id = *table.by_key.entry(key).or_insert(table.next);
        if id == table.next {
            table.next += 1;
        }
        let struck = AtomicBool::new(false);
        let (node, _, known) = table
            .by_id
            .entry(id)
            .or_insert_with(|| (Arc::new(Node { fd, struck }), key, 0));
        *known = known.saturating_add(1);
        if self.strikes(name) {
            node.struck.store(true, Ordering::Relaxed);
        }
        Ok((id, node.clone(), stat))
    }

    /// The kernel forgets `times` finds of a number.
    pub(super) fn forget(&self, id: u64, times: u64) {
        let mut table = self.table();
        let Some((_, key, known)) = table.by_id.get_mut(&id) else {
            return;
        };
        let key = *key;
        *known = known.saturating_sub(times);
        if *known == 0 {
            table.by_id.remove(&id);
            table.by_key.remove(&key);
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
