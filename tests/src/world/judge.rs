//! Whether a pass kept the promise: equal, or each difference named.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    report::{Left, Named, Report},
    seen::{Seen, Tree},
};

/// The type in a mode.
const TYPE: u32 = 0o170_000;

/// Storage that a copy may take beyond its original: tails, and holes smaller than a block.
const SLACK: u64 = 256 * 1024;

/// In what way an entry differs.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Aspect {
    /// It is not at the destination.
    Missing,
    /// It is not at the source.
    Extra,
    /// Type, content, target or device.
    Content,
    /// Owner or group.
    Owner,
    /// Permissions.
    Mode,
    /// Modification time.
    Time,
    /// An extended attribute.
    Attribute(Vec<u8>),
    /// Inode flags.
    Flags,
    /// It shares an inode with others than it should.
    Links,
    /// Holes are filled.
    Holes,
}

/// One difference.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The entry.
    pub path: Vec<u8>,
    /// How it differs.
    pub aspect: Aspect,
    /// The same for people.
    pub shown: String,
    /// Entries that it is about as well: the other names of an inode.
    pub others: Vec<Vec<u8>>,
    /// Whether it is about a directory of the source.
    pub is_dir: bool,
}

/// How `b` differs from `a`.
pub fn differences(a: &Tree, b: &Tree) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut add = |path: &[u8], aspect: Aspect, shown: String| {
        found.push(Difference {
            path: path.to_vec(),
            shown: format!("{}: {aspect:?} {shown}", path.escape_ascii()),
            aspect,
            others: Vec::new(),
            is_dir: a.get(path).is_some_and(|seen| seen.inode.is_none()),
        });
    };
    for (path, original) in a {
        match b.get(path) {
            None => add(path, Aspect::Missing, String::new()),
            Some(copy) => of_entry(original, copy, &mut |aspect, shown| {
                add(path, aspect, shown);
            }),
        }
    }
    for path in b.keys().filter(|path| !a.contains_key(*path)) {
        add(path, Aspect::Extra, String::new());
    }
    found.extend(of_links(a, b));
    found
}

fn of_entry(a: &Seen, b: &Seen, add: &mut dyn FnMut(Aspect, String)) {
    let kind = |seen: &Seen| {
        (
            seen.mode & TYPE,
            seen.size,
            seen.content,
            seen.rdev,
            seen.target.clone(),
        )
    };
    if kind(a) != kind(b) {
        let shown = |seen: &Seen| format!("{:o}, {} bytes", seen.mode, seen.size);
        add(
            Aspect::Content,
            format!("is {}, was {}", shown(b), shown(a)),
        );
    }
    if a.owner != b.owner {
        add(
            Aspect::Owner,
            format!("is {:?}, was {:?}", b.owner, a.owner),
        );
    }
    if a.mode & !TYPE != b.mode & !TYPE {
        add(Aspect::Mode, format!("is {:o}, was {:o}", b.mode, a.mode));
    }
    if a.mtime != b.mtime {
        add(Aspect::Time, format!("is {:?}, was {:?}", b.mtime, a.mtime));
    }
    let names: BTreeSet<&Vec<u8>> = a.attributes.keys().chain(b.attributes.keys()).collect();
    for name in names {
        if a.attributes.get(name) != b.attributes.get(name) {
            let there = |seen: &Seen| seen.attributes.get(name).map(Vec::len);
            let shown = format!(
                "{}: {:?}, was {:?}",
                name.escape_ascii(),
                there(b),
                there(a)
            );
            add(Aspect::Attribute(name.clone()), shown);
        }
    }
    if a.flags & !b.flags != 0 {
        add(
            Aspect::Flags,
            format!("are {:x}, were {:x}", b.flags, a.flags),
        );
    }
    if b.allocated > a.allocated + a.allocated / 8 + SLACK {
        add(
            Aspect::Holes,
            format!("{} bytes of {}", b.allocated, a.allocated),
        );
    }
}

