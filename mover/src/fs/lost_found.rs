//! `lost+found`: the directory that an ext file system keeps in its root for itself, and everybody
//! else's directories of that name.

use std::os::fd::AsFd;

use livmig_proto::{entry::Time, name::Name};
use rustix::io::Errno;

use super::{
    dir,
    stat::{Kind, Stat},
};

/// Its name.
pub const LOST_AND_FOUND: &[u8] = b"lost+found";

/// The inode of the root of an ext file system.
const ROOT_INODE: u64 = 2;

/// The inode that `mke2fs` gives it; a directory that somebody made anew may have it too.
const INODE: u64 = 11;

/// What a directory called `lost+found` is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LostFound {
    /// The file system's own, and empty: no part of the volume's content.
    Empty,
    /// The file system's own, with something in it that a check of the file system rescued.
    Holding,
    /// The file system's own, and this process may not look into it.
    Closed,
}

/// Whether `stat` is what `mke2fs` makes: it has at least two blocks from the beginning, so that a
/// check can put entries there without taking a block, and any other directory is made with one
/// (`create_lost_and_found` in e2fsprogs). Its owner and mode say little where its birth is known:
/// a kubelet that applies `fsGroup` changes both, and so does a `chown -R` or `chmod -R` of the volume.
pub fn is_own(root: &Stat, name: &Name, stat: &Stat) -> bool {
    let identity = &stat.identity;
    name.as_bytes() == LOST_AND_FOUND
        && stat.kind == Kind::Directory
        && root.identity.ino == ROOT_INODE
        && identity.ino == INODE
        && identity.size >= 2 * u64::from(stat.block)
        && born_with(root.identity.btime, identity.btime).unwrap_or_else(|| is_untouched(stat))
}

/// Whether a directory born at `own` came with the file system whose root was born at `root`; nothing
/// where the file system keeps no time of birth (inodes of 128 bytes). `mke2fs` writes whole seconds,
/// the kernel nanoseconds.
fn born_with(root: Time, own: Time) -> Option<bool> {
    /// Between the two directories `mke2fs` writes a few blocks.
    const SECONDS_MAX: u64 = 60;
    if root == Time::default() || own == Time::default() {
        return None;
    }
    let apart = root.seconds.abs_diff(own.seconds);
    Some(root.nanoseconds == own.nanoseconds && apart <= SECONDS_MAX)
}

/// Whether owner and mode are as `mke2fs` sets them, or a kubelet afterwards that applies `fsGroup`.
fn is_untouched(stat: &Stat) -> bool {
    let identity = &stat.identity;
    let mode = identity.mode & 0o7777;
    identity.uid == 0 && (identity.gid == 0 && mode == 0o700 || mode == 0o2770)
}

/// What the own `name` in the root `dir` holds.
///
/// # Errors
/// When it cannot be listed, although it may: then nobody knows.
pub fn look(dir: impl AsFd, name: &Name) -> Result<LostFound, Errno> {
    match dir::open(dir, name).and_then(dir::list) {
        Ok(names) if names.is_empty() => Ok(LostFound::Empty),
        Ok(_) => Ok(LostFound::Holding),
        Err(Errno::ACCESS) => Ok(LostFound::Closed),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A root and its own `lost+found`, born at these times.
    fn made(root_birth: Time, birth: Time) -> (Stat, Stat) {
        let mut root = Stat::of_fd(std::fs::File::open("/").unwrap()).unwrap();
        root.identity.ino = ROOT_INODE;
        root.identity.btime = root_birth;
        let mut own = root;
        own.identity.ino = INODE;
        own.identity.btime = birth;
        own.identity.mode = 0o040_700;
        (own.identity.uid, own.identity.gid) = (0, 0);
        own.block = 4096;
        own.identity.size = 16384;
        (root, own)
    }

    fn born(seconds: i64, nanoseconds: u32) -> Time {
        Time {
            seconds,
            nanoseconds,
        }
    }

    fn is(root: &Stat, own: &Stat) -> bool {
        is_own(root, &Name::new(LOST_AND_FOUND).unwrap(), own)
    }

    /// Changes `own`, and expects that it is `expected` then.
    fn changed(expected: bool, (root, own): &(Stat, Stat), change: impl FnOnce(&mut Stat)) {
        let mut own = *own;
        change(&mut own);
        assert_eq!(is(root, &own), expected, "{own:?}");
    }

    #[test]
    fn only_what_mke2fs_makes_is_the_file_system_s_own() {
        for births in [Time::default(), born(1_700_000_000, 0)] {
            let made = made(births, births);
            changed(true, &made, |_| {});
            // Any directory is made with one block.
            changed(false, &made, |users| users.identity.size = 4096);
            changed(false, &made, |users| users.identity.ino = 12);
            let (mut root, own) = made;
            root.identity.ino = 77;
            assert!(!is(&root, &own), "below the file system's root");
        }
    }

    #[test]
    fn an_fs_group_or_a_chown_of_the_volume_leaves_it_the_file_system_s_own() {
        let made = made(born(1_700_000_000, 0), born(1_700_000_001, 0));
        changed(true, &made, |own| {
            own.identity.gid = 2000;
            own.identity.mode = 0o042_770;
        });
        changed(true, &made, |own| {
            (own.identity.uid, own.identity.gid) = (999, 999);
        });
        changed(true, &made, |own| own.identity.mode = 0o040_777);
    }

    #[test]
    fn a_directory_that_was_born_later_is_somebody_s_whatever_it_looks_like() {
        let birth = 1_700_000_000;
        for later in [born(birth + 86_400, 0), born(birth + 1, 20_000)] {
            changed(false, &made(born(birth, 0), later), |_| {});
        }
    }

    #[test]
    fn without_times_of_birth_owner_and_mode_tell() {
        let made = made(Time::default(), Time::default());
        changed(false, &made, |users| users.identity.mode = 0o040_755);
        changed(false, &made, |users| users.identity.uid = 1000);
        changed(false, &made, |users| users.identity.gid = 2000);
        changed(true, &made, |own| {
            own.identity.gid = 2000;
            own.identity.mode = 0o042_770;
        });
    }
}
