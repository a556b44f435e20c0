//! Which group at the destination a group at the source goes on as.

use std::collections::{BTreeMap, HashMap, HashSet};

use livmig_proto::name::RelPath;

use super::{
    agree::{SettledGroup, Single},
    kept::Common,
};
use crate::{
    catalog::segment::Kept,
    fs::stat::{Identity, Inode, Kind, Stat},
    source::link_table::{LinkGroup, LinkTable, REMOTE},
};

/// One group at the source and what the destination has of it.
#[derive(Debug)]
pub(super) struct Match {
    pub(super) stat: Stat,
    pub(super) paths: Vec<RelPath>,
    /// The names that are one inode at the destination already.
    pub(super) present: Vec<RelPath>,
    /// The number of that inode's group; a new one where there is none.
    pub(super) number: u64,
    pub(super) common: Option<Common>,
}

/// An entry with several links that is carried for itself: the volume holds no other of them, or its
/// names do not agree.
#[derive(Debug)]
pub(super) struct Alone {
    pub(super) stat: Stat,
    pub(super) path: RelPath,
    /// What the destination holds under its name.
    pub(super) kept: Option<Kept>,
    /// Whether that inode has other names there.
    pub(super) replace: bool,
}

/// What is to be done about the links of a pass.
#[derive(Debug, Default)]
pub(super) struct Matched {
    /// Groups of several names.
    pub(super) groups: Vec<Match>,
    /// Groups of one.
    pub(super) alone: Vec<Alone>,
    /// The names that are in a group at the destination, and its number.
    pub(super) claimed: HashMap<RelPath, u64>,
    /// What the inode of each name was when it was looked at.
    pub(super) states: LinkStates,
}

/// What inodes with several links were.
#[derive(Debug, Default)]
pub struct LinkStates(HashMap<Inode, Vec<Identity>>);

impl LinkStates {
    fn add(&mut self, stat: &Stat) {
        let states = self.0.entry(stat.inode()).or_default();
        if !states.contains(&stat.identity) {
            states.push(stat.identity);
        }
    }

    /// Whether one of them was what `stat` says now.
    pub fn has(&self, stat: &Stat) -> bool {
        self.0
            .get(&stat.inode())
            .is_some_and(|states| states.contains(&stat.identity))
    }
}

/// Where the matching finds what is not in the table.
pub(super) trait GroupStore {
    /// Why it could not be found.
    type Error;

    /// Whether anything is known of the directory at `path`.
    fn knows(&self, directory: &RelPath) -> bool;

    /// What the names of the group `number` share, if that is known.
    fn common(&self, number: u64) -> Result<Option<Common>, Self::Error>;

    /// A number that no group has had.
    fn new_number(&self) -> u64;
}

