//! Surveys a directory: reads back what was written, compares it with what was claimed, and
//! stores what is now proven.

mod content;

use std::{
    os::fd::{AsFd as _, OwnedFd},
    sync::atomic::Ordering,
};

use livmig_proto::{
    control::{Fault, FaultCode, Side, VerifyLevel},
    entry::{Meta, Node, entry_digest},
    limits::DIRECTORY_ENTRIES_MAX,
    name::{Name, RelPath},
    tree::Digest,
};
use rustix::io::Errno;

use crate::destination::{
    links::Proven,
    state::Destination,
    touched::{ByName, Touch, Written},
    write::metadata,
};
use crate::{
    catalog::{
        log::Key,
        segment::{Entry, Kept, KeptFile, Seen, Segment},
        store::{Change, Known},
    },
    fault,
    fs::{
        dir::{self, ListedName},
        entry, file,
        metadata::xattr::Reach,
        stat::{Kind, Stat},
        way::Way,
    },
    hash::Hashed,
};

/// What a directory was found to hold.
struct Surveyed {
    segment: Segment,
    /// Its names of inodes with several links.
    links: Vec<(Name, u64)>,
}

/// Surveys directories, one after the other, on one thread.
pub struct Surveyor<'a> {
    destination: &'a Destination,
    level: VerifyLevel,
    buffer: Vec<u8>,
    /// How it got to where it was last.
    way: Way,
    /// Whether all that was read came from the device.
    on_device: bool,
    /// What was found to differ, or could not be read back.
    pub mismatches: Vec<Fault>,
    /// What directories should be in the manifest that name what has several links: who shares it is
    /// known at the end only.
    pub claims: Vec<(RelPath, Digest)>,
}

impl<'a> Surveyor<'a> {
    /// A surveyor that looks as hard as `level` says.
    pub fn new(destination: &'a Destination, level: VerifyLevel) -> Self {
        Self {
            destination,
            level,
            buffer: Vec::new(),
            way: Way::new(),
            on_device: true,
            mismatches: Vec::new(),
            claims: Vec::new(),
        }
    }

    /// Surveys the directory at `path`, where `touch` was done. Whether all of it is as claimed.
    pub fn directory(&mut self, path: &RelPath, touch: &Touch) -> Result<bool, Fault> {
        let before = self.mismatches.len();
        let writes = touch.by_name();
        let Some(Surveyed { segment, links }) = self.look(path, &writes, touch.complete)? else {
            self.destination.forget(path)?;
            return Ok(true);
        };
        if let Some(member) = touch.member.filter(|member| *member != segment.member())
            && self.mismatches.len() == before
        {
            if links.is_empty() {
                self.mismatches.push(unlike_claim(path));
            } else {
                self.claims.push((path.clone(), member));
            }
        }
        self.put(&segment)?;
        self.destination.links().replace(path, links, &writes);
        Ok(self.mismatches.len() == before)
    }

    /// Surveys a touched directory before the pass is over: its path, if what was written so far is
    /// as claimed. Otherwise it is as if nobody had looked.
    pub fn early(&mut self, key: Key) -> Result<Option<RelPath>, Fault> {
        let touched = &self.destination.touched;
        let Some((path, touch, notes)) =
            touched.get_counted(key).map_err(Destination::state_fault)?
        else {
            return Ok(None);
        };
        self.on_device = true;
        let found = self.look(&path, &touch.by_name(), touch.complete);
        let differs = !std::mem::take(&mut self.mismatches).is_empty();
        // Pages that would not go are being written to again: better read when all is quiet.
        let busy = !self.on_device && self.destination.volume.has_direct_reads();
        let Some(Surveyed { segment, links }) = found? else {
            return Ok(None);
        };
        let as_claimed = touch.member.is_none_or(|member| member == segment.member());
        // Who shares an inode is known at the end only.
        if differs || busy || !as_claimed || !links.is_empty() {
            return Ok(None);
        }
        self.put(&segment)?;
        self.destination.links().forget(&path);
        touched.consume(key, notes);
        Ok(Some(path))
    }

