//! Hard links: groups of names that share an inode, matched at the end of a pass, when every
//! name of every group is known.
//!
//! A name's segment says which *group* the destination has it in; groups are numbered by the
//! source, never by inode. Writing in place through one name is right only if every name of that
//! inode at the destination belongs to the group at the source, so first of all each name that
//! is in the wrong group is removed, and only when that is applied is anything written.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::atomic::Ordering,
};

use livmig_proto::{
    control::{Fault, FaultCode, Side},
    entry::entry_digest,
    frame::{Op, OpenMode},
    manifest::group_member,
    name::{Name, RelPath},
    tree::Digest,
    wire::{Decoder, Encoder},
};

use super::{
    file::Transfer,
    read::{self, Attempt},
    shared::{Counts, Shared, lock},
    visit::{Scope, Visitor},
};
use crate::{
    catalog::{
        segment::{Kept, KeptFile, Seen, Segment, decode_seen, encode_seen},
        store::{Known, random},
    },
    fault,
    fs::stat::{Identity, Kind, Stat},
};

/// What a pass learns of entries with several links.
#[derive(Debug, Default)]
pub struct LinkTable {
    /// At the source, by inode number.
    groups: HashMap<u64, Group>,
    /// At the destination: the names that segments say are in a group.
    claims: HashMap<u64, Vec<RelPath>>,
    /// At the destination: names that have one link there.
    singles: HashMap<RelPath, Kept>,
    /// What groups share of which only the destination knew.
    remote: HashMap<u64, Kept>,
}

#[derive(Debug)]
struct Group {
    stat: Stat,
    paths: Vec<RelPath>,
}

/// What the names of a group share.
#[derive(Clone, Debug, PartialEq)]
struct Common {
    kept: Kept,
    seen: Option<Seen>,
}

/// The groups of a pass, summed up for the manifest.
#[derive(Debug, Default)]
pub struct LinkSummary {
    /// What stands for each group in the manifest.
    pub members: Vec<Digest>,
    /// Bytes of content they share, each group once.
    pub bytes: u64,
    /// What each inode was when it was listed.
    pub identities: HashMap<u64, Identity>,
}

/// Marks a group number that was made from the destination's inode number in this pass.
const REMOTE: u64 = 1 << 63;

