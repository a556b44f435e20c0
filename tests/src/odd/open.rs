//! What the kernel has open: files, and the listings of directories.

use std::{
    collections::HashMap,
    ffi::OsString,
    fs::File,
    os::unix::ffi::OsStringExt as _,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use fuser::FileType;
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

use super::{nodes::Node, shown};

/// An entry of a listing: inode number, kind, name.
pub(super) type Listed = (u64, FileType, OsString);

/// Something open.
#[derive(Debug)]
pub(super) enum Handle {
    /// A file of the backing tree.
    File(File),
    /// What a directory held when it was listed from its beginning.
    Listing(Mutex<Vec<Listed>>),
}

/// All that is open.
#[derive(Debug, Default)]
pub(super) struct Open {
    table: Mutex<HashMap<u64, Arc<Handle>>>,
    next: AtomicU64,
}

impl Open {
    /// A number for something open.
    pub(super) fn keep(&self, handle: Handle) -> u64 {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.table().insert(id, Arc::new(handle));
        id
    }

    /// What a number stands for.
    pub(super) fn get(&self, id: u64) -> Result<Arc<Handle>, Errno> {
        self.table().get(&id).cloned().ok_or(Errno::BADF)
    }

    /// Closes it.
    pub(super) fn close(&self, id: u64) {
        self.table().remove(&id);
    }

    fn table(&self) -> MutexGuard<'_, HashMap<u64, Arc<Handle>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handle {
    /// The file that it is.
    pub(super) fn file(&self) -> Result<&File, Errno> {
        match self {
            Self::File(file) => Ok(file),
            Self::Listing(_) => Err(Errno::BADF),
        }
    }

    /// The listing that it is.
    pub(super) fn listing(&self) -> Result<MutexGuard<'_, Vec<Listed>>, Errno> {
        match self {
            Self::Listing(listed) => Ok(listed.lock().unwrap_or_else(PoisonError::into_inner)),
            Self::File(_) => Err(Errno::BADF),
        }
    }
}

/// What a directory of the backing tree holds now.
pub(super) fn list(node: &Node) -> Result<Vec<Listed>, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOATIME;
    let dir = rustix::fs::open(node.path(), flags, Mode::empty())?;
    let mut listed = Vec::new();
    for entry in rustix::fs::Dir::read_from(&dir)? {
        let entry = entry?;
        let name = OsString::from_vec(entry.file_name().to_bytes().to_vec());
        let kind = entry.file_type().as_raw_mode();
        listed.push((entry.ino(), shown::kind(kind), name));
    }
    Ok(listed)
}
