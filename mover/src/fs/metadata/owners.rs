//! Owners that a file system has and this process cannot be shown: outside the mapping of an id-mapped
//! mount, or of the user namespace. The kernel shows the overflow id in their place.

use std::os::fd::AsFd;

use livmig_proto::name::Name;
use rustix::{
    fs::{Access, AtFlags},
    io::Errno,
};

use crate::fs::stat::{Kind, Stat};

/// What may hide owners at a volume.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Mapping {
    /// Whether the mount has a mapping of its own.
    by_mount: bool,
    /// Whether the user namespace knows some ids only.
    by_namespace: bool,
    /// The user and the group that are shown for those outside.
    overflow: (u32, u32),
}

impl Mapping {
    /// That of the mount that `root` is on, as the kernel's files tell. They are out of reach once the
    /// process is confined.
    pub fn of(root: impl AsFd) -> Self {
        let read = |path: &str| std::fs::read(path).unwrap_or_default();
        let text = |path: &str| String::from_utf8_lossy(&read(path)).into_owned();
        let overflow = |path: &str| text(path).trim().parse().unwrap_or(65_534);
        let mount = super::xattr::proc_link(root).replace("/fd/", "/fdinfo/");
        Self {
            by_mount: mount_of(&text(&mount))
                .is_some_and(|id| may_be_mapped(id, &read("/proc/self/mountinfo"))),
            by_namespace: ["/proc/self/uid_map", "/proc/self/gid_map"]
                .into_iter()
                .any(|path| !is_whole(&text(path))),
            overflow: (
                overflow("/proc/sys/kernel/overflowuid"),
                overflow("/proc/sys/kernel/overflowgid"),
            ),
        }
    }

    /// Whether the entry `name` in `dir` may have another owner than `stat` shows. Nothing is asked of
    /// one that shows no overflow id.
    pub fn hides_owner(&self, dir: impl AsFd, name: &Name, stat: &Stat) -> bool {
        self.may_hide(stat)
            && self.judge(stat, || {
                let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EACCESS;
                rustix::fs::accessat(dir, name.as_os_str(), Access::WRITE_OK, flags)
            })
    }

    /// As [`Self::hides_owner`], of the root directory.
    pub fn hides_owner_of_root(&self, root: impl AsFd, stat: &Stat) -> bool {
        self.may_hide(stat)
            && self.judge(stat, || {
                rustix::fs::accessat(root, c".", Access::WRITE_OK, AtFlags::EACCESS)
            })
    }

    fn may_hide(&self, stat: &Stat) -> bool {
        let (uid, gid) = (stat.identity.uid, stat.identity.gid);
        (self.by_mount || self.by_namespace) && (uid == self.overflow.0 || gid == self.overflow.1)
    }

    /// The overflow id may be an owner like any other. What has one that is not known can be written by
    /// nobody, root included, through a mount that does not know it; and in a namespace by nobody as
    /// its owner.
    fn judge(&self, stat: &Stat, may_write: impl FnOnce() -> Result<(), Errno>) -> bool {
        let for_all = stat.kind == Kind::Symlink || stat.identity.mode & 0o002 != 0;
        may_write().is_err() || self.by_namespace && for_all
    }
}

/// The mount that a descriptor is on, in what /proc tells of the descriptor.
fn mount_of(fdinfo: &str) -> Option<u64> {
    let id = fdinfo
        .lines()
        .find_map(|line| line.strip_prefix("mnt_id:"))?;
    id.trim().parse().ok()
}

/// Whether the mount `id` is id-mapped, says `mountinfo`, or may be because it is not in there: a
/// process whose root directory is below the mount point is not told of the mount. Paths of other
/// mounts are in there too, and need not be text.
fn may_be_mapped(id: u64, mountinfo: &[u8]) -> bool {
    let id = id.to_string();
    let mut lines = mountinfo.split(|byte| *byte == b'\n');
    let options = lines.find_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let found = fields.next() == Some(id.as_bytes());
        found.then(|| fields.nth(4).unwrap_or_default())
    });
    options.is_none_or(|options| {
        let mut options = options.split(|byte| *byte == b',');
        options.any(|option| option == b"idmapped")
    })
}

/// Whether a map of a user namespace knows all ids.
fn is_whole(map: &str) -> bool {
    let numbers: Vec<&str> = map.split_whitespace().collect();
    // Where nothing can be read, nothing is said to be hidden.
    numbers.is_empty() || numbers == ["0", "0", "4294967295"]
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &[u8] = b"\
29 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 29 7:1 / /mnt/\xff rw,relatime - ext4 /dev/loop1 rw
31 29 7:1 /v /mnt/a\\040b rw,relatime,idmapped shared:4 - ext4 /dev/loop1 rw
32 29 7:1 /idmapped /mnt/idmapped rw,relatime - ext4 /dev/loop1 rw
";

    #[test]
    fn a_mapped_mount_is_told_by_its_own_options() {
        assert!(may_be_mapped(31, MOUNTS));
        assert!(!may_be_mapped(29, MOUNTS) && !may_be_mapped(32, MOUNTS));
        assert_eq!(
            mount_of("pos:\t0\nflags:\t0100000\nmnt_id:\t31\n"),
            Some(31)
        );
    }

    #[test]
    fn a_mount_that_is_not_told_of_may_be_mapped() {
        assert!(may_be_mapped(99, MOUNTS) && may_be_mapped(31, b""));
    }

    #[test]
    fn only_the_first_namespace_knows_all_ids() {
        assert!(is_whole("         0          0 4294967295\n"));
        assert!(!is_whole("         0     100000      65536\n"));
        assert!(!is_whole("0 1000 1\n1 100000 65536\n"));
    }

    #[test]
    fn the_overflow_id_is_an_owner_like_any_other_where_nothing_is_mapped() {
        let mut stat = Stat::of_fd(tempfile::tempfile().unwrap()).unwrap();
        stat.identity.mode = 0o100_644;
        stat.identity.uid = 65_534;
        let mapping = Mapping {
            overflow: (65_534, 65_534),
            ..Mapping::default()
        };
        assert!(!mapping.may_hide(&stat));
        let mapped = Mapping {
            by_mount: true,
            ..mapping
        };
        assert!(mapped.may_hide(&stat));
        assert!(mapped.judge(&stat, || Err(Errno::ACCESS)) && !mapped.judge(&stat, || Ok(())));
        stat.identity.mode = 0o100_666;
        let inside = Mapping {
            by_namespace: true,
            ..mapping
        };
        assert!(inside.judge(&stat, || Ok(())) && !mapped.judge(&stat, || Ok(())));
        stat.identity.uid = 7;
        stat.identity.gid = 7;
        assert!(!mapped.may_hide(&stat));
    }
}
