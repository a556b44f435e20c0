//! Tar archives that depend on nothing but their content: no clock, no user, no order of a disk.

use anyhow::Result;
use tar::{Builder, EntryType, Header};

/// One entry of an archive.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Entry {
    /// Its path, relative, with `/` between names.
    pub(crate) path: String,
    /// What it is.
    pub(crate) content: Content,
}

/// What an entry is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Content {
    /// A directory that everybody may enter.
    Directory,
    /// A file that everybody may read.
    File(Vec<u8>),
    /// A file that everybody may run.
    Program(Vec<u8>),
}

impl Entry {
    /// A file that everybody may read.
    pub(crate) fn file(path: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            path: path.into(),
            content: Content::File(bytes.into()),
        }
    }

    /// The bytes of a file; none of a directory.
    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.content {
            Content::Directory => &[],
            Content::File(bytes) | Content::Program(bytes) => bytes,
        }
    }
}

/// The archive of `entries`, in their order. Everything is root's and as old as time itself.
pub(super) fn archive(entries: &[Entry]) -> Result<Vec<u8>> {
    let mut builder = Builder::new(Vec::new());
    for entry in entries {
        let (kind, mode) = match entry.content {
            Content::Directory => (EntryType::Directory, 0o755),
            Content::File(_) => (EntryType::Regular, 0o644),
            Content::Program(_) => (EntryType::Regular, 0o755),
        };
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        let bytes = entry.bytes();
        header.set_size(u64::try_from(bytes.len())?);
        builder.append_data(&mut header, &entry.path, bytes)?;
    }
    Ok(builder.into_inner()?)
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Read as _;

    use super::*;

    /// The entries of an archive.
    pub(in crate::images) fn entries(bytes: &[u8]) -> Vec<Entry> {
        let mut archive = tar::Archive::new(bytes);
        let each = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let header = entry.header().clone();
            let owner = (header.uid().unwrap(), header.gid().unwrap());
            assert_eq!((owner, header.mtime().unwrap()), ((0, 0), 0));
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            Entry {
                path: entry.path().unwrap().to_str().unwrap().to_owned(),
                content: match (header.entry_type(), header.mode().unwrap()) {
                    (EntryType::Directory, 0o755) => Content::Directory,
                    (EntryType::Regular, 0o644) => Content::File(bytes),
                    (EntryType::Regular, 0o755) => Content::Program(bytes),
                    other => panic!("{other:?}"),
                },
            }
        });
        each.collect()
    }

    #[test]
    fn what_is_put_in_comes_out() {
        let put = [
            Entry {
                path: "folder/".to_owned(),
                content: Content::Directory,
            },
            Entry::file("folder/file", "content"),
            Entry {
                path: "program".to_owned(),
                content: Content::Program(vec![0; 10_000]),
            },
        ];
        assert_eq!(entries(&archive(&put).unwrap()), put);
    }
}
