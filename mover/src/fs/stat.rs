//! What `statx` says of an entry, and what of it identifies a state of the entry.

use std::os::fd::AsFd;

use livmig_proto::{
    entry::Time,
    name::Name,
    wire::{DecodeError, Decoder, Encoder},
};
use rustix::{
    fs::{AtFlags, Statx, StatxFlags, StatxTimestamp},
    io::Errno,
};

/// What an entry is, before anything of it was read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A fifo.
    Fifo,
    /// A Unix socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// Everything that changes when an entry does: equal identities, taken far enough apart, prove
/// that nothing happened in between.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Identity {
    /// Inode number.
    pub ino: u64,
    /// The device that it is a number of: each subvolume of btrfs counts for itself, and two may have
    /// been made alike and swapped.
    pub device: (u32, u32),
    /// Time of birth, which tells two lives of one inode number apart; zero where unknown.
    pub btime: Time,
    /// Size in bytes.
    pub size: u64,
    /// Modification time.
    pub mtime: Time,
    /// Change time: set by the kernel alone, at every change of content or metadata.
    pub ctime: Time,
    /// Type and permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Links.
    pub nlink: u32,
}

/// What tells an inode from all others of this machine, says its file system.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Inode {
    /// The device; subvolumes and the layers of an overlay have their own.
    pub device: (u32, u32),
    /// Its number there.
    pub ino: u64,
}

/// Up to this many bytes a file is read whole and sent whole.
pub const SMALL: u64 = 128 << 10;

/// One answer of `statx`.
#[derive(Clone, Copy, Debug)]
pub struct Stat {
    /// What identifies its state.
    pub identity: Identity,
    /// What it is.
    pub kind: Kind,
    /// Allocated 512-byte blocks.
    pub blocks: u64,
    /// Bytes of a block that the file system prefers.
    pub block: u32,
    /// The device it is.
    pub rdev: (u32, u32),
    /// What the file system says of it besides.
    pub attributes: Attributes,
}

/// Attributes that come with every `statx` and cost nothing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Attributes {
    /// Those that are set.
    set: u64,
    /// Those that the kernel and the file system would tell of.
    told: u64,
}

// From linux/stat.h.
const IMMUTABLE: u64 = 0x10;
const APPEND: u64 = 0x20;
const NODUMP: u64 = 0x40;
const ENCRYPTED: u64 = 0x800;
const MOUNT_ROOT: u64 = 0x2000;
const VERITY: u64 = 0x10_0000;

impl Attributes {
    /// Whether something is mounted here; none where the kernel does not tell (before Linux 5.8).
    pub fn is_mount_root(self) -> Option<bool> {
        (self.told & MOUNT_ROOT != 0).then_some(self.set & MOUNT_ROOT != 0)
    }

    /// Whether there is a flag that is told of and not carried.
    pub fn has_flags(self) -> bool {
        self.set & (IMMUTABLE | APPEND | NODUMP | VERITY) != 0
    }

    /// Whether it is encrypted by its file system (fscrypt).
    pub fn is_encrypted(self) -> bool {
        self.set & ENCRYPTED != 0
    }

    /// Whether fs-verity protects it.
    pub fn has_verity(self) -> bool {
        self.set & VERITY != 0
    }

    /// Whether nobody may change it.
    pub fn is_immutable(self) -> bool {
        self.set & IMMUTABLE != 0
    }

    /// Whether it may only grow.
    pub fn is_append_only(self) -> bool {
        self.set & APPEND != 0
    }

    /// Whether backups are asked to pass it over.
    pub fn is_nodump(self) -> bool {
        self.set & NODUMP != 0
    }
}

