//! How an inode of the backing tree is shown.

use std::time::{Duration, SystemTime};

use fuser::{FileAttr, FileType, INodeNo};
use rustix::fs::Stat;

use super::oddity::Oddity;

/// The inode number of all that collides.
const COLLISION: u64 = 777_777;

/// Seconds between now and a time that no disk can hold.
const FAR: i64 = 1 << 40;

/// The attributes of an inode, as it is.
pub(super) fn plain(id: u64, stat: &Stat) -> FileAttr {
    FileAttr {
        ino: INodeNo(id),
        size: u64::try_from(stat.st_size).unwrap_or(0),
        blocks: u64::try_from(stat.st_blocks).unwrap_or(0),
        atime: time(stat.st_atime, stat.st_atime_nsec),
        mtime: time(stat.st_mtime, stat.st_mtime_nsec),
        ctime: time(stat.st_ctime, stat.st_ctime_nsec),
        crtime: SystemTime::UNIX_EPOCH,
        kind: kind(stat.st_mode),
        perm: u16::try_from(stat.st_mode & 0o7777).unwrap_or(0),
        nlink: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
        uid: stat.st_uid,
        gid: stat.st_gid,
        // The kernel takes the lower half of what `makedev` gives.
        rdev: u32::try_from(stat.st_rdev & u64::from(u32::MAX)).unwrap_or(0),
        blksize: 4096,
        flags: 0,
    }
}

/// Those of an entry that is struck, as `oddity` has them.
pub(super) fn odd(mut attr: FileAttr, oddity: Oddity) -> FileAttr {
    match oddity {
        Oddity::SizeZero if attr.kind == FileType::RegularFile => attr.size = 0,
        Oddity::WholeSeconds => {
            for time in [&mut attr.atime, &mut attr.mtime, &mut attr.ctime] {
                *time = whole(*time);
            }
        }
        Oddity::FarFuture => attr.mtime = shifted(attr.mtime, FAR),
        Oddity::FarPast => attr.mtime = shifted(attr.mtime, -FAR),
        Oddity::OneLink if attr.kind != FileType::Directory => attr.nlink = 1,
        _ => {}
    }
    attr
}

/// The inode number that is shown for the inode `id` of the backing tree; `looks` is another number at
/// each look.
pub(super) fn number(stat: &Stat, id: INodeNo, oddity: Oddity, looks: u64) -> u64 {
    let is_dir = kind(stat.st_mode) == FileType::Directory;
    match oddity {
        Oddity::InodesAnew if !is_dir => looks,
        Oddity::AllInodesAnew if id != INodeNo::ROOT => looks,
        Oddity::InodesCollide if !is_dir && stat.st_nlink > 1 => COLLISION,
        _ => stat.st_ino,
    }
}

/// The kind of entry in a mode.
pub(super) fn kind(mode: u32) -> FileType {
    use rustix::fs::FileType as Kind;
    match Kind::from_raw_mode(mode) {
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
        Kind::CharacterDevice => FileType::CharDevice,
        Kind::BlockDevice => FileType::BlockDevice,
        _ => FileType::RegularFile,
    }
}

fn time(seconds: i64, nanoseconds: u64) -> SystemTime {
    shifted(SystemTime::UNIX_EPOCH, seconds) + Duration::from_nanos(nanoseconds)
}

fn shifted(time: SystemTime, seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let shifted = if seconds < 0 {
        time.checked_sub(distance)
    } else {
        time.checked_add(distance)
    };
    shifted.unwrap_or(time)
}

/// Seconds and nanoseconds of a time that `fuser` made of what the kernel gave: before 1970 it
/// counts the nanoseconds in the wrong direction.
pub(super) fn given(time: SystemTime) -> (i64, i64) {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(_) => since_epoch(time),
        Err(before) => {
            let before = before.duration();
            let seconds = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
            (-seconds, i64::from(before.subsec_nanos()))
        }
    }
}

/// Seconds and nanoseconds since 1970.
fn since_epoch(time: SystemTime) -> (i64, i64) {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => (
            i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            i64::from(after.subsec_nanos()),
        ),
        Err(before) => {
            let before = before.duration();
            let seconds = -i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
            match i64::from(before.subsec_nanos()) {
                0 => (seconds, 0),
                nanoseconds => (seconds - 1, 1_000_000_000 - nanoseconds),
            }
        }
    }
}

fn whole(time: SystemTime) -> SystemTime {
    shifted(SystemTime::UNIX_EPOCH, since_epoch(time).0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_keep_their_seconds() {
        assert_eq!(since_epoch(time(-7, 500)), (-7, 500));
        assert_eq!(since_epoch(time(-7, 0)), (-7, 0));
        assert_eq!(since_epoch(whole(time(-7, 500))), (-7, 0));
        assert_eq!(since_epoch(whole(time(7, 999_999_999))), (7, 0));
        let far = shifted(time(5, 5), FAR);
        assert_eq!(since_epoch(far), (FAR + 5, 5));
    }
}
