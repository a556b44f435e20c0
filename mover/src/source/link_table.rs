//! What a pass learns of entries with several links, from both ends.

use std::collections::HashMap;

use livmig_proto::name::RelPath;

use crate::{
    catalog::segment::Kept,
    fs::stat::{Inode, Stat},
};

/// What a pass learns of entries with several links.
#[derive(Debug, Default)]
pub struct LinkTable {
    /// At the source, by inode.
    pub(super) groups: HashMap<Inode, LinkGroup>,
    /// At the destination: the names that segments say are in a group.
    pub(super) claims: HashMap<u64, Vec<RelPath>>,
    /// At the destination: names that have one link there.
    pub(super) singles: HashMap<RelPath, Kept>,
    /// What groups share of which only the destination knew, and how many names they have there.
    pub(super) remote: HashMap<u64, (u32, Kept)>,
}

/// The names of an inode.
#[derive(Debug)]
pub(super) struct LinkGroup {
    /// What it was when its last name was looked at.
    pub(super) stat: Stat,
    pub(super) paths: Vec<RelPath>,
    /// Whether it was the same at each of its names.
    pub(super) agreed: bool,
}

/// Marks a group number that was made from the destination's inode number in this pass.
pub(super) const REMOTE: u64 = 1 << 63;

impl LinkTable {
    /// The source has one more name of an inode.
    pub fn add(&mut self, stat: &Stat, path: RelPath) {
        let group = self
            .groups
            .entry(stat.inode())
            .or_insert_with(|| LinkGroup {
                stat: *stat,
                paths: Vec::new(),
                agreed: true,
            });
        group.agreed &= group.stat.identity == stat.identity;
        group.stat = *stat;
        group.paths.push(path);
    }

    /// The directory at `path` is listed once more: what was learnt of its names is void.
    pub fn forget_directory(&mut self, directory: &RelPath) {
        let within = |path: &RelPath| path.split().is_some_and(|(parent, _)| parent == *directory);
        for group in self.groups.values_mut() {
            group.paths.retain(|path| !within(path));
        }
        self.groups.retain(|_, group| !group.paths.is_empty());
        for paths in self.claims.values_mut() {
            paths.retain(|path| !within(path));
        }
        self.claims.retain(|_, paths| !paths.is_empty());
        self.singles.retain(|path, _| !within(path));
    }

    /// The destination has `path` in `group`, says its segment.
    pub fn claim(&mut self, group: u64, path: RelPath) {
        if group != 0 {
            self.claims.entry(group).or_default().push(path);
        }
    }

    /// The destination has one link called `path`, of this content.
    pub fn remember_single(&mut self, path: RelPath, kept: Kept) {
        self.singles.insert(path, kept);
    }

    /// The destination says it has an inode with `count` links; the group's number.
    pub fn remember_remote(&mut self, ino: u64, count: u32, kept: Kept) -> u64 {
        let group = REMOTE | ino;
        self.remote.entry(group).or_insert((count, kept));
        group
    }
}