    /// What the directory at `path` holds, with what `writes` tells read back; nothing when it is
    /// none. Where that is `all` that can have changed, the rest is as it was proven, which nobody
    /// else writes: it only has to be there.
    fn look(
        &mut self,
        path: &RelPath,
        writes: &ByName<'_>,
        all: bool,
    ) -> Result<Option<Surveyed>, Fault> {
        let failed = |what: &str, errno| fault::at(Side::Destination, path, what, errno);
        let dir = match self.way.open(self.destination.volume.root(), path) {
            Ok(dir) => dir,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(errno) => return Err(failed("open the directory", errno)),
        };
        let stat = Stat::of_fd(&dir).map_err(|errno| failed("look at the directory", errno))?;
        let stat = self.destination.volume.steady(stat);
        let listing = dir::list_inodes_at_most(dir.as_fd(), DIRECTORY_ENTRIES_MAX)
            .map_err(|errno| fault::listing(Side::Destination, path, errno))?;
        let old = match self
            .destination
            .catalog
            .get(path)
            .map_err(Destination::state_fault)?
        {
            Known::Segment(segment) => segment.entries,
            Known::InFlight | Known::Nothing => Vec::new(),
        };
        let may_trust = all && self.level != VerifyLevel::Full;
        let mut entries = Vec::with_capacity(listing.len());
        let mut links = Vec::new();
        let mut old = old.into_iter().peekable();
        for listed in listing {
            while old.next_if(|old| old.name < listed.name).is_some() {}
            let old = old.next_if(|old| old.name == listed.name);
            let old = match old {
                Some(old)
                    if may_trust
                        && is_where_it_was(&old, &listed)
                        && !writes.contains_key(&listed.name) =>
                {
                    entries.push(old);
                    continue;
                }
                old => old,
            };
            let name = listed.name;
            let entry_path = path.child(&name).unwrap_or_default();
            let stat = match Stat::of_entry(&dir, &name) {
                Ok(stat) => stat,
                Err(errno) => {
                    let what = "look at the entry";
                    let fault = fault::at(Side::Destination, &entry_path, what, errno);
                    self.mismatches.push(fault);
                    continue;
                }
            };
            let Destination { apart, volume, .. } = self.destination;
            let is_apart = apart.holds(volume, &entry_path, &stat);
            if !is_apart && apart.is_own(volume, path, &name, &stat) {
                continue;
            }
            self.sound(&entry_path, &stat)?;
            let entry = if is_apart {
                Entry {
                    name,
                    seen: None,
                    kept: Kept::Apart,
                }
            } else if stat.kind == Kind::Directory {
                Entry {
                    name,
                    seen: None,
                    kept: Kept::Directory,
                }
            } else if stat.has_links() {
                let group = self.destination.link_number(&stat);
                links.push((name.clone(), group));
                Entry {
                    name,
                    seen: None,
                    kept: Kept::Link { group },
                }
            } else {
                let writes = writes.get(&name).map_or(&[][..], Vec::as_slice);
                match self.entry(&dir, &entry_path, name, &stat, old.as_ref(), writes) {
                    Ok(entry) => entry,
                    // One that cannot be read back is one: the others are proven.
                    Err(fault) => {
                        self.mismatches.push(fault);
                        continue;
                    }
                }
            };
            entries.push(entry);
        }
        self.sound(path, &stat)?;
        let meta = metadata::read(&Reach::of_open(&dir), path, &stat, self.destination.view())?;
        let meta = self.destination.volume.carried(path, meta);
        let seen = Some(Seen::proven(stat.identity));
        let segment = Segment {
            path: path.clone(),
            meta,
            seen,
            entries,
        };
        Ok(Some(Surveyed { segment, links }))
    }

    /// What is damaged in a volume that is only read fails by name; what is damaged elsewhere is written
    /// over.
    fn sound(&self, path: &RelPath, stat: &Stat) -> Result<(), Fault> {
        let damaged = || fault::damaged_time(self.destination.side, path, stat);
        match self.destination.reads_only.then(damaged).flatten() {
            None => Ok(()),
            Some(fault) => Err(fault),
        }
    }

    /// Proves one inode with several links, through the name `path`.
    pub fn link(&mut self, ino: u64, path: &RelPath) -> Result<bool, Fault> {
        let locked = || self.destination.links();
        let Some(group) = locked().get(ino) else {
            return Ok(true);
        };
        let failed = |what: &str, errno| fault::at(Side::Destination, path, what, errno);
        let Some((parent, name)) = path.split() else {
            return Ok(true);
        };
        let dir = self
            .way
            .open(self.destination.volume.root(), &parent)
            .map_err(|errno| failed("open the directory", errno))?;
        let stat =
            Stat::of_entry(&dir, &name).map_err(|errno| failed("look at the entry", errno))?;
        let before = self.mismatches.len();
        let writes: Vec<&Written> = group.writes.iter().collect();
        let old = group.proven.map(|proven| Entry {
            name: name.clone(),
            seen: Some(Seen::proven(proven.identity)),
            kept: proven.kept(),
        });
        let entry = self.entry(&dir, path, name, &stat, old.as_ref(), &writes)?;
        self.admit();
        let identity = stat.identity;
        let proven = match entry.kept {
            Kept::File(KeptFile {
                digest, size, root, ..
            }) => Proven {
                identity,
                digest,
                size,
                root: Some(root),
            },
            Kept::Other { digest } => Proven {
                identity,
                digest,
                size: 0,
                root: None,
            },
            Kept::Directory | Kept::Link { .. } | Kept::Apart => return Ok(true),
        };
        self.destination.links().prove(ino, proven);
        Ok(self.mismatches.len() == before)
    }

