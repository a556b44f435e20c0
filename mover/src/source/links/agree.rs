//! Which names are links of one inode.
//!
//! A file system that shows several others as one (mergerfs, 9p, virtiofs, bindfs) may give two
//! files one inode number. So names are links only where they agree about what the inode is and are
//! no more than it has links. A writer may have come between the looks at two names; those that do
//! not agree are looked at once more, close together.

use std::collections::BTreeMap;

use livmig_proto::name::RelPath;

use crate::{
    fs::stat::{Identity, Inode, Kind, Stat},
    source::link_table::LinkGroup,
};

/// How often names are looked at that do not agree.
const LOOKS: usize = 8;

/// A name that is carried for itself, and what it was when it was looked at last.
#[derive(Debug)]
pub(super) struct Single {
    pub(super) stat: Stat,
    pub(super) path: RelPath,
}

/// The names of a pass that have several links, by what they are links of.
#[derive(Debug, Default)]
pub(super) struct SettledGroup {
    /// Names that agree.
    pub(super) groups: Vec<LinkGroup>,
    /// Names that are carried for themselves.
    pub(super) apart: Vec<Single>,
    /// Names that share an inode number with others which are another file.
    pub(super) unlike: Vec<RelPath>,
}

/// Settles what the names of each inode are links of; `look` looks at one of them, and finds nothing
/// where there is nothing.
pub(super) fn settle(
    groups: impl IntoIterator<Item = (Inode, LinkGroup)>,
    mut look: impl FnMut(&RelPath) -> Option<Stat>,
) -> SettledGroup {
    let mut settled = SettledGroup::default();
    for (inode, mut group) in groups {
        group.paths.sort_unstable();
        group.paths.dedup();
        if group.agreed && fits(&group.stat, group.paths.len()) {
            settled.groups.push(group);
        } else {
            look_closer(inode, &group, &mut look, &mut settled);
        }
    }
    settled.unlike.sort_unstable();
    settled
}

/// Whether `names` names are no more than the links.
fn fits(stat: &Stat, names: usize) -> bool {
    usize::try_from(stat.identity.nlink).is_ok_and(|links| names <= links)
}

/// What names of one inode number are at one moment.
#[derive(Default)]
struct Moment {
    /// Names of the inode number, by the state they show.
    states: BTreeMap<[u8; Identity::BYTES], (Option<Stat>, Vec<RelPath>)>,
    /// Names that are another inode's by now.
    strays: Vec<Single>,
    /// Names of nothing.
    absent: Vec<RelPath>,
}

impl Moment {
    fn of(
        inode: Inode,
        paths: &[RelPath],
        look: &mut impl FnMut(&RelPath) -> Option<Stat>,
    ) -> Self {
        let mut moment = Self::default();
        for path in paths {
            match look(path) {
                Some(stat) if stat.inode() == inode && stat.kind != Kind::Directory => {
                    let state = moment.states.entry(stat.identity.bytes()).or_default();
                    state.0 = Some(stat);
                    state.1.push(path.clone());
                }
                Some(stat) => moment.strays.push(Single {
                    stat,
                    path: path.clone(),
                }),
                None => moment.absent.push(path.clone()),
            }
        }
        moment
    }

    /// Whether all names of the inode number may be links of one inode.
    fn agrees(&self) -> bool {
        self.states.len() <= 1
            && self
                .states
                .values()
                .all(|(stat, paths)| stat.is_some_and(|stat| fits(&stat, paths.len())))
    }
}

