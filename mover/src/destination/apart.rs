//! Names that a pass leaves as they are, whatever stands under them.

use std::{
    collections::BTreeSet,
    os::fd::OwnedFd,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use livmig_proto::name::{Name, RelPath};
use rustix::{fs::AtFlags, io::Errno};

use crate::fs::{lost_found::LOST_AND_FOUND, stat::Stat, volume::Volume};

/// What the source has said in this pass of names that are no ordinary content.
#[derive(Debug, Default)]
pub struct Apart {
    /// Those that are left as they are.
    paths: Mutex<BTreeSet<RelPath>>,
    /// Whether there are any: mostly there are none, and every entry is asked about.
    any: AtomicBool,
    /// `lost+found` in the root is a directory like any other.
    lost_and_found: AtomicBool,
}

impl Apart {
    /// These names, without a source that says so.
    pub fn of(paths: BTreeSet<RelPath>) -> Self {
        Self {
            any: AtomicBool::new(!paths.is_empty()),
            paths: Mutex::new(paths),
            ..Self::default()
        }
    }

    /// Forgets all: a pass begins, and will say it again.
    pub fn clear(&self) {
        self.lock().clear();
        self.any.store(false, Ordering::SeqCst);
        self.lost_and_found.store(false, Ordering::SeqCst);
    }

    /// The names.
    pub fn paths(&self) -> BTreeSet<RelPath> {
        self.lock().clone()
    }

    /// Whether what stands at `path` of `volume` and looks like `stat` is left as it is. So is what
    /// somebody has mounted below the destination.
    pub(super) fn holds(&self, volume: &Volume, path: &RelPath, stat: &Stat) -> bool {
        volume.is_mount(stat) || self.contains(path)
    }

    /// Whether `name` in `directory` is the file system's own and no part of the volume's content.
    pub(super) fn is_own(
        &self,
        volume: &Volume,
        directory: &RelPath,
        name: &Name,
        stat: &Stat,
    ) -> bool {
        directory.is_root()
            && volume.is_own(name, stat)
            && !self.lost_and_found.load(Ordering::SeqCst)
    }

    /// Before a directory `name` is made in the root `dir` of `volume`: where the file system keeps an
    /// empty `lost+found` under this name, it makes way for the volume's own, which a check of the file
    /// system will then use.
    pub(super) fn make_way(
        &self,
        volume: &Volume,
        dir: &OwnedFd,
        name: &Name,
    ) -> Result<(), Errno> {
        if name.as_bytes() != LOST_AND_FOUND {
            return Ok(());
        }
        let own = Stat::of_entry(dir, name).is_ok_and(|stat| volume.is_own(name, &stat));
        self.lost_and_found.store(true, Ordering::SeqCst);
        if own {
            rustix::fs::unlinkat(dir, name.as_os_str(), AtFlags::REMOVEDIR)?;
        }
        Ok(())
    }

    /// From here on `path` is left as it is.
    pub(super) fn insert(&self, path: RelPath) {
        self.lock().insert(path);
        self.any.store(true, Ordering::SeqCst);
    }

    fn contains(&self, path: &RelPath) -> bool {
        self.any.load(Ordering::SeqCst) && self.lock().contains(path)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<RelPath>> {
        self.paths.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