/// Matches the groups of the source, as they were `settled`, with those of the destination, which the
/// `table` knows.
pub(super) fn matched<K: GroupStore>(
    table: &LinkTable,
    settled: SettledGroup,
    known: &K,
) -> Result<Matched, K::Error> {
    let mut matched = Matched::default();
    // The number that an inode got from the destination and the one that it got from us cannot
    // be matched, so where both are in play only the destination's word counts.
    let asked = table.claims.keys().any(|group| group & REMOTE != 0);
    for (group, paths) in &table.claims {
        for path in paths {
            matched.claimed.insert(path.clone(), *group);
        }
    }
    for Single { stat, path } in settled.apart {
        if is_known(&path, known) {
            matched.stand_alone(table, stat, path);
        }
    }
    let mut used = HashSet::new();
    for LinkGroup { stat, paths, .. } in listed(settled.groups, known) {
        matched.states.add(&stat);
        if let [path] = paths.as_slice() {
            // Its other names are outside the volume, or gone: for the destination it has one.
            matched.stand_alone(table, stat, path.clone());
            continue;
        }
        let mut votes: BTreeMap<u64, Vec<RelPath>> = BTreeMap::new();
        for path in &paths {
            if let Some(number) = matched.claimed.get(path) {
                votes.entry(*number).or_default().push(path.clone());
            }
        }
        votes.retain(|number, _| !used.contains(number) && (!asked || number & REMOTE != 0));
        let mut found = None;
        if let Some((number, present)) = votes.into_iter().max_by_key(|(_, paths)| paths.len()) {
            let common = match table.remote.get(&number) {
                // Names that are not the group's, perhaps outside the volume, would change too.
                Some((count, _)) if usize::try_from(*count).ok() != Some(present.len()) => None,
                Some((_, kept)) => Some(Common {
                    kept: kept.clone(),
                    seen: None,
                }),
                None => known.common(number)?,
            };
            if let Some(common) = common.filter(|common| is_usable(common, &stat)) {
                used.insert(number);
                found = Some((number, present, common));
            }
        }
        let found = found.or_else(|| {
            let (path, kept) = paths
                .iter()
                .find_map(|path| Some((path, table.singles.get(path)?)))?;
            let common = Common {
                kept: kept.clone(),
                seen: None,
            };
            Some((known.new_number(), vec![path.clone()], common))
        });
        let (number, present, common) = match found {
            // The destination's own number would not be unique for long.
            Some((number, present, common)) if number & REMOTE != 0 => {
                (known.new_number(), present, Some(common))
            }
            Some((number, present, common)) => (number, present, Some(common)),
            None => (known.new_number(), Vec::new(), None),
        };
        matched.groups.push(Match {
            stat,
            paths,
            present,
            number,
            common,
        });
    }
    Ok(matched)
}

impl Matched {
    fn stand_alone(&mut self, table: &LinkTable, stat: Stat, path: RelPath) {
        self.alone.push(Alone {
            stat,
            kept: table.singles.get(&path).cloned(),
            replace: self.claimed.contains_key(&path),
            path,
        });
    }
}

/// Whether an inode at the destination may be what the source has, or become it with its names kept.
fn is_usable(common: &Common, stat: &Stat) -> bool {
    match (&common.kept, stat.kind) {
        (Kept::File(_), kind) => kind == Kind::File,
        // Equal or not is for its digest to say, once it was looked at.
        (Kept::Other { .. }, kind) => kind != Kind::File,
        (Kept::Directory | Kept::Link { .. } | Kept::Apart, _) => false,
    }
}

/// The groups whose names can be linked, and these names, sorted.
fn listed(mut groups: Vec<LinkGroup>, known: &impl GroupStore) -> Vec<LinkGroup> {
    for group in &mut groups {
        group.paths.retain(|path| is_known(path, known));
    }
    groups.retain(|group| !group.paths.is_empty());
    groups.sort_unstable_by(|one, other| one.paths.cmp(&other.paths));
    groups
}

