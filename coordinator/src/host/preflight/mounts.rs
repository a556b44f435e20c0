//! File systems mounted inside a directory.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use livmig_proto::mounts::Mount;

/// The mount points strictly below `root`, each once.
pub(in crate::host) fn mounts_below(mounts: &[Mount], root: &Path) -> BTreeSet<PathBuf> {
    mounts
        .iter()
        .map(|mount| PathBuf::from(OsStr::from_bytes(&mount.point)))
        .filter(|point| point != root && point.starts_with(root))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_below_the_source_are_found() {
        let mounts = b"22 1 8:1 / / rw - ext4 /dev/a rw\n\
            23 22 8:2 / /srv/my\\040data rw - ext4 /dev/b rw\n\
            24 23 8:3 / /srv/my\\040data/wal rw - ext4 /dev/c rw\n\
            25 24 8:4 / /srv/my\\040data/wal rw - ext4 /dev/d rw\n";
        let mounts = &livmig_proto::mounts::parse(mounts);
        assert_eq!(
            mounts_below(mounts, Path::new("/srv/my data")),
            BTreeSet::from([PathBuf::from("/srv/my data/wal")])
        );
        assert_eq!(
            mounts_below(mounts, Path::new("/srv")).len(),
            2,
            "one is mounted twice"
        );
        assert!(mounts_below(mounts, Path::new("/srv/my")).is_empty());
        assert!(mounts_below(mounts, Path::new("/srv/my data/wal")).is_empty());
    }
}
