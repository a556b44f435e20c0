//! Content and special entries with several links, on their way.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use livmig_proto::{
    control::{Fault, FaultCode, Reason, Side},
    entry::entry_digest,
    frame::{Op, OpenMode},
    name::{Name, RelPath},
};

use super::{
    kept::Common,
    make::{Content, Work},
    matching::{Alone, Match},
};
use crate::{
    catalog::segment::{Entry, Kept},
    fault,
    fs::stat::{Kind, Stat},
    source::{
        files::file::Transfer,
        shared::{Counts, Shared},
        space::{self, Need},
        walk::{
            join::LookNumber,
            listing,
            read::{self, OpenFile, ReadAttempt, SpecialEntry},
            visit::Scope,
        },
    },
};

/// What was found at a name: held, so that nobody can exchange it.
enum HeldLink {
    File(OpenFile),
    Special(SpecialEntry),
}

impl HeldLink {
    fn stat(&self) -> &Stat {
        match self {
            Self::File(open) => &open.before,
            Self::Special(special) => &special.stat,
        }
    }
}

/// What one inode of the destination is to become.
struct LinkSubject<'t> {
    /// A name of it there.
    path: &'t RelPath,
    /// What the destination holds under the name.
    kept: Option<&'t Kept>,
    in_place: OpenMode,
    /// How many names lead to that inode at the destination and are this one's too.
    names: u32,
    /// Whether whatever stands at the name must make way for a new inode.
    replace: bool,
}

impl Work<'_, '_> {
    /// Brings an entry up to date that is carried for itself; whether what is known of it is so.
    pub(super) fn alone(&mut self, alone: &Alone) -> Result<bool, Fault> {
        let path = &alone.path;
        if self.is_deferred(path, alone.kept.as_ref(), alone.stat.identity.size) {
            return Ok(false);
        }
        let (Some((_, name)), Some(dir)) = (path.split(), self.dir(path)) else {
            return Ok(false);
        };
        let mut kind = alone.stat.kind;
        for _ in LookNumber::all() {
            match self.hold(dir.as_fd(), path, &name, kind) {
                Ok(ReadAttempt::Read(held)) => return self.carry(alone, held),
                Ok(ReadAttempt::Gone) if listing::lacks(&dir, &name) => {
                    return self.drop_name(path);
                }
                Ok(ReadAttempt::Gone | ReadAttempt::Changed) => {}
                Err(fault) => return self.note(fault).map(|()| false),
            }
            match Stat::of_entry(&dir, &name) {
                // What is below it was visited by nobody.
                Ok(stat) if stat.kind == Kind::Directory => break,
                Ok(stat) => kind = stat.kind,
                Err(_) => {}
            }
        }
        self.visitor.shared.unsettle(fault::named(
            Side::Source,
            FaultCode::StillWritten,
            path,
            "source: the entry became something else while it was looked at",
        ));
        Ok(false)
    }

    fn carry(&mut self, alone: &Alone, held: HeldLink) -> Result<bool, Fault> {
        let now = held.stat();
        let anew = !alone.stat.is_same_inode(now) && alone.stat.identity.is_like(&now.identity);
        if anew {
            let counts = self.visitor.shared.counts;
            let detail = "has another inode number whenever it is looked at";
            counts.leave(&alone.path, Reason::Links, detail);
        }
        let name = self.enter(&alone.path)?;
        let sent = self.send(
            &LinkSubject {
                path: &alone.path,
                kept: alone.kept.as_ref(),
                in_place: OpenMode::InPlace,
                replace: alone.replace,
                names: 1,
            },
            held,
        )?;
        let Some(Common { kept, seen }) = sent else {
            return Ok(false);
        };
        if let Some(entry) = self.entry_mut(&alone.path, &name) {
            entry.kept = kept;
            entry.seen = seen;
        }
        Ok(true)
    }

    /// The source has no such name any more, says a complete listing that came later.
    fn drop_name(&mut self, path: &RelPath) -> Result<bool, Fault> {
        if self.visitor.shared.is_final() {
            self.gone(path);
        }
        let name = self.enter(path)?;
        self.visitor
            .lane
            .push(&Op::Remove { name: name.clone() }, 300)?;
        if let Some((parent, _)) = path.split()
            && let Some(segment) = self.segments.get_mut(&parent)
        {
            segment.entries.retain(|entry| entry.name != name);
        }
        Ok(true)
    }

    fn entry_mut(&mut self, path: &RelPath, name: &Name) -> Option<&mut Entry> {
        let (parent, _) = path.split()?;
        self.segments.get_mut(&parent)?.entry_mut(name)
    }

