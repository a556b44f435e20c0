//! The links of a pass, being made.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::Ordering,
};

use livmig_proto::{
    control::{Fault, FaultCode, Reasons, Side},
    frame::Op,
    manifest::group_member,
    name::{Name, RelPath},
    tree::Digest,
};

use super::{
    kept::Common,
    matching::{Alone, LinkStates, Match},
};
use crate::{
    catalog::{
        segment::{Kept, Segment},
        store::Known,
    },
    fault,
    source::{
        shared::{Counts, Shared},
        walk::visit::Visitor,
    },
};

/// The groups of a pass, summed up for the manifest.
#[derive(Debug, Default)]
pub struct LinkSummary {
    /// What stands for each group in the manifest.
    pub members: Vec<Digest>,
    /// Bytes of content they share, each group once.
    pub bytes: u64,
    /// What the inodes of groups were when they were looked at.
    pub states: LinkStates,
}

/// What came of the content of a group.
#[expect(
    clippy::large_enum_variant,
    reason = "one at a time, put where it belongs at once"
)]
pub(super) enum Content {
    /// It is on its way; this is known of it then.
    Sent(Common),
    /// No name leads to the inode any more.
    Strayed,
    /// It could not be read, or has to wait.
    Failed,
}

/// What came of a group.
pub(super) enum Grouped {
    /// Its names are the group of this number.
    As(u64),
    /// The inode was gone from all its names: each was carried for itself.
    Apart,
    /// Something of it could not be sent.
    Doubtful,
}

/// The links of a pass, being made.
pub(super) struct Work<'w, 'a> {
    pub(super) visitor: &'w mut Visitor<'a>,
    /// The segments of directories whose names get another group.
    pub(super) segments: HashMap<RelPath, Segment>,
    /// The segments of directories whose names keep their groups, decoded once.
    peeked: HashMap<RelPath, Segment>,
    /// Directories that content was written through, and that were not begun.
    pub(super) written: HashSet<RelPath>,
    /// What will be known of a group once everything is applied, and the directory of the name
    /// that it was sent through.
    pub(super) known: Vec<(u64, RelPath, Vec<u8>)>,
    /// Directories that name something which could not be sent.
    pub(super) doubtful: HashSet<RelPath>,
}

impl<'w, 'a> Work<'w, 'a> {
    /// Nothing done yet.
    pub(super) fn new(visitor: &'w mut Visitor<'a>) -> Self {
        Self {
            visitor,
            segments: HashMap::new(),
            peeked: HashMap::new(),
            written: HashSet::new(),
            known: Vec::new(),
            doubtful: HashSet::new(),
        }
    }

    /// Removes every name that is in a group it should not be in, and waits for that. Where room
    /// is short, every name goes that will be made anew.
    pub(super) fn separate(
        &mut self,
        matches: &[Match],
        alone: &[Alone],
        claimed: &HashMap<RelPath, u64>,
    ) -> Result<(), Fault> {
        let tight = self.visitor.shared.is_tight();
        let wrong = matches.iter().flat_map(|group| {
            group.paths.iter().filter(move |path| {
                (tight || claimed.contains_key(*path)) && group.present.binary_search(path).is_err()
            })
        });
        let replaced = alone
            .iter()
            .filter(|alone| tight && alone.replace)
            .map(|alone| &alone.path);
        let mut removed = false;
        for path in wrong.chain(replaced) {
            let name = self.enter(path)?;
            self.visitor.lane.push(&Op::Remove { name }, 300)?;
            self.visitor.shared.room.free();
            removed = true;
        }
        if removed {
            self.visitor.lane.drain()
        } else {
            Ok(())
        }
    }

    /// Brings one group up to date.
    pub(super) fn group(
        &mut self,
        group: &Match,
        summary: &mut LinkSummary,
    ) -> Result<Grouped, Fault> {
        let shared = self.visitor.shared;
        let base = group.present.first().or(group.paths.first());
        let Some(base) = base else {
            return Ok(Grouped::Doubtful);
        };
        let pushed = self.visitor.lane.pushed();
        let common = match &group.common {
            Some(common)
                if shared
                    .proof
                    .holds(common.seen.as_ref(), &group.stat.identity) =>
            {
                let left = common.seen.map_or(Reasons::NONE, |seen| seen.left);
                shared.leave_again(base, left, group.stat.attributes);
                common.clone()
            }
            _ => match self.content(group)? {
                Content::Sent(common) => {
                    if group.common.is_some() {
                        shared.room.free();
                    }
                    common
                }
                Content::Strayed => return self.divide(group),
                Content::Failed => return Ok(Grouped::Doubtful),
            },
        };
        // An inode with names that are not the group's, in a snapshot of the destination say, stays
        // theirs: what was sent is a new one then, which those that were present follow.
        let moved = self.visitor.lane.pushed() != pushed;
        for path in group.paths.iter().filter(|path| *path != base) {
            let is_new = group.present.binary_search(path).is_err();
            if is_new || moved {
                let name = self.enter(path)?;
                let Some((directory, target)) = base.split() else {
                    continue;
                };
                let directory = self.visitor.lane.refer(&directory);
                let size = 600 + directory.len();
                let op = Op::Link {
                    name,
                    directory,
                    target,
                };
                self.visitor.lane.push(&op, size)?;
            }
            if is_new {
                shared.room.free();
                Counts::add(&shared.counts.changed, 1);
            }
        }
        // Names that were in the group already may carry a number that only this pass knew.
        for path in &group.paths {
            self.renumber(path, group.number)?;
        }
        let number = group.number;
        let directory = base.split().map(|(parent, _)| parent).unwrap_or_default();
        self.known.push((number, directory, common.encode()));
        let digest = match &common.kept {
            Kept::File(file) => {
                summary.bytes += file.size;
                file.digest
            }
            Kept::Other { digest } => *digest,
            Kept::Directory | Kept::Link { .. } | Kept::Apart => return Ok(Grouped::As(number)),
        };
        summary.members.push(group_member(&group.paths, &digest));
        Ok(Grouped::As(number))
    }