impl Stat {
    /// Of the open file `fd` (`O_PATH` will do).
    pub fn of_fd(fd: impl AsFd) -> Result<Self, Errno> {
        Self::from_statx(&rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, mask())?)
    }

    /// Of the entry `name` in the directory `dir`, symbolic links not followed.
    pub fn of_entry(dir: impl AsFd, name: &Name) -> Result<Self, Errno> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        Self::from_statx(&rustix::fs::statx(dir, name.as_os_str(), flags, mask())?)
    }

    /// Whether it could have a content proof shared with other names.
    pub fn has_links(&self) -> bool {
        self.kind != Kind::Directory && self.identity.nlink > 1
    }

    /// The inode it is.
    pub fn inode(&self) -> Inode {
        Inode {
            device: self.identity.device,
            ino: self.identity.ino,
        }
    }

    /// Whether `now` is the same inode, in the same life.
    pub fn is_same_inode(&self, now: &Self) -> bool {
        self.inode() == now.inode() && self.identity.btime == now.identity.btime
    }

    /// Allocated bytes.
    pub fn allocated(&self) -> u64 {
        self.blocks.saturating_mul(512)
    }

    /// Whether it takes less space than its size: it has holes (or is stored in its inode).
    pub fn is_sparse(&self) -> bool {
        self.allocated() < self.identity.size
    }

    /// Whether it takes more space than its size: some of it is reserved beyond the end (or holds
    /// what is no content, for which a block is left here).
    pub fn has_reserve(&self) -> bool {
        const BLOCK: u64 = 4096;
        let size = self.identity.size.next_multiple_of(BLOCK);
        self.kind == Kind::File && self.allocated() > size + BLOCK
    }

    /// Whether its space shows that it has holes, or space that is no content.
    pub fn shows_holes(&self) -> bool {
        self.is_sparse() || self.has_reserve()
    }

    /// Whether it may have holes, or space that is no content. One that takes as much as its size has
    /// neither, or both: a large one is asked, in a small one what hides the other is little.
    pub fn may_have_holes(&self) -> bool {
        self.shows_holes() || self.identity.size > SMALL
    }

    fn from_statx(statx: &Statx) -> Result<Self, Errno> {
        let mode = u32::from(statx.stx_mode);
        Ok(Self {
            identity: Identity {
                ino: statx.stx_ino,
                device: (statx.stx_dev_major, statx.stx_dev_minor),
                btime: if statx.stx_mask & StatxFlags::BTIME.bits() == 0 {
                    Time::default()
                } else {
                    time(statx.stx_btime)
                },
                size: statx.stx_size,
                mtime: time(statx.stx_mtime),
                ctime: time(statx.stx_ctime),
                mode,
                uid: statx.stx_uid,
                gid: statx.stx_gid,
                nlink: statx.stx_nlink,
            },
            kind: kind(mode)?,
            blocks: statx.stx_blocks,
            block: statx.stx_blksize,
            rdev: (statx.stx_rdev_major, statx.stx_rdev_minor),
            attributes: Attributes {
                set: statx.stx_attributes.bits(),
                told: statx.stx_attributes_mask.bits(),
            },
        })
    }
}

impl Identity {
    /// Whether it is `other` but for the inode number, which some file systems make up anew whenever
    /// they are asked.
    pub fn is_like(&self, other: &Self) -> bool {
        *self
            == Self {
                ino: self.ino,
                ..*other
            }
    }

    /// How long its bytes are.
    pub const BYTES: usize = 8 + 3 * 12 + 8 + 6 * 4;

    /// Its bytes, to be sorted by.
    pub fn bytes(&self) -> [u8; Self::BYTES] {
        let mut out = Encoder::with_capacity(Self::BYTES);
        self.encode(&mut out);
        let mut bytes = [0; Self::BYTES];
        for (to, from) in bytes.iter_mut().zip(out.as_slice()) {
            *to = *from;
        }
        bytes
    }

    /// Appends its bytes.
    pub fn encode(&self, out: &mut Encoder) {
        out.u64(self.ino);
        for time in [self.btime, self.mtime, self.ctime] {
            out.i64(time.seconds);
            out.u32(time.nanoseconds);
        }
        out.u64(self.size);
        let (major, minor) = self.device;
        for number in [self.mode, self.uid, self.gid, self.nlink, major, minor] {
            out.u32(number);
        }
    }

    /// Takes its bytes.
    pub fn decode(input: &mut Decoder) -> Result<Self, DecodeError> {
        let ino = input.u64()?;
        let mut times = [Time::default(); 3];
        for time in &mut times {
            *time = Time {
                seconds: input.i64()?,
                nanoseconds: input.u32()?,
            };
        }
        let [btime, mtime, ctime] = times;
        Ok(Self {
            ino,
            btime,
            mtime,
            ctime,
            size: input.u64()?,
            mode: input.u32()?,
            uid: input.u32()?,
            gid: input.u32()?,
            nlink: input.u32()?,
            device: (input.u32()?, input.u32()?),
        })
    }
}

fn mask() -> StatxFlags {
    StatxFlags::BASIC_STATS | StatxFlags::BTIME
}

fn time(stamp: StatxTimestamp) -> Time {
    Time {
        seconds: stamp.tv_sec,
        nanoseconds: stamp.tv_nsec,
    }
}

fn kind(mode: u32) -> Result<Kind, Errno> {
    use rustix::fs::FileType;
    Ok(match FileType::from_raw_mode(mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        FileType::CharacterDevice => Kind::CharDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::Unknown => return Err(Errno::INVAL),
    })
}
