//! A volume: the root directory, what its file system is and can prove, and the clocks that the
//! proof rests on.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    sync::LazyLock,
};

use livmig_proto::{
    control::RootFacts,
    entry::{Meta, Time},
    name::{Name, RelPath},
    session::RootMark,
};
use rustix::{
    fs::{Mode, OFlags, StatVfsMountFlags},
    io::Errno,
    thread::CapabilitySet,
    time::{ClockId, clock_gettime},
};

use super::{
    dir,
    lost_found::{self, LOST_AND_FOUND, LostFound},
    metadata::{flags::FlagPlace, owners::Mapping},
    space::reserved::Told,
    stat::{Identity, Kind, Stat},
    sys,
    volume_lock::{Taken, Use, VolumeLock},
};
use crate::random::random;

/// Whose a volume's root directory is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RootOwner {
    /// This process may do with it what its owner may.
    Own,
    /// Somebody else's: its time cannot be set.
    Foreign,
}

/// A volume's root directory, held open.
#[derive(Debug)]
pub struct Volume {
    root: OwnedFd,
    stat: Stat,
    magic: u64,
    root_owner: RootOwner,
    /// Held as long as anybody works on it.
    _claim: Option<VolumeLock>,
    /// What a source's mount may hide.
    mapping: Mapping,
    /// The same tree by a mount that leaves access times alone.
    quiet: Option<OwnedFd>,
    /// Whether reading moves access times.
    updates_access_times: bool,
}

const ROOT: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

const EXT: u64 = 0xef53;
const XFS: u64 = 0x5846_5342;
const BTRFS: u64 = 0x9123_683e;
const TMPFS: u64 = 0x0102_1994;
const NFS: u64 = 0x6969;
const OVERLAY: u64 = 0x794c_7630;
const FUSE: u64 = 0x6573_5546;
const CIFS: u64 = 0xff53_4d42;
const CEPH: u64 = 0x00c3_6400;
const ZFS: u64 = 0x2fc1_2fc1;
const NINE_P: u64 = 0x0102_1997;
const F2FS: u64 = 0xf2f5_2010;

/// The inode of an empty directory that stands for a subvolume of btrfs.
const STAND_IN_INODE: u64 = 2;

/// The inode of the root of every btrfs subvolume.
const SUBVOLUME_INODE: u64 = 256;

impl Volume {
    /// The volume whose root is the directory at `path`.
    pub fn open(path: &Path) -> Result<Self, Errno> {
        Self::with_root(rustix::fs::open(path, ROOT, Mode::empty())?)
    }

    /// The volume whose root is the directory that is held as `handle` (`O_PATH` will do).
    pub fn of_handle(handle: impl AsFd) -> Result<Self, Errno> {
        Self::with_root(rustix::fs::openat(handle, c".", ROOT, Mode::empty())?)
    }

    fn with_root(root: OwnedFd) -> Result<Self, Errno> {
        let stat = Stat::of_fd(&root)?;
        let magic = u64::try_from(rustix::fs::fstatfs(&root)?.f_type).unwrap_or(0);
        Ok(Self {
            root,
            stat,
            magic,
            root_owner: RootOwner::Own,
            _claim: None,
            mapping: Mapping::default(),
            quiet: None,
            updates_access_times: false,
        })
    }

    /// The same volume, which is this process's from now on, to be read or to be written. To be called
    /// before the process is confined.
    pub fn claimed(self, usage: Use) -> Result<Self, Taken> {
        let claim = VolumeLock::take(self.root.as_fd(), usage)?;
        let volume = match usage {
            Use::Reading => self.read_from(),
            Use::Writing => self,
        };
        Ok(Self {
            _claim: Some(claim),
            ..volume
        })
    }

    /// The same volume with what is to be known of its mount when it is read. The files that tell are
    /// out of reach once the process is confined.
    fn read_from(self) -> Self {
        let moves = StatVfsMountFlags::RDONLY | StatVfsMountFlags::NOATIME;
        let fs = rustix::fs::fstatvfs(&self.root);
        Self {
            mapping: Mapping::of(&self.root),
            quiet: sys::clone_without_access_times(self.root.as_fd()).ok(),
            updates_access_times: fs.is_ok_and(|fs| !fs.f_flag.intersects(moves)),
            ..self
        }
    }