    /// Reads what the group shares and sends what differs, through one of its names.
    pub(super) fn content(&mut self, group: &Match) -> Result<Content, Fault> {
        let shared = self.visitor.shared;
        let kept = group.common.as_ref().map(|common| &common.kept);
        let Some(path) = group.present.first().or(group.paths.first()) else {
            return Ok(Content::Failed);
        };
        if self.is_deferred(path, kept, group.stat.identity.size) {
            return Ok(Content::Failed);
        }
        let held = match self.find(group, path) {
            Ok(Some(held)) => held,
            Ok(None) => return Ok(Content::Strayed),
            Err(fault) => return self.note(fault).map(|()| Content::Failed),
        };
        if group.present.is_empty() {
            // The name is new, and the directory with it.
            self.enter(path)?;
        } else {
            self.written.extend(path.split().map(|(parent, _)| parent));
        }
        shared
            .store
            .begin_group(group.number)
            .map_err(Shared::state_fault)?;
        let sent = self.send(
            &LinkSubject {
                path,
                kept,
                in_place: OpenMode::Shared,
                replace: !matches!(kept, Some(Kept::File(_))),
                names: u32::try_from(group.present.len().max(1)).unwrap_or(u32::MAX),
            },
            held,
        )?;
        Ok(sent.map_or(Content::Failed, Content::Sent))
    }

    /// The inode of a group, by a name that still leads to it: `first`, or where that was replaced
    /// since it was listed, another.
    fn find(&self, group: &Match, first: &RelPath) -> Result<Option<HeldLink>, Fault> {
        let others = group.paths.iter().filter(|path| *path != first);
        for path in std::iter::once(first).chain(others) {
            let Some((parent, name)) = path.split() else {
                continue;
            };
            let Ok(dir) = self.visitor.shared.volume.dir(&parent) else {
                continue;
            };
            match self.hold(dir.as_fd(), path, &name, group.stat.kind)? {
                ReadAttempt::Read(held) if held.stat().is_same_inode(&group.stat) => {
                    return Ok(Some(held));
                }
                ReadAttempt::Read(_) | ReadAttempt::Gone | ReadAttempt::Changed => {}
            }
        }
        Ok(None)
    }

    /// Holds what stands at a name, which is thought to be of `kind`.
    fn hold(
        &self,
        dir: BorrowedFd<'_>,
        path: &RelPath,
        name: &Name,
        kind: Kind,
    ) -> Result<ReadAttempt<HeldLink>, Fault> {
        let shared = self.visitor.shared;
        Ok(if kind == Kind::File {
            read::open(shared, dir, path, name)?.map(HeldLink::File)
        } else {
            read::special(shared, dir, path, name, kind)?.map(HeldLink::Special)
        })
    }

    /// The directory of `path`; nothing when it is gone.
    fn dir(&mut self, path: &RelPath) -> Option<OwnedFd> {
        let (parent, _) = path.split()?;
        let dir = self
            .visitor
            .way
            .open(self.visitor.shared.volume.root(), &parent)
            .ok();
        if dir.is_none() {
            self.gone(path);
        }
        dir
    }

    /// Sends what differs of one inode; what is known of it then. Nothing when it could not be read,
    /// which is noted.
    fn send(&mut self, subject: &LinkSubject<'_>, held: HeldLink) -> Result<Option<Common>, Fault> {
        let path = subject.path;
        let Some((parent, name)) = path.split() else {
            return Ok(None);
        };
        let mut scope = Scope {
            path: parent,
            begun: true,
        };
        let sent = match held {
            HeldLink::File(open) => {
                let kept = match subject.kept {
                    Some(Kept::File(kept)) => Some(*kept),
                    _ => None,
                };
                let transfer = Transfer {
                    name: &name,
                    path,
                    open: &open,
                    kept,
                    in_place: subject.in_place,
                    names: subject.names,
                    replace: subject.replace,
                };
                let sent = self.visitor.transfer(&mut scope, &transfer);
                sent.map(|(kept, seen)| Common {
                    kept: Kept::File(kept),
                    seen: Some(seen),
                })
            }
            HeldLink::Special(special) => self.special(&mut scope, &name, subject, special),
        };
        match sent {
            Ok(common) => Ok(Some(common)),
            Err(fault) => self.note(fault).map(|()| None),
        }
    }

    /// Notes a fault of one entry; another ends the pass.
    fn note(&self, fault: Fault) -> Result<(), Fault> {
        if fault.path.is_none() {
            return Err(fault);
        }
        self.visitor.note(fault);
        Ok(())
    }

    /// While there is no room, what needs some waits for another round.
    fn is_deferred(&self, path: &RelPath, kept: Option<&Kept>, size: u64) -> bool {
        let shared = self.visitor.shared;
        let deferred = shared.link.acks().is_short() && space::need(kept, size) != Need::None;
        if deferred {
            shared.room.defer(path);
            if !shared.room.is_tight() {
                // The next round begins with the removal of what it replaces.
                shared.room.free();
            }
        }
        deferred
    }

    fn special(
        &mut self,
        scope: &mut Scope,
        name: &Name,
        subject: &LinkSubject<'_>,
        special: SpecialEntry,
    ) -> Result<Common, Fault> {
        let shared = self.visitor.shared;
        let digest = entry_digest(&special.meta, &special.node);
        let kept = Kept::Other { digest };
        if subject.kept.is_none_or(|before| *before != kept) {
            self.visitor.begin(scope)?;
            // A new inode: the other names of a group follow it.
            let op = Op::Node {
                name: name.clone(),
                meta: special.meta,
                node: special.node,
            };
            Counts::add(&shared.counts.changed, 1);
            self.visitor.lane.push(&op, 512)?;
        }
        let identity = special.stat.identity;
        Ok(Common {
            kept,
            seen: Some(shared.proof.seen(&identity, &identity, special.left)),
        })
    }
}