/// Names that share an inode on one side and not on the other.
fn of_links(a: &Tree, b: &Tree) -> Vec<Difference> {
    let both = |path: &Vec<u8>| a.contains_key(path) && b.contains_key(path);
    let mut found = Vec::new();
    for (one, other, word) in [(a, b, "not linked"), (b, a, "linked")] {
        for names in groups(one).into_values() {
            let names: Vec<Vec<u8>> = names.into_iter().filter(both).collect();
            let inodes: BTreeSet<_> = names
                .iter()
                .filter_map(|name| other.get(name).and_then(|seen| seen.inode))
                .collect();
            if inodes.len() > 1
                && let Some(first) = names.first()
            {
                found.push(Difference {
                    path: first.clone(),
                    aspect: Aspect::Links,
                    shown: format!("{word}: {}", shown(&names)),
                    others: names,
                    is_dir: false,
                });
            }
        }
    }
    found
}

fn groups(tree: &Tree) -> BTreeMap<(u64, u64), Vec<Vec<u8>>> {
    let mut groups: BTreeMap<_, Vec<Vec<u8>>> = BTreeMap::new();
    for (path, seen) in tree {
        // One name may be shown twice, by a mount: that is no link.
        if seen.links > 1
            && let Some(inode) = seen.inode
        {
            groups.entry(inode).or_default().push(path.clone());
        }
    }
    groups.retain(|_, names| names.len() > 1);
    groups
}

fn shown(paths: &[Vec<u8>]) -> String {
    let paths: Vec<String> = paths.iter().map(|p| p.escape_ascii().to_string()).collect();
    paths.join(", ")
}

/// What of the promise a report breaks, a line each, given all that differs.
pub fn broken(differences: &[Difference], report: &Report) -> Vec<String> {
    let mut broken = Vec::new();
    let grave = |left: &&Left| left.is_grave && !left.is_consented;
    let has_grave = report.left.iter().any(|left| grave(&left));
    match report.exit {
        0 if report.faults.total > 0 => broken.push("exit 0 with faults".into()),
        0 if has_grave => broken.push("exit 0 with something grave and no consent".into()),
        0 | 1 => {}
        other => broken.push(format!("exit {other}")),
    }
    if report.exit == 1 && report.faults.total == 0 && !has_grave {
        broken.push("exit 1 and nothing named".into());
    }
    // What lists have no room for, they say in their totals.
    let unlisted = |named: &Named| named.total.saturating_sub(count(&named.paths));
    let mut room: BTreeMap<&str, u64> = BTreeMap::new();
    for left in &report.left {
        room.insert(&left.reason, unlisted(&left.named));
    }
    let more_faults = unlisted(&report.faults) > 0;
    for difference in differences {
        let paths = difference.others.iter().chain([&difference.path]);
        let paths: Vec<&Vec<u8>> = paths.collect();
        if paths.iter().any(|path| fails(&report.faults.paths, path)) {
            continue;
        }
        // A directory stays for the sake of what resists below it.
        let resists = |named: &Vec<u8>| holds(&difference.path, named);
        if difference.aspect == Aspect::Extra && report.faults.paths.iter().any(resists) {
            continue;
        }
        let reasons = report
            .left
            .iter()
            .filter(|left| explains(&left.reason, &difference.aspect));
        let mut is_named = false;
        for left in reasons {
            // The empty mount point is carried.
            let is_point = left.reason == "mount"
                && difference.is_dir
                && difference.aspect == Aspect::Missing
                && left.named.paths.contains(&difference.path);
            is_named |= !is_point && paths.iter().any(|path| names(&left.named.paths, path));
        }
        if !is_named
            && let Some(left) = report.left.iter().find(|left| {
                explains(&left.reason, &difference.aspect)
                    && room.get(left.reason.as_str()).is_some_and(|room| *room > 0)
            })
        {
            *room.entry(&left.reason).or_default() -= 1;
            is_named = true;
        }
        // One fault may be of all that differs of an inode, whatever its names: more than are listed
        // cannot be counted against what differs.
        is_named |= more_faults;
        if !is_named {
            broken.push(format!("not named: {}", difference.shown));
        }
    }
    broken
}

