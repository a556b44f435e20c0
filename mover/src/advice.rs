//! What helps against a failed system call: pure functions, since what a person reads next to a fault
//! must fit it and not merely its kind.

use livmig_proto::control::Side;
use rustix::io::Errno;

use crate::fs::metadata::rights;

/// What was being done when it failed, as far as it matters for what helps.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Doing {
    /// A name was linked to another.
    Linking,
    /// An entry was given to its owner.
    GivingAway,
    /// Something else.
    Anything,
}

/// What this process may do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rights {
    /// What permissions forbid, too.
    Overriding,
    /// What permissions allow.
    Permitted,
}

impl Rights {
    /// Of this process.
    pub fn own() -> Self {
        if rights::overrides_permissions() {
            Self::Overriding
        } else {
            Self::Permitted
        }
    }
}

/// What helps against `errno`, met at `side` by a process with these rights. Nothing where nothing in
/// particular does.
pub fn against(side: Side, errno: Errno, doing: Doing, rights: Rights) -> Option<&'static str> {
    let privileged = rights == Rights::Overriding;
    match side {
        Side::Source => at_source(errno, privileged),
        Side::Destination => at_destination(errno, doing, privileged),
    }
}

fn at_source(errno: Errno, privileged: bool) -> Option<&'static str> {
    Some(match errno {
        Errno::ACCESS | Errno::PERM if privileged => {
            "look for what keeps even root out of the source (a security module, a network or FUSE \
             file system that maps root)"
        }
        Errno::ACCESS | Errno::PERM => {
            "run as a user who may read the source (root may, with its capabilities)"
        }
        Errno::MFILE | Errno::NFILE => FILES,
        Errno::IO => "look into the kernel's log at what is wrong with the source's device",
        Errno::DEADLK => APART,
        Errno::NOKEY => "unlock the encrypted directory at the source",
        _ => return None,
    })
}

fn at_destination(errno: Errno, doing: Doing, privileged: bool) -> Option<&'static str> {
    Some(match (errno, doing) {
        (Errno::PERM, Doing::GivingAway) if !privileged => {
            "run as root with its capabilities, which alone may give entries away"
        }
        (Errno::PERM, _) if privileged => {
            "see with lsattr whether the entry or its directory at the destination is immutable or \
             append-only (chattr -i -a lifts that), or in use for swap (swapoff)"
        }
        (Errno::ACCESS, _) if privileged => {
            "look for what keeps even root out of the destination (a security module, a network or \
             FUSE file system that maps root)"
        }
        (Errno::PERM | Errno::ACCESS, _) => {
            "run as a user who may write the destination (root may, with its capabilities)"
        }
        (Errno::ROFS, _) => "mount the destination so that it may be written",
        (Errno::TXTBSY, _) => {
            "stop the program that runs from the file at the destination, or swapoff the file"
        }
        (Errno::BUSY, _) => {
            "unmount what is mounted there at the destination, or stop what uses it"
        }
        (Errno::XDEV, Doing::Linking) => {
            "give the directories of both names at the destination one project id (lsattr -p shows \
             it, chattr -p sets it), or lift what is mounted on one of them"
        }
        (Errno::DEADLK, _) => APART,
        (Errno::XDEV, _) => "unmount what is mounted there at the destination",
        (Errno::MLINK, _) => {
            "choose a destination file system that lets a file have as many names (xfs does), or \
             remove some of them at the source"
        }
        (Errno::MFILE | Errno::NFILE, _) => FILES,
        (Errno::NAMETOOLONG, _) => {
            "choose a destination file system that holds names and link targets of this length (xfs \
             holds targets of 1023 bytes), or shorten it at the source"
        }
        (Errno::DQUOT, _) => QUOTA,
        (Errno::NOSPC, _) => "make room on the destination",
        (Errno::FBIG, _) => "choose a destination file system that holds files of this size",
        (Errno::IO, _) => {
            "look into the kernel's log at what is wrong with the destination's device"
        }
        _ => return None,
    })
}

const APART: &str =
    "choose directories that are apart: here the one end lies in the other, by another name";

const FILES: &str = "raise the limit of open files (ulimit -n)";

/// Against a quota that is used up.
pub const QUOTA: &str =
    "raise the quota at the destination, or remove there what counts against it";

/// Against an index of a directory that takes no more names.
pub const INDEX_FULL: &str = "let the destination's directories grow further (tune2fs -O large_dir on \
                              the unmounted file system), choose one with larger blocks, or spread the \
                              entries over more directories";

/// Against a time that is not stored as it was set.
pub const TIME: &str = "choose a destination file system that holds such times (ext4 with inodes of \
                        256 bytes, xfs with bigtime, btrfs), or change them at the source";

/// Against an extended attribute that does not fit.
pub const ATTRIBUTE: &str = "choose a destination file system that holds such attributes (xfs holds \
                             64 KiB each), or remove them at the source";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_not_told_that_root_may() {
        for side in [Side::Source, Side::Destination] {
            for errno in [Errno::ACCESS, Errno::PERM] {
                let told = |rights| against(side, errno, Doing::Anything, rights);
                assert!(told(Rights::Permitted).unwrap().contains("root may"));
                assert!(!told(Rights::Overriding).unwrap().contains("root may"));
            }
        }
        let immutable = against(
            Side::Destination,
            Errno::PERM,
            Doing::Anything,
            Rights::Overriding,
        );
        assert!(immutable.unwrap().contains("chattr"));
    }

    #[test]
    fn what_is_asked_for_helps_against_what_happened() {
        let told =
            |errno, doing| against(Side::Destination, errno, doing, Rights::Overriding).unwrap();
        let anything = |errno| told(errno, Doing::Anything);
        assert!(told(Errno::XDEV, Doing::Linking).contains("project"));
        assert!(anything(Errno::XDEV).contains("unmount"));
        assert!(anything(Errno::DQUOT).contains("quota"));
        assert!(anything(Errno::MFILE).contains("ulimit"));
        assert!(anything(Errno::TXTBSY).contains("swapoff"));
        assert!(anything(Errno::NAMETOOLONG).contains("target"));
    }
}