    /// Whether the owner of the entry `name` in `dir`, or its group, may be another than `stat` shows.
    pub fn hides_owner(&self, dir: impl AsFd, name: &Name, stat: &Stat) -> bool {
        self.mapping.hides_owner(dir, name, stat)
    }

    /// The same of the root directory.
    pub fn hides_owner_of_root(&self, stat: &Stat) -> bool {
        self.mapping.hides_owner_of_root(&self.root, stat)
    }

    /// A handle (`O_PATH`) on the entry at `path` that leaves its access time alone; nothing where that
    /// cannot be had.
    pub fn open_quietly(&self, path: &RelPath) -> Option<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        dir::open_confined(self.quiet.as_ref()?, path.as_bytes(), flags).ok()
    }

    /// Whether reading what `stat` tells moves its access time, as far as a handle can prevent it.
    pub fn moves_access_time(&self, stat: &Stat) -> bool {
        self.updates_access_times
            && (stat.kind == Kind::Symlink || !may_leave_access_time(stat.identity.uid))
    }

    /// Where the flags of inodes are that `statx` does not tell; nothing where there are none.
    pub fn flag_place(&self) -> Option<FlagPlace> {
        match self.magic {
            EXT | F2FS => Some(FlagPlace::ProjectAndDirectories),
            XFS => Some(FlagPlace::Project),
            BTRFS => Some(FlagPlace::Inode),
            OVERLAY => Some(FlagPlace::Below),
            _ => None,
        }
    }

    /// The same volume, with the root directory of that owner: see
    /// [`Session::foreign_root`](livmig_proto::control::Session::foreign_root).
    pub fn with_root_of(self, root_owner: RootOwner) -> Self {
        Self { root_owner, ..self }
    }

    /// Whose the root directory is.
    pub fn root_owner(&self) -> RootOwner {
        self.root_owner
    }

    /// Whether the root directory belongs to somebody else.
    pub fn has_foreign_root(&self) -> bool {
        self.root_owner == RootOwner::Foreign
    }

    /// What its root is, for the other end.
    pub fn mark(&self) -> RootMark {
        let btime = self.stat.identity.btime;
        RootMark {
            boot: boot_id(),
            device: self.stat.identity.device,
            ino: self.stat.identity.ino,
            birth: (btime.seconds, btime.nanoseconds),
            stacked: self.magic == OVERLAY,
        }
    }

    /// What of the metadata of the directory at `path` is carried: of a root that is somebody
    /// else's, everything but the time.
    pub fn carried(&self, path: &RelPath, meta: Meta) -> Meta {
        if self.has_foreign_root() && path.is_root() {
            Meta {
                mtime: Time::default(),
                ..meta
            }
        } else {
            meta
        }
    }

    /// The root directory's handle, shared by everyone: for resolving below, not for listing.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// What the root was when it was opened.
    pub fn stat(&self) -> &Stat {
        &self.stat
    }

    /// The directory at `path`, opened anew.
    pub fn dir(&self, path: &RelPath) -> Result<OwnedFd, Errno> {
        dir::open_path(&self.root, path)
    }

    /// Whether equal identities prove equal content here. Elsewhere stores through a mapping, or
    /// other machines' writes, leave the timestamps alone.
    pub fn proves_unchanged(&self) -> bool {
        matches!(self.magic, EXT | XFS | BTRFS)
    }

    /// Whether all of `trusted.*` are attributes like others here. On xfs some of them are access control
    /// lists once more, and so they are on what lies on top of one.
    pub fn has_plain_trusted(&self) -> bool {
        matches!(self.magic, EXT | BTRFS | TMPFS)
    }

    /// Whether a file that is said to be empty is. What programs make up as it is read often has no size
    /// before.
    pub fn tells_sizes(&self) -> bool {
        self.proves_unchanged() || self.is_in_memory()
    }

    /// Whether there is no device: what is read back can come from memory alone.
    pub fn is_in_memory(&self) -> bool {
        self.magic == TMPFS
    }

    /// Whether direct reads are worth a try: they spare the page cache and what it costs.
    pub fn has_direct_reads(&self) -> bool {
        matches!(self.magic, EXT | XFS)
    }

    /// Whether `SEEK_HOLE` can be believed after a `syncfs`. In memory a hole is a page that is not
    /// there, or that was reserved and never written.
    pub fn has_true_holes(&self) -> bool {
        self.proves_unchanged() || self.is_in_memory()
    }

    /// How to learn which space is reserved.
    pub fn reservations(&self) -> Told {
        match self.magic {
            TMPFS => Told::Pages,
            XFS => Told::ExtentsAndFlag,
            _ => Told::Extents,
        }
    }

    /// Whether it reserves space for a file, and tells how much.
    pub fn tells_reserved(&self) -> bool {
        matches!(self.magic, EXT | XFS | BTRFS | TMPFS | F2FS)
    }

    /// Whether something else is mounted at the entry `stat`. By what the kernel says of mounts, not
    /// by the device: an overlay shows the devices of its layers, and a btrfs subvolume has one of
    /// its own. Before Linux 5.8 only the device of a directory tells.
    pub fn is_mount(&self, stat: &Stat) -> bool {
        stat.attributes.is_mount_root().unwrap_or(
            stat.kind == Kind::Directory && stat.identity.device != self.stat.identity.device,
        )
    }

    /// Whether the directory `stat` below the root is the root of a btrfs subvolume or snapshot.
    pub fn is_subvolume(&self, stat: &Stat) -> bool {
        self.magic == BTRFS
            && stat.kind == Kind::Directory
            && stat.identity.ino == SUBVOLUME_INODE
            && stat.identity.device != self.stat.identity.device
    }

    /// Whether `stat` is of an empty directory that stands for a subvolume in a snapshot: those within
    /// what the snapshot is of are not in it.
    pub fn is_stand_in(&self, stat: &Stat) -> bool {
        self.magic == BTRFS && stat.kind == Kind::Directory && stat.identity.ino == STAND_IN_INODE
    }

    /// What the directory that looks like `stat` is as far as that stays the same from look to look: of
    /// one that stands for a subvolume the kernel makes the times up.
    pub fn steady(&self, stat: Stat) -> Stat {
        if !self.is_stand_in(&stat) {
            return stat;
        }
        let (btime, mtime, ctime) = <(Time, Time, Time)>::default();
        Stat {
            identity: Identity {
                btime,
                mtime,
                ctime,
                ..stat.identity
            },
            ..stat
        }
    }

    /// What `name` in the root is, if it is the `lost+found` that the file system keeps for itself.
    ///
    /// # Errors
    /// When it cannot be listed, although it may.
    pub fn lost_and_found(&self, name: &Name, stat: &Stat) -> Result<Option<LostFound>, Errno> {
        if self.magic == EXT && lost_found::is_own(&self.stat, name, stat) {
            return lost_found::look(&self.root, name).map(Some);
        }
        Ok(None)
    }

    /// Whether `name` in the root is the file system's own and no part of the volume's content, as far
    /// as this process may know.
    pub fn is_own(&self, name: &Name, stat: &Stat) -> bool {
        let found = self.lost_and_found(name, stat);
        matches!(found, Ok(Some(LostFound::Empty | LostFound::Closed)))
    }

    /// Whether the file system keeps a `lost+found` of its own in the root.
    pub fn has_lost_and_found(&self) -> bool {
        Name::new(LOST_AND_FOUND).is_ok_and(|name| {
            Stat::of_entry(&self.root, &name)
                .is_ok_and(|stat| self.magic == EXT && lost_found::is_own(&self.stat, &name, &stat))
        })
    }

    /// Writes all dirty pages of the file system back, and write-protects mapped ones, so that a
    /// later store through a mapping moves the change time.
    pub fn sync(&self) -> Result<(), Errno> {
        rustix::fs::syncfs(&self.root)
    }

    /// Whether the root directory holds nothing but what is the file system's own.
    pub fn is_empty(&self) -> Result<bool, Errno> {
        for name in dir::list(self.dir(&RelPath::ROOT)?)? {
            match Stat::of_entry(&self.root, &name) {
                Ok(stat) if self.is_own(&name, &stat) => {}
                Err(Errno::NOENT) => {}
                Ok(_) => return Ok(false),
                Err(errno) => return Err(errno),
            }
        }
        Ok(true)
    }

    /// Bytes and inodes that this process may still take; no number of inodes where the file system
    /// does not count them.
    pub fn available(&self) -> Result<(u64, Option<u64>), Errno> {
        let fs = rustix::fs::fstatvfs(&self.root)?;
        let inodes = (fs.f_files > 0).then_some(fs.f_favail);
        Ok((fs.f_bavail.saturating_mul(fs.f_frsize), inodes))
    }

    /// What a coordinator wants to know.
    pub fn facts(&self) -> Result<RootFacts, Errno> {
        let fs = rustix::fs::fstatvfs(&self.root)?;
        Ok(RootFacts {
            filesystem: self.filesystem(),
            proves_unchanged: self.proves_unchanged(),
            bytes_total: fs.f_blocks.saturating_mul(fs.f_frsize),
            bytes_available: fs.f_bavail.saturating_mul(fs.f_frsize),
            inodes_total: fs.f_files,
            inodes_available: fs.f_favail,
            empty: self.is_empty()?,
        })
    }

    /// What kind its file system is.
    pub fn filesystem(&self) -> String {
        match self.magic {
            EXT => "ext",
            XFS => "xfs",
            BTRFS => "btrfs",
            TMPFS => "tmpfs",
            NFS => "nfs",
            OVERLAY => "overlay",
            FUSE => "fuse",
            CIFS => "cifs",
            CEPH => "ceph",
            ZFS => "zfs",
            NINE_P => "9p",
            other => return format!("{other:#x}"),
        }
        .to_owned()
    }
}

