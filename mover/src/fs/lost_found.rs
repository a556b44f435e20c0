//! `lost+found`: the directory that an ext file system keeps in its root for itself, and everybody
//! else's directories of that name.

use std::os::fd::AsFd;

use livmig_proto::name::Name;
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
}

/// Whether `stat` looks like what `mke2fs` makes: it belongs to root alone and has at least two
/// blocks from the beginning, so that a check can put entries there without taking a block. Any
/// other directory is made with one (`create_lost_and_found` in e2fsprogs).
pub fn is_own(root: &Stat, name: &Name, stat: &Stat) -> bool {
    let identity = &stat.identity;
    name.as_bytes() == LOST_AND_FOUND
        && stat.kind == Kind::Directory
        && root.identity.ino == ROOT_INODE
        && identity.ino == INODE
        && (identity.uid, identity.gid) == (0, 0)
        && identity.mode & 0o7777 == 0o700
        && identity.size >= 2 * u64::from(stat.block)
}

/// What the own `name` in the root `dir` holds.
///
/// # Errors
/// When it cannot be listed: then nobody knows.
pub fn look(dir: impl AsFd, name: &Name) -> Result<LostFound, Errno> {
    let names = dir::list(dir::open(dir, name)?)?;
    Ok(if names.is_empty() {
        LostFound::Empty
    } else {
        LostFound::Holding
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_mke2fs_makes_is_the_file_system_s_own() {
        let mut root = Stat::of_fd(std::fs::File::open("/").unwrap()).unwrap();
        root.identity.ino = ROOT_INODE;
        let mut own = root;
        own.identity.ino = INODE;
        own.identity.mode = 0o040_700;
        (own.identity.uid, own.identity.gid) = (0, 0);
        own.block = 4096;
        own.identity.size = 16384;
        let name = Name::new(LOST_AND_FOUND).unwrap();
        let is = |own: &Stat| is_own(&root, &name, own);
        assert!(is(&own));
        let mut users = own;
        users.identity.size = 4096;
        assert!(!is(&users), "made with one block");
        let mut users = own;
        users.identity.mode = 0o040_755;
        assert!(!is(&users));
        let mut users = own;
        users.identity.uid = 1000;
        assert!(!is(&users));
        let mut users = own;
        users.identity.ino = 12;
        assert!(!is(&users));
        root.identity.ino = 77;
        assert!(!is_own(&root, &name, &own), "below the file system's root");
    }
}
