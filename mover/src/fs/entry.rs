//! From what the kernel says of an entry to what both ends compare.

use std::os::fd::OwnedFd;

use livmig_proto::entry::{Meta, Node, Xattr};
use rustix::io::Errno;

use super::stat::{Kind, Stat};

/// The metadata in `stat`, with these attributes.
pub fn meta_of(stat: &Stat, xattrs: Vec<Xattr>) -> Meta {
    let mode = if stat.kind == Kind::Symlink {
        0
    } else {
        stat.identity.mode & 0o7777
    };
    Meta {
        mode,
        uid: stat.identity.uid,
        gid: stat.identity.gid,
        mtime: stat.identity.mtime,
        xattrs,
    }
}

/// What the entry behind `handle` is; nothing for a file or directory.
pub fn node(handle: &OwnedFd, stat: &Stat) -> Result<Option<Node>, Errno> {
    Ok(match stat.kind {
        Kind::File | Kind::Directory => None,
        Kind::Symlink => {
            let target = rustix::fs::readlinkat(handle, c"", Vec::new())?.into_bytes();
            Some(Node::Symlink { target })
        }
        Kind::Fifo => Some(Node::Fifo),
        Kind::Socket => Some(Node::Socket),
        Kind::CharDevice => Some(Node::CharDevice { device: stat.rdev }),
        Kind::BlockDevice => Some(Node::BlockDevice { device: stat.rdev }),
    })
}
