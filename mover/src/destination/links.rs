//! The destination's hard links: which names share an inode, and what they share.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use livmig_proto::{
    manifest::group_member,
    name::{Name, RelPath},
    tree::Digest,
};

use super::touched::{ByName, Written};
use crate::{
    catalog::segment::{Kept, KeptFile},
    fs::stat::Identity,
};

/// The beginning of a digest, as a number.
pub(super) fn first_u64(digest: &blake3::Hash) -> u64 {
    let mut bytes = [0; 8];
    for (to, from) in bytes.iter_mut().zip(digest.as_bytes()) {
        *to = *from;
    }
    u64::from_le_bytes(bytes)
}

/// Names with several links, by inode.
#[derive(Debug, Default)]
pub struct DestinationLinks {
    groups: BTreeMap<u64, Group>,
    /// The inodes that each directory has names of.
    directories: HashMap<RelPath, Vec<(Name, u64)>>,
}

/// One inode with several links.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// Its names.
    pub paths: BTreeSet<RelPath>,
    /// What was verified of it.
    pub proven: Option<Proven>,
    /// What was written since.
    pub writes: Vec<Written>,
}

/// What was verified of an inode.
#[derive(Clone, Copy, Debug)]
pub struct Proven {
    /// The state it was in.
    pub identity: Identity,
    /// [`entry_digest`](livmig_proto::entry::entry_digest).
    pub digest: Digest,
    /// Bytes of content.
    pub size: u64,
    /// The root of the content, of a file.
    pub root: Option<Digest>,
}

impl Proven {
    /// What a segment remembers of it.
    pub fn kept(&self) -> Kept {
        let Self { digest, size, .. } = *self;
        match self.root {
            Some(root) => Kept::File(KeptFile {
                digest,
                size,
                root,
                tags: None,
                reserved: None,
            }),
            None => Kept::Other { digest },
        }
    }
}

impl DestinationLinks {
    /// The directory at `path` has exactly these names of inodes with several links; `writes` is
    /// what was written through them.
    pub fn replace(&mut self, path: &RelPath, names: Vec<(Name, u64)>, writes: &ByName<'_>) {
        self.forget(path);
        for (name, ino) in &names {
            let Ok(entry) = path.child(name) else {
                continue;
            };
            let group = self.groups.entry(*ino).or_default();
            group.paths.insert(entry);
            let written = writes.get(name).into_iter().flatten().copied();
            group.writes.extend(written.cloned());
        }
        if !names.is_empty() {
            self.directories.insert(path.clone(), names);
        }
    }

    /// The directory at `path` is gone.
    pub fn forget(&mut self, path: &RelPath) {
        for (name, ino) in self.directories.remove(path).unwrap_or_default() {
            let Ok(entry) = path.child(&name) else {
                continue;
            };
            if let Some(group) = self.groups.get_mut(&ino) {
                group.paths.remove(&entry);
                if group.paths.is_empty() {
                    self.groups.remove(&ino);
                }
            }
        }
    }

    /// The inodes that something was written to, or of which nothing is proven yet, and one name
    /// of each.
    pub fn doubtful(&self) -> Vec<(u64, RelPath)> {
        self.groups
            .iter()
            .filter(|(_, group)| group.proven.is_none() || !group.writes.is_empty())
            .filter_map(|(ino, group)| Some((*ino, group.paths.first()?.clone())))
            .collect()
    }

    /// What is known of an inode.
    pub fn get(&self, ino: u64) -> Option<Group> {
        self.groups.get(&ino).cloned()
    }

    /// An inode was verified.
    pub fn prove(&mut self, ino: u64, proven: Proven) {
        if let Some(group) = self.groups.get_mut(&ino) {
            group.proven = Some(proven);
            group.writes.clear();
        }
    }

    /// Groups of more names than their inode has links are no groups: each name becomes one of its
    /// own, of which nothing is proven. Whether there were any.
    pub fn divide(&mut self) -> bool {
        let impossible: Vec<u64> = self
            .groups
            .iter()
            .filter(|(_, group)| {
                let links = group.proven.map(|proven| proven.identity.nlink);
                let links = links.and_then(|links| usize::try_from(links).ok());
                links.is_some_and(|links| links < group.paths.len())
            })
            .map(|(number, _)| *number)
            .collect();
        for number in &impossible {
            let Some(group) = self.groups.remove(number) else {
                continue;
            };
            for path in group.paths {
                let name = blake3::hash(path.as_bytes());
                let alone = self.groups.entry(first_u64(&name)).or_default();
                alone.paths.insert(path);
            }
        }
        !impossible.is_empty()
    }

    /// The inodes of which the volume holds one name: for the manifest they are plain entries.
    pub fn alone(&self) -> Vec<(RelPath, Proven)> {
        self.groups
            .values()
            .filter(|group| group.paths.len() == 1)
            .filter_map(|group| Some((group.paths.first()?.clone(), group.proven?)))
            .collect()
    }

    /// What stands for each group in the manifest.
    pub fn members(&self) -> Vec<Digest> {
        self.groups
            .values()
            .filter(|group| group.paths.len() > 1)
            .filter_map(|group| Some(group_member(&group.paths, &group.proven?.digest)))
            .collect()
    }

    /// Bytes of content, each group once.
    pub fn bytes(&self) -> u64 {
        self.groups
            .values()
            .filter(|group| group.paths.len() > 1)
            .filter_map(|group| Some(group.proven?.size))
            .sum()
    }
}
