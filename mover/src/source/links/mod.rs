//! Hard links: groups of names that share an inode, matched at the end of a pass, when every
//! name of every group is known.
//!
//! A name's segment says which *group* the destination has it in; groups are numbered by the
//! source, never by inode. Writing in place through one name is right only if every name of that
//! inode at the destination belongs to the group at the source, so first of all each name that
//! is in the wrong group is removed, and only when that is applied is anything written.

mod agree;
mod kept;
mod make;
mod matching;
mod send;

use std::{collections::HashSet, os::fd::OwnedFd};

use livmig_proto::{
    control::{Fault, Reason},
    name::RelPath,
};

use self::{
    agree::settle,
    kept::Common,
    make::{Grouped, Work},
    matching::{GroupStore, Matched, matched},
};
pub use self::{make::LinkSummary, matching::LinkStates};
use super::{
    link_table::{LinkTable, REMOTE},
    shared::{Shared, lock},
    walk::visit::Visitor,
};
use crate::{
    fs::{stat::Stat, volume::Volume},
    random::random,
};

/// Makes the destination's hard links equal to the source's.
pub fn finish(visitor: &mut Visitor<'_>, mut table: LinkTable) -> Result<LinkSummary, Fault> {
    let shared = visitor.shared;
    let mut looker = Looker::new(shared.volume);
    let settled = settle(std::mem::take(&mut table.groups), |path| looker.look(path));
    for path in &settled.unlike {
        let detail = "shares its inode number with another file";
        shared.counts.leave(path, Reason::Links, detail);
    }
    let Matched {
        groups,
        alone,
        claimed,
        states,
    } = matched(&table, settled, shared)?;
    let mut summary = LinkSummary {
        states,
        ..LinkSummary::default()
    };
    let mut work = Work::new(visitor);
    work.separate(&groups, &alone, &claimed)?;
    for alone in &alone {
        if !work.alone(alone)? {
            work.doubt(&alone.path);
        }
    }
    let mut numbers = HashSet::new();
    for group in &groups {
        match work.group(group, &mut summary)? {
            Grouped::As(number) => {
                numbers.insert(number);
            }
            Grouped::Apart => {}
            Grouped::Doubtful => {
                work.name_missing(group);
                for path in &group.paths {
                    work.doubt(path);
                }
            }
        }
    }
    work.conclude()?;
    shared
        .store
        .retain_groups(|number| numbers.contains(&number))
        .map_err(Shared::state_fault)?;
    Ok(summary)
}

/// Looks at names, those of one directory through one handle of it.
struct Looker<'v> {
    volume: &'v Volume,
    dir: Option<(RelPath, OwnedFd)>,
}

impl<'v> Looker<'v> {
    fn new(volume: &'v Volume) -> Self {
        Self { volume, dir: None }
    }

    /// What stands at `path`, if anything does.
    fn look(&mut self, path: &RelPath) -> Option<Stat> {
        let (parent, name) = path.split()?;
        if self.dir.as_ref().is_none_or(|(at, _)| *at != parent) {
            self.dir = Some((parent.clone(), self.volume.dir(&parent).ok()?));
        }
        let (_, dir) = self.dir.as_ref()?;
        Stat::of_entry(dir, &name).ok()
    }
}

/// Takes the table of a pass, leaving an empty one.
pub fn take(shared: &Shared<'_>) -> LinkTable {
    std::mem::take(&mut *lock(&shared.links))
}

impl GroupStore for Shared<'_> {
    type Error = Fault;

    fn knows(&self, directory: &RelPath) -> bool {
        self.store.knows(directory)
    }

    fn common(&self, number: u64) -> Result<Option<Common>, Fault> {
        Common::load(self, number)
    }

    fn new_number(&self) -> u64 {
        (u64::from_le_bytes(random()) & !REMOTE).max(1)
    }
}
