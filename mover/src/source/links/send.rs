//! Content and special entries with several links, on their way.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use livmig_proto::{
    control::{Fault, FaultCode, Side},
    entry::entry_digest,
    frame::{Op, OpenMode},
    name::{Name, RelPath},
};

use super::{
    common::Common,
    matching::{Alone, Match},
    work::Work,
};
use crate::{
    catalog::segment::Kept,
    fault,
    fs::stat::{Kind, Stat},
    source::{
        file::Transfer,
        read::{self, Attempt},
        room::{self, Need},
        shared::{Counts, Shared},
        visit::Scope,
    },
};

/// One inode to bring up to date through one of its names.
struct Subject<'t> {
    /// The directory of that name.
    dir: BorrowedFd<'t>,
    path: &'t RelPath,
    stat: &'t Stat,
    /// What the destination holds under the name.
    kept: Option<&'t Kept>,
    in_place: OpenMode,
    /// How many names lead to that inode at the destination and are this one's too.
    names: u32,
    /// Whether whatever stands at the name must make way for a new inode.
    replace: bool,
}

impl Work<'_, '_> {
    /// Brings an entry up to date that is the only one of its inode here; whether it was there.
    pub(super) fn alone(&mut self, alone: &Alone) -> Result<bool, Fault> {
        let kept = alone.kept.as_ref();
        if self.is_deferred(&alone.path, kept, alone.stat.identity.size) {
            return Ok(false);
        }
        let (Some((parent, name)), Some(dir)) = (alone.path.split(), self.dir(&alone.path)) else {
            return Ok(false);
        };
        self.enter(&alone.path)?;
        let subject = Subject {
            dir: dir.as_fd(),
            path: &alone.path,
            stat: &alone.stat,
            kept,
            in_place: OpenMode::InPlace,
            names: 1,
            replace: alone.replace,
        };
        let Some(Common { kept, seen }) = self.send(&subject)? else {
            return Ok(false);
        };
        let segment = self.segments.get_mut(&parent);
        if let Some(entry) = segment.and_then(|segment| segment.entry_mut(&name)) {
            entry.kept = kept;
            entry.seen = seen;
        }
        Ok(true)
    }

    /// Reads what the group shares and sends what differs, through one of its names.
    pub(super) fn content(&mut self, group: &Match) -> Result<Option<Common>, Fault> {
        let shared = self.visitor.shared;
        let kept = group.common.as_ref().map(|common| &common.kept);
        let Some(path) = group.present.first().or(group.paths.first()) else {
            return Ok(None);
        };
        if self.is_deferred(path, kept, group.stat.identity.size) {
            return Ok(None);
        }
        let (Some((parent, _)), Some(dir)) = (path.split(), self.dir(path)) else {
            return Ok(None);
        };
        if group.present.is_empty() {
            // The name is new, and the directory with it.
            self.enter(path)?;
        } else {
            self.written.insert(parent);
        }
        shared
            .store
            .begin_group(group.number)
            .map_err(Shared::state_fault)?;
        self.send(&Subject {
            dir: dir.as_fd(),
            path,
            stat: &group.stat,
            kept,
            in_place: OpenMode::Shared,
            names: u32::try_from(group.present.len().max(1)).unwrap_or(u32::MAX),
            replace: !matches!(kept, Some(Kept::File(_))),
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

    /// Sends what differs of one inode; what is known of it then. Nothing when it is gone or could
    /// not be read, which is noted.
    fn send(&mut self, subject: &Subject<'_>) -> Result<Option<Common>, Fault> {
        let path = subject.path;
        let Some((parent, name)) = path.split() else {
            return Ok(None);
        };
        let mut scope = Scope {
            path: parent,
            begun: true,
        };
        let sent = if subject.stat.kind == Kind::File {
            match read::open(self.visitor.shared, subject.dir, path, &name, subject.stat) {
                Ok(Attempt::Gone) => {
                    self.gone(path);
                    return Ok(None);
                }
                Ok(Attempt::Read(open)) => {
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
                Err(fault) => Err(fault),
            }
        } else {
            self.special(&mut scope, &name, subject)
        };
        match sent {
            Ok(common) => Ok(Some(common)),
            Err(fault) if fault.path.is_some() => {
                self.visitor.note(fault);
                Ok(None)
            }
            Err(fault) => Err(fault),
        }
    }

    /// While there is no room, what needs some waits for another round.
    fn is_deferred(&self, path: &RelPath, kept: Option<&Kept>, size: u64) -> bool {
        let shared = self.visitor.shared;
        let deferred = shared.link.acks().is_short() && room::need(kept, size) != Need::None;
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
        subject: &Subject<'_>,
    ) -> Result<Common, Fault> {
        let shared = self.visitor.shared;
        let Attempt::Read(special) = read::special(shared, subject.dir, subject.path, name)? else {
            return Err(fault::named(
                Side::Source,
                FaultCode::StillWritten,
                subject.path,
                "source: an entry with several links changed while it was read",
            ));
        };
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
