//! Hard links: groups of names that share an inode, matched at the end of a pass, when every
//! name of every group is known.
//!
//! A name's segment says which *group* the destination has it in; groups are numbered by the
//! source, never by inode. Writing in place through one name is right only if every name of that
//! inode at the destination belongs to the group at the source, so first of all each name that
//! is in the wrong group is removed, and only when that is applied is anything written.

mod common;
mod matching;
mod send;
mod table;
mod work;

use std::collections::HashSet;

use livmig_proto::{control::Fault, name::RelPath};

use self::{
    common::Common,
    matching::{GroupStore, Matched, matched},
    table::REMOTE,
    work::Work,
};
pub use self::{table::LinkTable, work::LinkSummary};
use super::{
    shared::{Shared, lock},
    visit::Visitor,
};
use crate::random::random;

/// Makes the destination's hard links equal to the source's.
pub fn finish(visitor: &mut Visitor<'_>, table: LinkTable) -> Result<LinkSummary, Fault> {
    let shared = visitor.shared;
    let Matched {
        groups,
        alone,
        claimed,
        identities,
    } = matched(table, shared)?;
    let mut summary = LinkSummary {
        identities,
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
        if let Some(number) = work.group(group, &mut summary)? {
            numbers.insert(number);
        } else {
            for path in &group.paths {
                work.doubt(path);
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