impl LinkTable {
    /// The source has one more name of an inode.
    pub fn add(&mut self, stat: &Stat, path: RelPath) {
        let group = self
            .groups
            .entry(stat.identity.ino)
            .or_insert_with(|| Group {
                stat: *stat,
                paths: Vec::new(),
            });
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

    /// The destination says it has an inode with several links; the group's number.
    pub fn remember_remote(&mut self, ino: u64, kept: Kept) -> u64 {
        let group = REMOTE | ino;
        self.remote.entry(group).or_insert(kept);
        group
    }
}

/// One group at the source and what the destination has of it.
struct Match {
    stat: Stat,
    paths: Vec<RelPath>,
    /// The names that are one inode at the destination already.
    present: Vec<RelPath>,
    /// The number of that inode's group; a new one where there is none.
    number: u64,
    common: Option<Common>,
}

/// An entry with several links of which the volume holds one.
struct Alone {
    stat: Stat,
    path: RelPath,
    /// What the destination holds under its name.
    kept: Option<Kept>,
    /// Whether that inode has other names there.
    replace: bool,
}

/// Makes the destination's hard links equal to the source's.
pub fn finish(visitor: &mut Visitor<'_>, table: LinkTable) -> Result<LinkSummary, Fault> {
    let shared = super::file::shared(visitor);
    let mut claimed: HashMap<RelPath, u64> = HashMap::new();
    // The number that an inode got from the destination and the one that it got from us cannot
    // be matched, so where both are in play only the destination's word counts.
    let asked = table.claims.keys().any(|group| group & REMOTE != 0);
    for (group, paths) in &table.claims {
        for path in paths {
            claimed.insert(path.clone(), *group);
        }
    }
    let mut matches = Vec::new();
    let mut used = HashSet::new();
    let mut groups: Vec<Group> = table.groups.into_values().collect();
    for group in &mut groups {
        group.paths.sort_unstable();
        group.paths.dedup();
        // A directory that was removed since, or in which something failed, has no names to link.
        group.paths.retain(|path| {
            path.split()
                .is_some_and(|(dir, _)| shared.store.knows(&dir))
        });
    }
    groups.retain(|group| !group.paths.is_empty());
    groups.sort_unstable_by(|one, other| one.paths.cmp(&other.paths));
    let mut summary = LinkSummary::default();
    let mut alone = Vec::new();
    for Group { stat, paths } in groups {
        summary.identities.insert(stat.identity.ino, stat.identity);
        if let [path] = paths.as_slice() {
            // Its other names are outside the volume, or gone: for the destination it has one.
            let kept = table.singles.get(path).cloned();
            alone.push(Alone {
                stat,
                path: path.clone(),
                kept,
                replace: claimed.contains_key(path),
            });
            continue;
        }
        let mut votes: BTreeMap<u64, Vec<RelPath>> = BTreeMap::new();
        for path in &paths {
            if let Some(number) = claimed.get(path) {
                votes.entry(*number).or_default().push(path.clone());
            }
        }
        votes.retain(|number, _| !used.contains(number) && (!asked || number & REMOTE != 0));
        let mut found = None;
        if let Some((number, present)) = votes.into_iter().max_by_key(|(_, paths)| paths.len()) {
            let common = match table.remote.get(&number) {
                Some(kept) => Some(Common {
                    kept: kept.clone(),
                    seen: None,
                }),
                None => Common::load(shared, number)?,
            };
            if let Some(common) = common {
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
            Some((new_number(), vec![path.clone()], common))
        });
        let (number, present, common) = match found {
            // The destination's own number would not be unique for long.
            Some((number, present, common)) if number & REMOTE != 0 => {
                (new_number(), present, Some(common))
            }
            Some((number, present, common)) => (number, present, Some(common)),
            None => (new_number(), Vec::new(), None),
        };
        matches.push(Match {
            stat,
            paths,
            present,
            number,
            common,
        });
    }
    let mut work = Work {
        visitor,
        segments: HashMap::new(),
        known: Vec::new(),
        doubtful: HashSet::new(),
    };
    work.separate(&matches, &claimed)?;
    for alone in &alone {
        if !work.alone(alone)? {
            work.doubt(&alone.path);
        }
    }
    let mut numbers = HashSet::new();
    for group in &matches {
        match work.group(group, &mut summary)? {
            Some(number) => {
                numbers.insert(number);
            }
            None => group.paths.iter().for_each(|path| work.doubt(path)),
        }
    }
    work.conclude()?;
    shared
        .store
        .retain_groups(|number| numbers.contains(&number))
        .map_err(Shared::state_fault)?;
    Ok(summary)
}

/// The links of a pass, being made.
struct Work<'w, 'a> {
    visitor: &'w mut Visitor<'a>,
    /// The segments of directories whose names get another group.
    segments: HashMap<RelPath, Segment>,
    /// What will be known of a group once everything is applied, and the directory of the name
    /// that it was sent through.
    known: Vec<(u64, RelPath, Vec<u8>)>,
    /// Directories that name something which could not be sent.
    doubtful: HashSet<RelPath>,
}

impl Work<'_, '_> {
    /// Removes every name that is in a group it should not be in, and waits for that.
    fn separate(
        &mut self,
        matches: &[Match],
        claimed: &HashMap<RelPath, u64>,
    ) -> Result<(), Fault> {
        let mut removed = false;
        for group in matches {
            for path in &group.paths {
                if claimed.contains_key(path) && !group.present.contains(path) {
                    let name = self.enter(path)?;
                    self.visitor.lane.push(&Op::Remove { name }, 300)?;
                    removed = true;
                }
            }
        }
        if removed {
            self.visitor.lane.drain()
        } else {
            Ok(())
        }
    }

    /// Brings an entry up to date that is the only one of its inode here; whether it was there.
    fn alone(&mut self, alone: &Alone) -> Result<bool, Fault> {
        let shared = super::file::shared(self.visitor);
        let name = self.enter(&alone.path)?;
        let Some((parent, _)) = alone.path.split() else {
            return Ok(false);
        };
        let Ok(dir) = shared.volume.dir(&parent) else {
            return self.gone::<()>(&alone.path).map(|_| false);
        };
        let dir = std::os::fd::AsFd::as_fd(&dir);
        let mut scope = Scope {
            path: parent.clone(),
            begun: true,
        };
        let result = if alone.stat.kind == Kind::File {
            match read::open(shared, dir, &alone.path, &name, &alone.stat) {
                Ok(Attempt::Gone) => return self.gone::<()>(&alone.path).map(|_| false),
                Ok(Attempt::Read(open)) => {
                    let kept = match alone.kept {
                        Some(Kept::File(kept)) => Some(kept),
                        _ => None,
                    };
                    let transfer = Transfer {
                        name: &name,
                        path: &alone.path,
                        open: &open,
                        kept,
                        in_place: OpenMode::InPlace,
                        replace: alone.replace,
                    };
                    let sent = self.visitor.transfer(&mut scope, &transfer);
                    sent.map(|(kept, seen)| (Kept::File(kept), seen))
                }
                Err(fault) => Err(fault),
            }
        } else {
            let group = Match {
                stat: alone.stat,
                paths: Vec::new(),
                present: Vec::new(),
                number: 0,
                common: None,
            };
            let sent = self.special(&mut scope, dir, &alone.path, &name, &group);
            sent.map(|common| {
                (
                    common.kept,
                    common.seen.unwrap_or(Seen {
                        identity: alone.stat.identity,
                        cold: false,
                    }),
                )
            })
        };
        match result {
            Ok((kept, seen)) => {
                let segment = self.segments.get_mut(&parent);
                if let Some(entry) =
                    segment.and_then(|segment| segment.entries.iter_mut().find(|e| e.name == name))
                {
                    entry.kept = kept;
                    entry.seen = Some(seen);
                }
                Ok(true)
            }
            Err(fault) if fault.path.is_some() => self.note::<()>(fault).map(|_| false),
            Err(fault) => Err(fault),
        }
    }

