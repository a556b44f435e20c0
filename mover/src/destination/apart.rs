//! Names that a pass leaves as they are, whatever stands under them.

use std::{
    collections::BTreeSet,
    os::fd::OwnedFd,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use livmig_proto::{
    control::{Fault, Side},
    entry::Meta,
    frame::ApartKind,
    name::{Name, RelPath},
};
use rustix::{
    fs::{AtFlags, FileType, Mode},
    io::Errno,
};

use super::{metadata, state::Destination};
use crate::{
    fault,
    fs::{lost_found::LOST_AND_FOUND, stat::Stat},
};

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

    fn insert(&self, path: RelPath) {
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

impl Destination {
    /// Whether what stands at `path` and looks like `stat` is left as it is. So is what somebody has
    /// mounted below the destination.
    pub(super) fn is_apart(&self, path: &RelPath, stat: &Stat) -> bool {
        self.volume.is_mount(stat) || self.apart.contains(path)
    }

    /// Whether `name` in `directory` is the file system's own and no part of the volume's content.
    pub(super) fn is_own(&self, directory: &RelPath, name: &Name, stat: &Stat) -> bool {
        directory.is_root()
            && self.volume.is_own(name, stat)
            && !self.apart.lost_and_found.load(Ordering::SeqCst)
    }

    /// From here on `path` is left as it is. Where nothing is, an empty entry is made.
    pub(super) fn set_apart(
        &self,
        dir: &OwnedFd,
        name: &Name,
        path: RelPath,
        meta: &Meta,
        kind: ApartKind,
    ) -> Result<(), Fault> {
        let failed = |what: &str, errno| fault::at(Side::Destination, &path, what, errno);
        let made = match Stat::of_entry(dir, name) {
            Ok(_) => Ok(false),
            Err(Errno::NOENT) => make(dir, name, kind).map(|()| true),
            Err(errno) => return Err(failed("look at the entry", errno)),
        };
        if made.map_err(|errno| failed("make the mount point", errno))? {
            metadata::to_entry(dir, name, &path, meta, self.view())?;
        }
        self.forget(&path)?;
        self.apart.insert(path);
        Ok(())
    }

    /// Before a directory `name` is made in `directory`: where the file system keeps an empty
    /// `lost+found` under this name, it makes way for the volume's own, which a check of the file
    /// system will then use.
    pub(super) fn make_way(
        &self,
        directory: &RelPath,
        dir: &OwnedFd,
        name: &Name,
    ) -> Result<(), Errno> {
        if !directory.is_root() || name.as_bytes() != LOST_AND_FOUND {
            return Ok(());
        }
        let own = Stat::of_entry(dir, name).is_ok_and(|stat| self.volume.is_own(name, &stat));
        self.apart.lost_and_found.store(true, Ordering::SeqCst);
        if own {
            rustix::fs::unlinkat(dir, name.as_os_str(), AtFlags::REMOVEDIR)?;
        }
        Ok(())
    }
}

fn make(dir: &OwnedFd, name: &Name, kind: ApartKind) -> Result<(), Errno> {
    match kind {
        ApartKind::Directory => rustix::fs::mkdirat(dir, name.as_os_str(), Mode::RWXU),
        ApartKind::File => {
            let mode = Mode::RUSR | Mode::WUSR;
            rustix::fs::mknodat(dir, name.as_os_str(), FileType::RegularFile, mode, 0)
        }
    }
}