    fn entry(
        &mut self,
        dir: &OwnedFd,
        path: &RelPath,
        name: Name,
        stat: &Stat,
        old: Option<&Entry>,
        writes: &[&Written],
    ) -> Result<Entry, Fault> {
        let unchanged = old
            .filter(|old| old.seen.is_some_and(|seen| seen.identity == stat.identity))
            .filter(|old| matches!(old.kept, Kept::File(_) | Kept::Other { .. }));
        if let Some(old) = unchanged.filter(|_| writes.is_empty()) {
            return Ok(old.clone());
        }
        let failed = |what: &str, errno| fault::at(Side::Destination, path, what, errno);
        let seen = Some(Seen::proven(stat.identity));
        let (digest, kept) = if stat.kind == Kind::File {
            let fd = file::open_read(dir, &name)
                .map_err(|errno| failed("open the file to read it back", errno))?;
            let known = old.and_then(|old| match &old.kept {
                Kept::File(kept) => Some(Hashed {
                    size: kept.size,
                    root: kept.root,
                }),
                _ => None,
            });
            let direct = || file::open_direct(dir, &name);
            let hashed = self.content(&fd, path, stat, known, writes, direct)?;
            let meta = metadata::read(&Reach::of_open(&fd), path, stat, self.destination.view())?;
            let Hashed { size, root } = hashed;
            let digest = entry_digest(&meta, &Node::File { size, root });
            (
                digest,
                Kept::File(KeptFile {
                    digest,
                    size,
                    root,
                    tags: None,
                    reserved: None,
                }),
            )
        } else {
            let handle = file::open_handle(dir, &name)
                .map_err(|errno| failed("open the entry to read it back", errno))?;
            let node = entry::node(&handle, stat)
                .map_err(|errno| failed("read the link back", errno))?
                .ok_or_else(|| failed("read the entry back", Errno::IO))?;
            let meta = metadata::read(
                &Reach::of_handle(&handle),
                path,
                stat,
                self.destination.view(),
            )?;
            let digest = entry_digest(&meta, &node);
            (digest, Kept::Other { digest })
        };
        let claimed = writes
            .iter()
            .rev()
            .map(|write| write.digest)
            .find(|d| d.0 != [0; 32]);
        let only_later_metadata = writes.last().is_some_and(|last| last.digest.0 == [0; 32]);
        if claimed.is_some_and(|claimed| claimed != digest) && !only_later_metadata {
            self.mismatch(path, "content, owner, mode, time or attributes");
        }
        Ok(Entry { name, seen, kept })
    }

    /// What was found counts from here on, and so does where it was read from.
    fn put(&mut self, segment: &Segment) -> Result<(), Fault> {
        self.admit();
        self.destination
            .catalog
            .put(segment, Change::None)
            .map_err(Destination::state_fault)
    }

    fn admit(&mut self) {
        if !std::mem::replace(&mut self.on_device, true) {
            self.destination.on_device.store(false, Ordering::Relaxed);
        }
    }

    fn mismatch(&mut self, path: &RelPath, what: &str) {
        self.mismatches.push(unlike(path, what));
    }
}

/// That the directory at `path` is not what it should be in the manifest.
pub(crate) fn unlike_claim(path: &RelPath) -> Fault {
    unlike(
        path,
        "the directory's entries, owner, mode, time or attributes",
    )
}

fn unlike(path: &RelPath, what: &str) -> Fault {
    fault::named(
        Side::Destination,
        FaultCode::Mismatch,
        path,
        format!("destination: does not hold what was sent ({what} differ)"),
    )
}

/// Whether what is listed is the entry that was proven, as far as the directory tells. Of a name of
/// several it does not.
fn is_where_it_was(old: &Entry, listed: &ListedName) -> bool {
    match (&old.kept, listed.is_directory) {
        (Kept::Directory, Some(true)) => true,
        (Kept::File(_) | Kept::Other { .. }, Some(false)) => {
            old.seen.is_some_and(|seen| seen.identity.ino == listed.ino)
        }
        _ => false,
    }
}

/// The digest of a file's metadata and content, for those who read a file outside a survey.
pub fn file_digest(meta: &Meta, hashed: &Hashed) -> Digest {
    entry_digest(
        meta,
        &Node::File {
            size: hashed.size,
            root: hashed.root,
        },
    )
}