fn look_closer(
    inode: Inode,
    listed: &LinkGroup,
    look: &mut impl FnMut(&RelPath) -> Option<Stat>,
    settled: &mut SettledGroup,
) {
    let mut moment = Moment::default();
    for _ in 0..LOOKS {
        moment = Moment::of(inode, &listed.paths, look);
        if moment.agrees() {
            break;
        }
    }
    let agreed = moment.agrees();
    settled.apart.append(&mut moment.strays);
    let states: Vec<(Stat, Vec<RelPath>)> = moment
        .states
        .into_values()
        .filter_map(|(stat, paths)| Some((stat?, paths)))
        .collect();
    let alone = states.is_empty();
    for (stat, mut paths) in states {
        if agreed {
            // As they were listed: the destination gets the state of that moment.
            paths.append(&mut moment.absent);
            paths.sort_unstable();
        } else {
            settled.unlike.extend(paths.iter().cloned());
        }
        if agreed || fits(&stat, paths.len()) {
            settled.groups.push(LinkGroup {
                stat,
                paths,
                agreed: true,
            });
        } else {
            let single = |path| Single { stat, path };
            settled.apart.extend(paths.into_iter().map(single));
        }
    }
    if alone || !agreed {
        // Nobody knows of which inode they were names.
        let single = |path| Single {
            stat: listed.stat,
            path,
        };
        settled.apart.extend(moment.absent.into_iter().map(single));
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, collections::HashMap};

    use super::*;

    fn path(path: &str) -> RelPath {
        RelPath::new(path.as_bytes()).unwrap()
    }

    fn stat(ino: u64, size: u64, nlink: u32) -> Stat {
        let mut stat = Stat::of_fd(tempfile::tempfile().unwrap()).unwrap();
        stat.identity.device = (1, 2);
        stat.identity.ino = ino;
        stat.identity.nlink = nlink;
        stat.identity.size = size;
        stat.identity.mtime.seconds = 5;
        stat.identity.ctime = stat.identity.mtime;
        stat.identity.btime = stat.identity.mtime;
        stat
    }

    fn group(stat: Stat, paths: &[&str], agreed: bool) -> (Inode, LinkGroup) {
        let group = LinkGroup {
            stat,
            paths: paths.iter().map(|name| path(name)).collect(),
            agreed,
        };
        (stat.inode(), group)
    }

    type Shown<'s> = (Vec<Vec<&'s str>>, Vec<&'s str>, Vec<&'s str>);

    fn shown(settled: &SettledGroup) -> Shown<'_> {
        let text = |path: &'_ RelPath| -> &'_ str { Box::leak(path.to_string().into_boxed_str()) };
        let mut groups: Vec<Vec<&str>> = settled
            .groups
            .iter()
            .map(|group| group.paths.iter().map(text).collect())
            .collect();
        groups.sort_unstable();
        let mut apart: Vec<&str> = settled.apart.iter().map(|one| text(&one.path)).collect();
        apart.sort_unstable();
        let mut unlike: Vec<&str> = settled.unlike.iter().map(text).collect();
        unlike.sort_unstable();
        (groups, apart, unlike)
    }

    #[test]
    fn names_that_agreed_when_they_were_listed_are_not_looked_at_again() {
        let settled = settle([group(stat(7, 1, 2), &["b", "a"], true)], |_| {
            panic!("looked")
        });
        assert_eq!(shown(&settled), (vec![vec!["a", "b"]], vec![], vec![]));
    }

    #[test]
    fn a_writer_between_two_looks_divides_no_group() {
        let looks = Cell::new(0);
        let settled = settle([group(stat(7, 1, 2), &["a", "b"], false)], |_| {
            looks.set(looks.get() + 1);
            // It writes once more between the first two of these looks.
            Some(stat(7, if looks.get() == 1 { 2 } else { 3 }, 2))
        });
        assert_eq!(shown(&settled), (vec![vec!["a", "b"]], vec![], vec![]));
        assert_eq!(settled.groups[0].stat.identity.size, 3);
    }

    #[test]
    fn two_files_of_one_number_are_two_groups_and_told() {
        let states: HashMap<RelPath, Stat> = [("a", 1), ("a2", 1), ("b", 2), ("b2", 2)]
            .map(|(name, size)| (path(name), stat(7, size, 2)))
            .into();
        let listed = group(stat(7, 2, 2), &["a", "a2", "b", "b2"], false);
        let settled = settle([listed], |path| states.get(path).copied());
        let (groups, apart, unlike) = shown(&settled);
        assert_eq!(groups, [["a", "a2"], ["b", "b2"]]);
        assert_eq!((apart.len(), unlike), (0, vec!["a", "a2", "b", "b2"]));
    }

    #[test]
    fn more_names_than_links_are_carried_each_for_itself() {
        let listed = group(stat(7, 1, 2), &["a", "b", "c"], true);
        let settled = settle([listed], |_| Some(stat(7, 1, 2)));
        let (groups, apart, unlike) = shown(&settled);
        assert!(groups.is_empty());
        assert_eq!((apart, unlike), (vec!["a", "b", "c"], vec!["a", "b", "c"]));
    }

    #[test]
    fn a_name_that_was_replaced_is_no_longer_the_inode_s() {
        let listed = group(stat(7, 1, 2), &["a", "b"], false);
        let settled = settle([listed], |name| {
            Some(if *name == path("a") {
                stat(8, 5, 1)
            } else {
                stat(7, 1, 1)
            })
        });
        assert_eq!(shown(&settled), (vec![vec!["b"]], vec!["a"], vec![]));
    }

    #[test]
    fn a_name_that_moved_while_it_was_listed_is_as_it_was_listed() {
        let listed = group(stat(7, 1, 2), &["a", "b", "c"], true);
        let settled = settle([listed], |name| (*name != path("a")).then(|| stat(7, 1, 2)));
        assert_eq!(shown(&settled), (vec![vec!["a", "b", "c"]], vec![], vec![]));
    }

    #[test]
    fn names_of_nothing_are_not_forgotten() {
        let listed = group(stat(7, 1, 2), &["a", "b"], false);
        let settled = settle([listed], |_| None);
        assert_eq!(shown(&settled), (vec![], vec!["a", "b"], vec![]));
    }
}