fn count(paths: &[Vec<u8>]) -> u64 {
    u64::try_from(paths.len()).unwrap_or(u64::MAX)
}

/// Whether one of `named` is `path` or lies above it.
fn names(named: &[Vec<u8>], path: &[u8]) -> bool {
    named.iter().any(|named| holds(named, path))
}

/// Whether one of the paths that failed is `path` or lies above it. A root that is not what it
/// should be says something of its own entries, and nothing of what lies below them.
fn fails(named: &[Vec<u8>], path: &[u8]) -> bool {
    names(named, path) || (!path.contains(&b'/') && named.iter().any(|named| named == b"."))
}

/// Whether `path` is `above` or lies below it. The root holds itself alone: whoever names it has
/// named nothing.
pub fn holds(above: &[u8], path: &[u8]) -> bool {
    path.strip_prefix(above)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// Whether something left out for `reason` may show in such a difference.
fn explains(reason: &str, aspect: &Aspect) -> bool {
    match reason {
        "mount" | "lost-found" => true,
        "attributes-unreadable" | "attributes-unsupported" => {
            // An access control list is a part of the mode.
            matches!(aspect, Aspect::Attribute(_) | Aspect::Mode)
        }
        "labels" => matches!(aspect, Aspect::Attribute(name) if name == b"security.selinux"),
        "owners" => matches!(aspect, Aspect::Owner | Aspect::Attribute(_)),
        "links" => *aspect == Aspect::Links,
        "flags" => *aspect == Aspect::Flags,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(exit: i32, faults: &[&str], left: &[(&str, bool, &[&str], u64)]) -> Report {
        let named = |paths: &[&str], more: u64| Named {
            paths: paths.iter().map(|path| path.as_bytes().to_vec()).collect(),
            total: u64::try_from(paths.len()).unwrap() + more,
        };
        Report {
            exit,
            faults: named(faults, 0),
            left: left
                .iter()
                .map(|(reason, is_grave, paths, more)| Left {
                    reason: (*reason).to_owned(),
                    is_grave: *is_grave,
                    is_consented: false,
                    named: named(paths, *more),
                })
                .collect(),
            said: String::new(),
        }
    }

    fn differs(path: &str, aspect: Aspect) -> Difference {
        Difference {
            path: path.as_bytes().to_vec(),
            aspect,
            shown: path.to_owned(),
            others: Vec::new(),
            is_dir: true,
        }
    }

    #[test]
    fn a_difference_must_be_named_by_what_explains_it() {
        let missing = [differs("d/x", Aspect::Missing)];
        let entry = [differs("d", Aspect::Missing)];
        let flags = [differs("d/x", Aspect::Flags)];
        for (expected, differences, report) in [
            (0, &[][..], report(0, &[], &[])),
            (1, &missing[..], report(0, &[], &[])),
            (0, &missing[..], report(1, &["d"], &[])),
            (0, &missing[..], report(1, &["d/x"], &[])),
            (1, &missing[..], report(1, &["d/xx"], &[])),
            (1, &missing[..], report(1, &["."], &[])),
            (0, &entry[..], report(1, &["."], &[])),
            (
                0,
                &missing[..],
                report(1, &[], &[("mount", true, &["d"], 0)]),
            ),
            (
                1,
                &missing[..],
                report(0, &[], &[("mount", true, &["d"], 0)]),
            ),
            (
                1,
                &missing[..],
                report(1, &[], &[("mount", true, &["d/x"], 0)]),
            ),
            (
                0,
                &missing[..],
                report(1, &[], &[("mount", true, &["e"], 1)]),
            ),
            (
                1,
                &missing[..],
                report(0, &[], &[("flags", false, &["d/x"], 0)]),
            ),
            (
                0,
                &flags[..],
                report(0, &[], &[("flags", false, &["d/x"], 0)]),
            ),
            (1, &[][..], report(1, &[], &[])),
            (1, &[][..], report(101, &[], &[])),
        ] {
            let broken = broken(differences, &report);
            assert_eq!(
                broken.len(),
                expected,
                "{differences:?} {report:?}: {broken:?}"
            );
        }
    }
}