    /// Brings one group up to date; its number.
    fn group(&mut self, group: &Match, summary: &mut LinkSummary) -> Result<Option<u64>, Fault> {
        let shared = super::file::shared(self.visitor);
        let common = match &group.common {
            Some(common)
                if shared
                    .proof
                    .holds(common.seen.as_ref(), &group.stat.identity) =>
            {
                common.clone()
            }
            _ => match self.content(group)? {
                Some(common) => common,
                None => return Ok(None),
            },
        };
        let base = group.present.first().or(group.paths.first());
        let Some(base) = base else { return Ok(None) };
        for path in group.paths.iter().filter(|path| *path != base) {
            if !group.present.contains(path) {
                let name = self.enter(path)?;
                let op = Op::Link {
                    name,
                    target: base.clone(),
                };
                self.visitor.lane.push(&op, 300 + base.as_bytes().len())?;
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
            Kept::Directory | Kept::Link { .. } => return Ok(Some(number)),
        };
        summary.members.push(group_member(&group.paths, &digest));
        Ok(Some(number))
    }

    /// Reads what the group shares and sends what differs, through one of its names.
    fn content(&mut self, group: &Match) -> Result<Option<Common>, Fault> {
        let shared = super::file::shared(self.visitor);
        let Some(path) = group.present.first().or(group.paths.first()) else {
            return Ok(None);
        };
        let Some((parent, name)) = path.split() else {
            return Ok(None);
        };
        let dir = match shared.volume.dir(&parent) {
            Ok(dir) => dir,
            Err(_) => return self.gone(path),
        };
        if group.present.is_empty() {
            // The name is new, and the directory with it.
            self.enter(path)?;
        }
        shared
            .store
            .begin_group(group.number)
            .map_err(Shared::state_fault)?;
        let mut scope = Scope {
            path: parent,
            begun: true,
        };
        let result = if group.stat.kind == Kind::File {
            let open = match read::open(
                shared,
                std::os::fd::AsFd::as_fd(&dir),
                path,
                &name,
                &group.stat,
            ) {
                Ok(Attempt::Read(open)) => open,
                Ok(Attempt::Gone) => return self.gone(path),
                Err(fault) => return self.note(fault),
            };
            let kept = match group.common.as_ref().map(|common| &common.kept) {
                Some(Kept::File(kept)) => Some(*kept),
                _ => None,
            };
            let replace = kept.is_none();
            let transfer = Transfer {
                name: &name,
                path,
                open: &open,
                kept,
                in_place: OpenMode::Shared,
                replace,
            };
            self.visitor
                .transfer(&mut scope, &transfer)
                .map(|(kept, seen)| Common {
                    kept: Kept::File(kept),
                    seen: Some(seen),
                })
        } else {
            self.special(
                &mut scope,
                std::os::fd::AsFd::as_fd(&dir),
                path,
                &name,
                group,
            )
        };
        match result {
            Ok(common) => Ok(Some(common)),
            Err(fault) if fault.path.is_some() => self.note(fault),
            Err(fault) => Err(fault),
        }
    }

    fn special(
        &mut self,
        scope: &mut Scope,
        dir: std::os::fd::BorrowedFd<'_>,
        path: &RelPath,
        name: &Name,
        group: &Match,
    ) -> Result<Common, Fault> {
        let shared = super::file::shared(self.visitor);
        let Attempt::Read(special) = read::special(shared, dir, path, name)? else {
            return Err(fault::named(
                Side::Source,
                FaultCode::StillWritten,
                path,
                "source: an entry with several links changed while it was read",
            ));
        };
        let digest = entry_digest(&special.meta, &special.node);
        let kept = Kept::Other { digest };
        if group
            .common
            .as_ref()
            .is_none_or(|common| common.kept != kept)
        {
            self.visitor.begin(scope)?;
            let op = if group.present.len() > 1 {
                // Replacing one name would take it out of its group.
                Op::Meta {
                    name: name.clone(),
                    meta: special.meta,
                }
            } else {
                Op::Node {
                    name: name.clone(),
                    meta: special.meta,
                    node: special.node,
                }
            };
            Counts::add(&shared.counts.changed, 1);
            self.visitor.lane.push(&op, 512)?;
        }
        let identity = special.stat.identity;
        Ok(Common {
            kept,
            seen: Some(shared.proof.seen(&identity, &identity)),
        })
    }

    /// Speaks of the directory of `path`, whose listing is about to change; the name in it.
    fn enter(&mut self, path: &RelPath) -> Result<Name, Fault> {
        let shared = super::file::shared(self.visitor);
        let (parent, name) = path.split().ok_or_else(|| {
            fault::plain(
                Side::Source,
                FaultCode::Internal,
                "source: the root has several links",
            )
        })?;
        if self.segments.contains_key(&parent) {
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
    fn renumber(&mut self, path: &RelPath, number: u64) -> Result<(), Fault> {
        let shared = super::file::shared(self.visitor);
        let Some((parent, name)) = path.split() else {
            return Ok(());
        };
        if !self.segments.contains_key(&parent) {
            let Known::Segment(segment) = shared.store.get(&parent).map_err(Shared::state_fault)?
            else {
                return Ok(());
            };
            let settled = segment
                .entry(&name)
                .is_some_and(|entry| entry.kept == Kept::Link { group: number });
            if settled {
                return Ok(());
            }
            self.segments.insert(parent.clone(), *segment);
            self.visitor.lane.begin(&parent)?;
        }
        if let Some(entry) = self
            .segments
            .get_mut(&parent)
            .and_then(|segment| segment.entries.iter_mut().find(|entry| entry.name == name))
        {
            entry.kept = Kept::Link { group: number };
        }
        Ok(())
    }

    fn conclude(&mut self) -> Result<(), Fault> {
        let shared = super::file::shared(self.visitor);
        for (path, segment) in self.segments.drain() {
            if !self.doubtful.remove(&path) {
                self.visitor.lane.commit_later(segment)?;
            }
        }
        // What was begun and not committed stays in flight; so does what is only doubted.
        for path in &self.doubtful {
            shared.store.begin(path).map_err(Shared::state_fault)?;
        }
        self.visitor.lane.drain()?;
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

    /// The directory of `path` is not as its segment says.
    fn doubt(&mut self, path: &RelPath) {
        self.doubtful.extend(path.split().map(|(parent, _)| parent));
    }

    fn note<T>(&mut self, fault: Fault) -> Result<Option<T>, Fault> {
        self.visitor.note(fault);
        Ok(None)
    }

    /// The group changed since it was listed. The next pass will see how.
    fn gone<T>(&mut self, path: &RelPath) -> Result<Option<T>, Fault> {
        let shared = super::file::shared(self.visitor);
        shared.unproven.store(true, Ordering::Relaxed);
        if shared.is_final() {
            self.visitor.note(fault::named(
                Side::Source,
                FaultCode::StillWritten,
                path,
                "source: an entry disappeared during the final pass",
            ));
        }
        Ok(None)
    }
}

impl Common {
    fn load(shared: &Shared<'_>, number: u64) -> Result<Option<Self>, Fault> {
        let bytes = shared
            .store
            .get_group(number)
            .map_err(Shared::state_fault)?;
        Ok(bytes.and_then(Self::decode))
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        encode_seen(self.seen.as_ref(), &mut out);
        match &self.kept {
            Kept::File(file) => {
                out.u8(1);
                file.encode(&mut out);
            }
            Kept::Other { digest } => {
                out.u8(2);
                out.digest(digest);
            }
            Kept::Directory | Kept::Link { .. } => out.u8(0),
        }
        out.into_bytes().into()
    }

    fn decode(bytes: Vec<u8>) -> Option<Self> {
        let mut input = Decoder::new(bytes.into());
        let seen = decode_seen(&mut input).ok()?;
        let kept = match input.u8().ok()? {
            1 => Kept::File(KeptFile::decode(&mut input).ok()?),
            2 => Kept::Other {
                digest: input.digest().ok()?,
            },
            _ => return None,
        };
        Some(Self { kept, seen })
    }
}

/// A number that no group has had.
fn new_number() -> u64 {
    (u64::from_le_bytes(random()) & !REMOTE).max(1)
}

/// Takes the table of a pass, leaving an empty one.
pub fn take(shared: &Shared<'_>) -> LinkTable {
    std::mem::take(&mut *lock(&shared.links))
}
