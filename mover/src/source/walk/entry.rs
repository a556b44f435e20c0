//! One listed name: what of it differs from what the destination holds, by its kind.

use std::os::fd::AsFd as _;

use livmig_proto::{
    control::{Fault, FaultCode, Reason, Reasons, Side},
    entry::entry_digest,
    frame::Op,
    name::{Name, RelPath},
};
use rustix::io::Errno;

use super::{
    apart::ApartStanding,
    join::LookNumber,
    read::{self, ReadAttempt},
    sight,
    visit::{Looked, Visit, Visitor},
};
use crate::source::{
    queue::{Baseline, Job},
    shared::{Counts, lock},
    space::{self, Need},
};
use crate::{
    catalog::segment::{Entry, Kept},
    fault,
    fs::stat::{Kind, Stat},
};

impl Visitor<'_> {
    /// One listed name. What becomes something else while it is looked at is looked at again.
    pub(crate) fn entry(
        &mut self,
        visit: &mut Visit,
        name: &Name,
        before: Option<&Entry>,
    ) -> Result<Looked, Fault> {
        for look in LookNumber::all() {
            match self.look(visit, name, before, look)? {
                Looked::Changed => {}
                looked => return Ok(looked),
            }
        }
        let path = visit.scope.path.child(name).unwrap_or_default();
        self.shared.unsettle(fault::named(
            Side::Source,
            FaultCode::StillWritten,
            &path,
            "source: the entry became something else each time it was looked at",
        ));
        Ok(Looked::AsBefore)
    }

    /// Tells what shows of a listed entry before it is opened. Whether it can be carried: not while it
    /// is locked, which is noted.
    fn looks_fit(&self, visit: &Visit, name: &Name, stat: &Stat) -> bool {
        let shared = self.shared;
        // Each of these asks nothing of the common entry, and builds nothing for it.
        let begins = stat.attributes.is_encrypted() && !visit.encrypted;
        let hidden = shared.volume.hides_owner(&visit.dir, name, stat);
        if !begins && !hidden {
            return true;
        }
        let path = visit.scope.path.child(name).unwrap_or_default();
        if begins {
            if let Some(fault) = sight::locked_entry(&path, visit.dir.as_fd(), name, stat.kind) {
                self.note(fault);
                return false;
            }
            shared.counts.leave(&path, Reason::Encrypted, "");
        }
        if hidden {
            shared.counts.leave(&path, Reason::Owners, "");
        }
        true
    }

    /// Nothing is allocated for what did not change: there may be very much of it.
    fn look(
        &mut self,
        visit: &mut Visit,
        name: &Name,
        before: Option<&Entry>,
        look: LookNumber,
    ) -> Result<Looked, Fault> {
        let stat = match Stat::of_entry(&visit.dir, name) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(Looked::Missing),
            Err(errno) => {
                let path = visit.scope.path.child(name).unwrap_or_default();
                self.note(fault::at(Side::Source, &path, "look at the entry", errno));
                return Ok(Looked::AsBefore);
            }
        };
        let counts = self.shared.counts;
        match self.shared.standing(&visit.scope.path, name, &stat) {
            Ok(ApartStanding::Content) => {}
            Ok(ApartStanding::Nobodys) => return Ok(Looked::Absent),
            Ok(ApartStanding::Apart(reason)) => {
                return self.apart(visit, name, &stat, reason, before);
            }
            Ok(ApartStanding::Closed) => {
                let path = visit.scope.path.child(name).unwrap_or_default();
                counts.leave(&path, Reason::LostFound, "it may not be looked into");
                // What the destination has of it from before stays.
                return Ok(Looked::AsBefore);
            }
            Err(fault) => {
                self.note(fault);
                return Ok(Looked::AsBefore);
            }
        }
        if look.is_first() {
            Counts::add(&counts.entries, 1);
            if stat.kind == Kind::File {
                Counts::add(&counts.bytes_total, stat.identity.size);
            }
        }
        if look.is_first() && !self.looks_fit(visit, name, &stat) {
            return Ok(Looked::AsBefore);
        }
        let plain = stat.kind != Kind::Directory && !stat.has_links();
        if plain && let Some(left) = self.unchanged(before, &stat) {
            if !left.is_empty() {
                let path = visit.scope.path.child(name).unwrap_or_default();
                self.shared.leave_again(&path, left, stat.attributes);
            }
            return Ok(Looked::AsBefore);
        }
        let path = match visit.scope.path.child(name) {
            Ok(path) => path,
            Err(error) => {
                self.note(fault::named(
                    Side::Source,
                    FaultCode::Unsupported,
                    &visit.scope.path,
                    format!("source: an entry is nested too deep ({error})"),
                ));
                return Ok(Looked::AsBefore);
            }
        };
        let pushed = self.lane.pushed();
        let result = match stat.kind {
            Kind::Directory => {
                if self.shared.volume.is_subvolume(&stat) {
                    counts.leave(&path, Reason::Subvolume, "");
                } else if self.shared.volume.is_stand_in(&stat) {
                    let what = "stands for one in a snapshot, and has no times of its own";
                    counts.leave(&path, Reason::Subvolume, what);
                }
                let entry = self.directory(visit, name, path, before)?;
                return Ok(Looked::Now(entry));
            }
            _ if stat.has_links() => {
                let entry = self.link(visit, name, path, &stat, before)?;
                return Ok(Looked::Now(entry));
            }
            _ if self.is_deferred(visit, &path, before, &stat)? => return Ok(Looked::AsBefore),
            Kind::File => self.file(visit, name, &path, before, look),
            kind => self.special(visit, name, &path, kind, before),
        };
        match result {
            // A fault of one entry is noted, and what the destination holds of it stays. What has ended
            // the session may name an entry too.
            Err(fault) if is_local(&fault) && self.shared.link.acks().over().is_none() => {
                self.note(fault);
                // Unless some of it was sent before: then nobody knows what is there.
                visit.doubtful |= self.lane.pushed() != pushed;
                Ok(Looked::AsBefore)
            }
            result => result,
        }
    }

    /// What was left out of an entry, if it is proven to be as it was then.
    fn unchanged(&self, before: Option<&Entry>, stat: &Stat) -> Option<Reasons> {
        let before = before?;
        if matches!(before.kept, Kept::Link { .. } | Kept::Directory) {
            return None;
        }
        let seen = before.seen.as_ref();
        self.shared
            .proof
            .holds(seen, &stat.identity)
            .then(|| seen.map_or(Reasons::NONE, |seen| seen.left))
    }

    /// While there is no room, what needs some waits, and what it replaces goes.
    fn is_deferred(
        &mut self,
        visit: &mut Visit,
        path: &RelPath,
        before: Option<&Entry>,
        stat: &Stat,
    ) -> Result<bool, Fault> {
        if !self.shared.link.acks().is_short() {
            return Ok(false);
        }
        match (
            space::need(before.map(|before| &before.kept), stat.identity.size),
            before,
        ) {
            (Need::None, _) => return Ok(false),
            (Need::SpaceAndReplaces, Some(before)) => self.remove(visit, before)?,
            _ => self.begin(&mut visit.scope)?,
        }
        self.shared.room.defer(path);
        visit.doubtful = true;
        Ok(true)
    }

    fn directory(
        &mut self,
        visit: &mut Visit,
        name: &Name,
        path: RelPath,
        before: Option<&Entry>,
    ) -> Result<Entry, Fault> {
        let existed = before.is_some_and(|before| before.kept == Kept::Directory);
        // What was left as it is may hold anything.
        let apart = before.is_some_and(|before| before.kept == Kept::Apart);
        let keeps = self.shared.keeps_lost_and_found(&visit.scope.path, name);
        if !existed || keeps {
            self.begin(&mut visit.scope)?;
            self.lane
                .push(&Op::Directory { name: name.clone() }, name.as_bytes().len())?;
        }
        if visit.deep || !existed {
            // At once: others visit it while this visit goes on, perhaps for long over a large file.
            // Whoever comes to it first at the destination makes it.
            self.shared.queue.push([Job {
                path,
                baseline: match (existed, apart) {
                    (true, _) => Baseline::Remembered,
                    (false, true) => Baseline::Unknown,
                    (false, false) => Baseline::Absent,
                },
                deep: true,
            }]);
        }
        Ok(Entry {
            name: name.clone(),
            seen: None,
            kept: Kept::Directory,
        })
    }

    /// An entry with several links: noted for the end of the pass, when all of them are known.
    fn link(
        &mut self,
        visit: &mut Visit,
        name: &Name,
        path: RelPath,
        stat: &Stat,
        before: Option<&Entry>,
    ) -> Result<Entry, Fault> {
        let mut links = lock(&self.shared.links);
        let group = match before.map(|before| &before.kept) {
            Some(Kept::Link { group }) => {
                links.claim(*group, path.clone());
                *group
            }
            Some(kept @ (Kept::File(_) | Kept::Other { .. })) => {
                links.remember_single(path.clone(), kept.clone());
                0
            }
            Some(Kept::Directory | Kept::Apart) | None => 0,
        };
        links.add(stat, path);
        drop(links);
        // A name that was something else will change, and with it the directory.
        if group == 0 {
            self.displace(visit, before)?;
            self.begin(&mut visit.scope)?;
        }
        Ok(Entry {
            name: name.clone(),
            seen: None,
            kept: Kept::Link { group },
        })
    }

    /// A symbolic link, fifo, socket or device.
    fn special(
        &mut self,
        visit: &mut Visit,
        name: &Name,
        path: &RelPath,
        kind: Kind,
        before: Option<&Entry>,
    ) -> Result<Looked, Fault> {
        let special = match read::special(self.shared, visit.dir.as_fd(), path, name, kind)? {
            ReadAttempt::Read(special) => special,
            ReadAttempt::Gone => return Ok(Looked::Missing),
            ReadAttempt::Changed => return Ok(Looked::Changed),
        };
        let digest = entry_digest(&special.meta, &special.node);
        let kept = Kept::Other { digest };
        if before.is_none_or(|before| before.kept != kept) {
            self.displace(visit, before)?;
            self.begin(&mut visit.scope)?;
            Counts::add(&self.shared.counts.changed, 1);
            if before.is_some() {
                self.shared.room.free();
            }
            let op = Op::Node {
                name: name.clone(),
                meta: special.meta,
                node: special.node,
            };
            self.lane.push(&op, 512)?;
        }
        let identity = special.stat.identity;
        let seen = Some(self.shared.proof.seen(&identity, &identity, special.left));
        Ok(Looked::Now(Entry {
            name: name.clone(),
            seen,
            kept,
        }))
    }
}

/// Whether a fault concerns one entry of the source and the pass may look at the others.
fn is_local(fault: &Fault) -> bool {
    fault.path.is_some()
}