    /// All names of a group became something else since they were looked at: each is carried as what
    /// it is now.
    fn divide(&mut self, group: &Match) -> Result<Grouped, Fault> {
        for path in &group.paths {
            let alone = Alone {
                stat: group.stat,
                path: path.clone(),
                kept: None,
                replace: true,
            };
            if !self.alone(&alone)? {
                self.doubt(path);
            }
        }
        Ok(Grouped::Apart)
    }

    /// Speaks of the directory of `path`, whose listing is about to change; the name in it.
    pub(super) fn enter(&mut self, path: &RelPath) -> Result<Name, Fault> {
        let shared = self.visitor.shared;
        let (parent, name) = path.split().ok_or_else(|| {
            fault::plain(
                Side::Source,
                FaultCode::Internal,
                "source: the root has several links",
            )
        })?;
        if self.segments.contains_key(&parent) || shared.store.doubts(&parent) {
            self.visitor.lane.enter(&parent)?;
        } else {
            if let Known::Segment(segment) =
                shared.store.get(&parent).map_err(Shared::state_fault)?
            {
                self.segments.insert(parent.clone(), *segment);
            }
            self.visitor.lane.begin(&parent)?;
        }
        Ok(name)
    }

    /// From here on the segment of its directory has `path` in the group `number`.
    pub(super) fn renumber(&mut self, path: &RelPath, number: u64) -> Result<(), Fault> {
        let shared = self.visitor.shared;
        let Some((parent, name)) = path.split() else {
            return Ok(());
        };
        if !self.segments.contains_key(&parent) {
            if !self.peeked.contains_key(&parent) {
                let Known::Segment(segment) =
                    shared.store.get(&parent).map_err(Shared::state_fault)?
                else {
                    return Ok(());
                };
                self.peeked.insert(parent.clone(), *segment);
            }
            let settled = self
                .peeked
                .get(&parent)
                .and_then(|segment| segment.entry(&name))
                .is_some_and(|entry| entry.kept == Kept::Link { group: number });
            if settled {
                return Ok(());
            }
            if let Some(segment) = self.peeked.remove(&parent) {
                self.segments.insert(parent.clone(), segment);
            }
            self.visitor.lane.begin(&parent)?;
        }
        if let Some(entry) = self
            .segments
            .get_mut(&parent)
            .and_then(|segment| segment.entry_mut(&name))
        {
            entry.kept = Kept::Link { group: number };
        }
        Ok(())
    }

    /// What the names of `group` share could not be sent, which the fault of one of them says; of the
    /// others that are missing for it each is named too.
    pub(super) fn name_missing(&self, group: &Match) {
        let shared = self.visitor.shared;
        if shared.link.acks().is_short() {
            return;
        }
        let said = group.present.first().or(group.paths.first());
        for path in group.paths.iter().filter(|path| Some(*path) != said) {
            if group.present.binary_search(path).is_err() {
                self.visitor.note(fault::named(
                    Side::Source,
                    FaultCode::Io,
                    path,
                    "source: another name of the same inode could not be read, so this one is not \
                     carried either",
                ));
            }
        }
    }

    /// The directory of `path` is not as its segment says.
    pub(super) fn doubt(&mut self, path: &RelPath) {
        self.doubtful.extend(path.split().map(|(parent, _)| parent));
    }

    /// The group changed since it was listed. The next pass will see how.
    pub(super) fn gone(&self, path: &RelPath) {
        let shared = self.visitor.shared;
        shared.unproven.store(true, Ordering::Relaxed);
        if shared.is_final() {
            self.visitor.note(fault::named(
                Side::Source,
                FaultCode::StillWritten,
                path,
                "source: an entry disappeared during the final pass",
            ));
        }
    }

    pub(super) fn conclude(&mut self) -> Result<(), Fault> {
        let shared = self.visitor.shared;
        for (path, segment) in self.segments.drain() {
            if self.doubtful.remove(&path) {
                self.visitor.lane.doubt_later(segment)?;
            } else {
                self.visitor.lane.commit_later(segment)?;
            }
        }
        // What is only doubted still needs its own metadata, as far as it was visited.
        for path in &self.doubtful {
            match shared.store.get(path).map_err(Shared::state_fault)? {
                Known::Segment(segment) => shared.store.doubt(&segment),
                Known::InFlight if shared.store.doubts(path) => Ok(()),
                Known::InFlight | Known::Nothing => shared.store.begin(path),
            }
            .map_err(Shared::state_fault)?;
        }
        self.visitor.lane.drain()?;
        // A mover that had to make such a directory writable leaves it so: its own metadata goes
        // once more.
        for path in &self.written {
            shared.store.unfinish(path).map_err(Shared::state_fault)?;
        }
        for (number, directory, common) in self.known.drain(..) {
            if !shared.link.acks().has_failed(&directory) {
                shared
                    .store
                    .put_group(number, &common)
                    .map_err(Shared::state_fault)?;
            }
        }
        Ok(())
    }
}