/// Whether this process may leave the access time of what `owner` has alone.
fn may_leave_access_time(owner: u32) -> bool {
    static PRIVILEGED: LazyLock<bool> = LazyLock::new(|| {
        rustix::thread::capabilities(None)
            .is_ok_and(|sets| sets.effective.contains(CapabilitySet::FOWNER))
    });
    *PRIVILEGED || owner == rustix::process::geteuid().as_raw()
}

/// Blocks below which a file system is as good as full: what it keeps for its own use differs.
const FULL: u64 = 64;

/// Whether the file system of `fd` has no room left, so that an attribute which could not be
/// stored says nothing about attributes.
pub fn is_full(fd: impl AsFd) -> bool {
    rustix::fs::fstatvfs(fd)
        .is_ok_and(|fs| fs.f_bavail < FULL || fs.f_favail == 0 && fs.f_files > 0)
}

/// This boot of the kernel. Read once, and before the process is confined ([`remember_boot`]):
/// afterwards the kernel's file is out of reach.
///
/// Where it cannot be read the answer is unlike any other, so that nothing which an earlier
/// process left is believed.
pub fn boot_id() -> String {
    BOOT.clone()
}

/// Reads what [`boot_id`] will answer.
pub fn remember_boot() {
    LazyLock::force(&BOOT);
}

static BOOT: LazyLock<String> = LazyLock::new(|| {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map_or_else(
        |_| format!("unknown {}", livmig_proto::hex::encode(&random::<16>())),
        |id| id.trim().to_owned(),
    )
});

/// The clock that file systems stamp with.
pub fn now() -> Time {
    let now = clock_gettime(ClockId::RealtimeCoarse);
    Time {
        seconds: now.tv_sec,
        nanoseconds: u32::try_from(now.tv_nsec).unwrap_or(0),
    }
}

/// Nanoseconds between the wall clock and the one that counts from boot; it moves only when
/// somebody steps the wall clock.
pub fn clock_offset() -> i128 {
    let nanos = |clock| {
        let time = clock_gettime(clock);
        i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
    };
    nanos(ClockId::Realtime) - nanos(ClockId::Boottime)
}
