//! Attributes in the bytes that the kernel keeps them in, and the calls that std does not have.

use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, UTIME_OMIT, XattrFlags},
    io::Errno,
};

/// Sets attribute `name` of the entry itself, also of a symbolic link. Whether the file system
/// keeps such attributes.
pub fn set_xattr(path: &Path, name: impl AsRef<[u8]>, value: &[u8]) -> Result<bool> {
    match rustix::fs::lsetxattr(path, name.as_ref(), value, XattrFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::NOTSUP) => Ok(false),
        Err(error) => Err(error).with_context(|| {
            format!(
                "setting {} of {}",
                name.as_ref().escape_ascii(),
                path.display()
            )
        }),
    }
}

/// An access or default ACL that gives user `user` the permissions `permissions` (4 read, 2
/// write, 1 execute) beside owner `rwx`, group `r--` and nothing for others.
pub fn acl(user: u32, permissions: u16) -> Vec<u8> {
    const ANY: u32 = u32::MAX;
    // (tag, permissions, id): owner, a user, group, mask, others, in the order the kernel wants.
    let entries = [
        (0x01, 7, ANY),
        (0x02, permissions, user),
        (0x04, 4, ANY),
        (0x10, 6, ANY),
        (0x20, 0, ANY),
    ];
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend_from_slice(&u16::to_le_bytes(tag));
        bytes.extend_from_slice(&u16::to_le_bytes(permissions));
        bytes.extend_from_slice(&u32::to_le_bytes(id));
    }
    bytes
}

/// A file capability set (`security.capability`, revision 2) that permits the capabilities in
/// the bit mask `permitted` and makes them effective.
pub fn capability(permitted: u32) -> Vec<u8> {
    [0x0200_0001, permitted, 0, 0, 0]
        .into_iter()
        .flat_map(u32::to_le_bytes)
        .collect()
}

/// Sets the modification time of the entry itself; its access time stays.
pub fn set_mtime(path: &Path, seconds: i64, nanoseconds: i64) -> Result<()> {
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: seconds,
            tv_nsec: nanoseconds,
        },
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
        .with_context(|| format!("setting the time of {}", path.display()))
}

/// The modification time of the entry itself.
pub fn mtime(path: &Path) -> Result<(i64, i64)> {
    let stat = rustix::fs::lstat(path)?;
    Ok((stat.st_mtime, i64::try_from(stat.st_mtime_nsec)?))
}

/// Sets permission bits, suid, sgid and sticky included.
pub fn set_mode(path: &Path, mode: u32) -> Result<()> {
    rustix::fs::chmod(path, Mode::from_raw_mode(mode))
        .with_context(|| format!("setting the mode of {}", path.display()))
}

/// Makes a fifo, socket or device.
pub fn make_node(path: &Path, kind: FileType, major: u32, minor: u32) -> Result<()> {
    let mode = Mode::from_raw_mode(0o640);
    rustix::fs::mknodat(CWD, path, kind, mode, rustix::fs::makedev(major, minor))
        .with_context(|| format!("making node {}", path.display()))
}