/// A directory that was removed since, or in which something failed, has no names to link.
fn is_known(path: &RelPath, known: &impl GroupStore) -> bool {
    path.split().is_some_and(|(dir, _)| known.knows(&dir))
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, convert::Infallible};

    use livmig_proto::tree::Digest;

    use super::*;
    use crate::{catalog::segment::KeptFile, source::links::agree::settle};

    /// Groups below 10 are known; numbers from 100 are new.
    struct Store(Cell<u64>);

    impl GroupStore for Store {
        type Error = Infallible;

        fn knows(&self, directory: &RelPath) -> bool {
            directory.is_root()
        }

        fn common(&self, number: u64) -> Result<Option<Common>, Infallible> {
            Ok((number < 10).then(|| Common {
                kept: kept(),
                seen: None,
            }))
        }

        fn new_number(&self) -> u64 {
            self.0.replace(self.0.get() + 1)
        }
    }

    fn kept() -> Kept {
        Kept::File(KeptFile {
            digest: Digest([7; 32]),
            size: 1,
            root: Digest([8; 32]),
            tags: None,
            reserved: None,
        })
    }

    fn path(path: &str) -> RelPath {
        RelPath::new(path.as_bytes()).unwrap()
    }

    /// A table in which the source has each inode under these names.
    fn table(inodes: &[(u64, &[&str])]) -> LinkTable {
        let file = tempfile::tempfile().unwrap();
        let mut stat = Stat::of_fd(&file).unwrap();
        let mut table = LinkTable::default();
        stat.identity.nlink = 9;
        for (ino, names) in inodes {
            stat.identity.ino = *ino;
            for name in *names {
                table.add(&stat, path(name));
            }
        }
        table
    }

    fn run(mut table: LinkTable) -> Matched {
        let settled = settle(std::mem::take(&mut table.groups), |_| None);
        let Ok(matched) = matched(&table, settled, &Store(Cell::new(100)));
        matched
    }

    #[test]
    fn a_group_goes_on_as_the_one_that_most_of_its_names_are_in() {
        let mut table = table(&[(1, &["a", "b", "c"])]);
        table.claim(3, path("a"));
        table.claim(4, path("b"));
        table.claim(4, path("c"));
        let matched = run(table);
        let [group] = matched.groups.as_slice() else {
            panic!("{matched:?}")
        };
        assert_eq!(group.number, 4);
        assert_eq!(group.present, [path("b"), path("c")]);
        assert!(group.common.is_some());
        assert_eq!(matched.claimed.get(&path("a")), Some(&3));
    }

    #[test]
    fn two_inodes_never_go_on_as_one_group() {
        let mut table = table(&[(1, &["a", "b"]), (2, &["c", "d"])]);
        for name in ["a", "b", "c", "d"] {
            table.claim(5, path(name));
        }
        let numbers: Vec<u64> = run(table).groups.iter().map(|group| group.number).collect();
        assert_eq!(numbers, [5, 100]);
    }

    #[test]
    fn an_unknown_group_and_an_unknown_directory_count_for_nothing() {
        let mut table = table(&[(1, &["a", "b", "gone/c"]), (2, &["gone/d"])]);
        table.claim(11, path("a"));
        let matched = run(table);
        let [group] = matched.groups.as_slice() else {
            panic!("{matched:?}")
        };
        assert_eq!(group.paths, [path("a"), path("b")]);
        assert_eq!((group.number, group.present.len()), (100, 0));
        assert!(matched.alone.is_empty());
    }

    #[test]
    fn a_number_of_the_destination_is_replaced() {
        let mut table = table(&[(1, &["a", "b"])]);
        let group = table.remember_remote(9, 1, kept());
        table.claim(group, path("a"));
        let matched = run(table);
        let [group] = matched.groups.as_slice() else {
            panic!("{matched:?}")
        };
        assert_eq!(
            (group.number, group.present.as_slice()),
            (100, &[path("a")][..])
        );
    }

    #[test]
    fn an_inode_with_names_elsewhere_is_left_alone() {
        let mut table = table(&[(1, &["a", "b"])]);
        let group = table.remember_remote(9, 3, kept());
        table.claim(group, path("a"));
        table.claim(group, path("b"));
        let matched = run(table);
        let [group] = matched.groups.as_slice() else {
            panic!("{matched:?}")
        };
        assert!(group.present.is_empty() && group.common.is_none());
    }

    #[test]
    fn one_name_alone_makes_way_only_where_the_destination_has_more() {
        let mut table = table(&[(1, &["a"]), (2, &["b"])]);
        table.claim(3, path("a"));
        table.remember_single(path("b"), kept());
        let matched = run(table);
        let alone: Vec<_> = matched
            .alone
            .iter()
            .map(|alone| (alone.path.clone(), alone.replace, alone.kept.is_some()))
            .collect();
        assert_eq!(alone, [(path("a"), true, false), (path("b"), false, true)]);
    }
}
