//! File systems mounted inside a directory.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
};

/// The mount points strictly below `root` in the text of /proc/self/mountinfo, each once.
pub(super) fn mounts_below(mounts: &[u8], root: &Path) -> BTreeSet<PathBuf> {
    mounts
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(4))
        .map(|field| PathBuf::from(OsString::from_vec(unescape_octal(field))))
        .filter(|point| point != root && point.starts_with(root))
        .collect()
}

/// The kernel writes blanks and backslashes in mount points as three octal digits.
fn unescape_octal(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let code = rest
            .get(1..4)
            .filter(|_| *first == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        if let Some(code) = code {
            plain.push(code);
            rest = rest.get(4..).unwrap_or_default();
        } else {
            plain.push(*first);
            rest = after;
        }
    }
    plain
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
