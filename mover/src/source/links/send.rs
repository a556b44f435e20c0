//! Content and special entries with several links, on their way.

use std::os::fd::{AsFd as _, BorrowedFd};

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
    catalog::segment::{Kept, Seen},
    fault,
    fs::stat::Kind,
    source::{
        file::Transfer,
        read::{self, Attempt},
        room::{self, Need},
        shared::{Counts, Shared},
        visit::Scope,
    },
};

impl Work<'_, '_> {
    /// Brings an entry up to date that is the only one of its inode here; whether it was there.
    pub(super) fn alone(&mut self, alone: &Alone) -> Result<bool, Fault> {
        let shared = self.visitor.shared;
        if self.is_deferred(alone.kept.as_ref(), alone.stat.identity.size) {
            return Ok(false);
        }
        let name = self.enter(&alone.path)?;
        let Some((parent, _)) = alone.path.split() else {
            return Ok(false);
        };
        let Ok(dir) = shared.volume.dir(&parent) else {
            self.gone(&alone.path);
            return Ok(false);
        };
        let dir = dir.as_fd();
        let mut scope = Scope {
            path: parent.clone(),
            begun: true,
        };
        let result = if alone.stat.kind == Kind::File {
            match read::open(shared, dir, &alone.path, &name, &alone.stat) {
                Ok(Attempt::Gone) => {
                    self.gone(&alone.path);
                    return Ok(false);
                }
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
                if let Some(entry) = segment.and_then(|segment| segment.entry_mut(&name)) {
                    entry.kept = kept;
                    entry.seen = Some(seen);
                }
                Ok(true)
            }
            Err(fault) if fault.path.is_some() => {
                self.visitor.note(fault);
                Ok(false)
            }
            Err(fault) => Err(fault),
        }
    }

    /// Reads what the group shares and sends what differs, through one of its names.
    pub(super) fn content(&mut self, group: &Match) -> Result<Option<Common>, Fault> {
        let shared = self.visitor.shared;
        let common = group.common.as_ref().map(|common| &common.kept);
        if self.is_deferred(common, group.stat.identity.size) {
            return Ok(None);
        }
        let Some(path) = group.present.first().or(group.paths.first()) else {
            return Ok(None);
        };
        let Some((parent, name)) = path.split() else {
            return Ok(None);
        };
        let Ok(dir) = shared.volume.dir(&parent) else {
            self.gone(path);
            return Ok(None);
        };
        if group.present.is_empty() {
            // The name is new, and the directory with it.
            self.enter(path)?;
        } else {
            self.written.insert(parent.clone());
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
            let open = match read::open(shared, dir.as_fd(), path, &name, &group.stat) {
                Ok(Attempt::Read(open)) => open,
                Ok(Attempt::Gone) => {
                    self.gone(path);
                    return Ok(None);
                }
                Err(fault) => {
                    self.visitor.note(fault);
                    return Ok(None);
                }
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
            self.special(&mut scope, dir.as_fd(), path, &name, group)
        };
        match result {
            Ok(common) => Ok(Some(common)),
            Err(fault) if fault.path.is_some() => {
                self.visitor.note(fault);
                Ok(None)
            }
            Err(fault) => Err(fault),
        }
    }

    /// While there is no room, what needs some waits for another round.
    fn is_deferred(&self, kept: Option<&Kept>, size: u64) -> bool {
        let shared = self.visitor.shared;
        let deferred = shared.link.acks().is_short() && room::need(kept, size) != Need::None;
        if deferred {
            shared.room.defer();
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
        dir: BorrowedFd<'_>,
        path: &RelPath,
        name: &Name,
        group: &Match,
    ) -> Result<Common, Fault> {
        let shared = self.visitor.shared;
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
}
