//! Answers what the destination holds where the source knows nothing.

use std::{
    collections::HashMap,
    os::fd::{AsFd as _, OwnedFd},
    sync::atomic::Ordering,
};

use bytes::Bytes;
use livmig_proto::{
    control::{Fault, Side, VerifyLevel},
    entry::{Meta, Node, Time},
    limits::DIRECTORY_ENTRIES_MAX,
    name::{Name, RelPath},
    session::Listed,
};
use rustix::io::Errno;

use super::{
    links::Proven,
    read_back::survey::file_digest,
    state::Destination,
    touched::ByName,
    write::{create, metadata},
};
use crate::{
    catalog::{
        segment::{Entry, Kept, KeptFile, Seen, Segment},
        store::Change,
        tags::{self, Tag, block_log2_for},
    },
    fault,
    fs::{
        dir, entry, file,
        metadata::{rights, xattr::Reach},
        space::reserved,
        stat::{Kind, Stat},
        way::Way,
    },
    hash::{self, Hashed, Piece, StreamError, StreamOptions},
};

/// Where the records of an answer go; nothing more is wanted once it says so.
pub trait Records {
    /// Takes one record.
    fn push(&mut self, record: Bytes) -> Result<(), Fault>;
}

/// Tags of one record: 1 MiB of them.
const TAGS_PER_RECORD: usize = 1 << 16;

impl Destination {
    /// The directory at `path`. Its owner may have to be let in first; the mode that this leaves is
    /// what the source is told, and sends its own.
    fn dir_of_owner(&self, path: &RelPath, way: &mut Way) -> Result<OwnedFd, Errno> {
        match (way.open(self.volume.root(), path), path.split()) {
            (Err(Errno::ACCESS), Some((parent, name))) => {
                create::let_owner_in(&self.volume.dir(&parent)?, &name)?;
                self.volume.dir(path)
            }
            (opened, _) => opened,
        }
    }

    /// Lists the directory at `path`, reading all content in it, and notes it as proven. What cannot
    /// be read is told as something that no source has, or as nothing: it is replaced then, or whoever
    /// tries names it.
    pub fn list(
        &self,
        path: &RelPath,
        way: &mut Way,
        how: (&[u8; 32], VerifyLevel),
        records: &mut impl Records,
    ) -> Result<(), Fault> {
        match self.list_readable(path, way, how, records) {
            Err(fault) if fault.path.is_some() => {
                tracing::debug!("asked for: {fault}");
                self.doubt(path)?;
                records.push(Listed::End.to_frame())
            }
            listed => listed,
        }
    }

    /// Nothing is known of the directory at `path`: it is surveyed once more.
    fn doubt(&self, path: &RelPath) -> Result<(), Fault> {
        self.complete.store(false, Ordering::SeqCst);
        self.catalog.begin(path).map_err(Self::state_fault)
    }

    fn list_readable(
        &self,
        path: &RelPath,
        way: &mut Way,
        (tag_key, level): (&[u8; 32], VerifyLevel),
        records: &mut impl Records,
    ) -> Result<(), Fault> {
        let failed = |what: &str, errno| fault::at(Side::Destination, path, what, errno);
        let dir = match self.dir_of_owner(path, way) {
            Ok(dir) => dir,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                return records.push(Listed::End.to_frame());
            }
            Err(errno) => return Err(failed("open the directory", errno)),
        };
        let look = || Stat::of_fd(&dir).map_err(|errno| failed("look at the directory", errno));
        let mut stat = look()?;
        let user = rustix::process::geteuid();
        let ours = stat.identity.uid == user.as_raw();
        // Its owner may list it but not look at what is in it.
        if ours && !rights::overrides_permissions() && stat.identity.mode & 0o100 == 0 {
            create::allow_owner(&dir, path)?;
            stat = look()?;
        }
        let names = dir::list_at_most(dir.as_fd(), DIRECTORY_ENTRIES_MAX)
            .map_err(|errno| fault::listing(Side::Destination, path, errno))?;
        let meta = metadata::read(&Reach::of_open(&dir), path, &stat, self.view())?;
        let meta = self.volume.carried(path, meta);
        records.push(Listed::Directory { meta: meta.clone() }.to_frame())?;
        let mut listing = Listing {
            destination: self,
            tag_key,
            level,
            buffer: Vec::new(),
            entries: Vec::new(),
            links: Vec::new(),
            read: HashMap::new(),
        };
        let mut unread = false;
        for name in names {
            let entry_path = path.child(&name).unwrap_or_default();
            let looked = Stat::of_entry(&dir, &name);
            if looked.is_ok_and(|stat| self.apart.is_own(&self.volume, path, &name, &stat)) {
                continue;
            }
            let listed = looked
                .map_err(|errno| {
                    fault::at(Side::Destination, &entry_path, "look at the entry", errno)
                })
                .and_then(|stat| listing.entry(&dir, &entry_path, name.clone(), &stat, records));
            match listed {
                Ok(()) => {}
                Err(fault) if fault.path.is_some() => {
                    tracing::debug!("asked for: {fault}");
                    unread = true;
                    records.push(nobodys(name).to_frame())?;
                }
                Err(fault) => return Err(fault),
            }
        }
        if unread {
            self.doubt(path)?;
            return records.push(Listed::End.to_frame());
        }
        let seen = Some(Seen::proven(stat.identity));
        let segment = Segment {
            path: path.clone(),
            meta,
            seen,
            entries: listing.entries,
        };
        self.catalog
            .put(&segment, Change::None)
            .map_err(Self::state_fault)?;
        let mut links = self.links();
        let names = listing
            .links
            .iter()
            .map(|(name, ino, _)| (name.clone(), *ino))
            .collect();
        links.replace(path, names, &ByName::new());
        for (_, ino, proven) in listing.links {
            links.prove(ino, proven);
        }
        drop(links);
        records.push(Listed::End.to_frame())
    }
}

/// What stands for an entry that cannot be read: nothing that any source has.
fn nobodys(name: Name) -> Listed {
    Listed::Entry {
        name,
        meta: Meta {
            uid: u32::MAX,
            gid: u32::MAX,
            mtime: Time {
                seconds: i64::MIN,
                nanoseconds: 0,
            },
            ..Meta::default()
        },
        node: Node::Socket,
        links: 0,
        count: 1,
    }
}

/// Sees to it that a file can be read which this process owns and its mode locks away; what it is
/// then. Its real mode comes with its metadata, since this one is what the source is told.
fn readable(dir: &OwnedFd, path: &RelPath, name: &Name, stat: &Stat) -> Result<Stat, Fault> {
    let user = rustix::process::geteuid();
    let locked = stat.kind == Kind::File && stat.identity.mode & 0o400 == 0;
    // A file with further names may have some that are not in the volume.
    let ours = stat.identity.uid == user.as_raw() && !stat.has_links();
    if rights::overrides_permissions() || !locked || !ours {
        return Ok(*stat);
    }
    metadata::allow_owner(dir, name, path)?;
    Stat::of_entry(dir, name)
        .map_err(|errno| fault::at(Side::Destination, path, "look at the entry", errno))
}

/// A directory that is being listed.
struct Listing<'a> {
    destination: &'a Destination,
    tag_key: &'a [u8; 32],
    level: VerifyLevel,
    buffer: Vec<u8>,
    entries: Vec<Entry>,
    links: Vec<(Name, u64, Proven)>,
    /// What inodes with several links hold: each is read once, whatever the number of its names.
    read: HashMap<u64, (Meta, Node, Kept)>,
}

impl Listing<'_> {
    fn entry(
        &mut self,
        dir: &OwnedFd,
        path: &RelPath,
        name: Name,
        stat: &Stat,
        records: &mut impl Records,
    ) -> Result<(), Fault> {
        let stat = &readable(dir, path, &name, stat)?;
        let ino = self.destination.link_number(stat);
        let known = self.read.get(&ino).filter(|_| stat.has_links()).cloned();
        let read = match known {
            Some(known) => known,
            None => self.read(dir, path, &name, stat, records)?,
        };
        if stat.has_links() {
            self.read.entry(ino).or_insert_with(|| read.clone());
        }
        let (meta, node, kept) = read;
        let links = if stat.has_links() { ino } else { 0 };
        records.push(
            Listed::Entry {
                name: name.clone(),
                meta,
                node,
                links,
                count: stat.identity.nlink,
            }
            .to_frame(),
        )?;
        let identity = stat.identity;
        let (seen, kept) = match kept {
            Kept::File(KeptFile {
                digest, size, root, ..
            }) if links != 0 => {
                let proven = Proven {
                    identity,
                    digest,
                    size,
                    root: Some(root),
                };
                self.links.push((name.clone(), links, proven));
                (None, Kept::Link { group: links })
            }
            Kept::Other { digest } if links != 0 => {
                let proven = Proven {
                    identity,
                    digest,
                    size: 0,
                    root: None,
                };
                self.links.push((name.clone(), links, proven));
                (None, Kept::Link { group: links })
            }
            Kept::Directory => (None, Kept::Directory),
            kept => (Some(Seen::proven(identity)), kept),
        };
        self.entries.push(Entry { name, seen, kept });
        Ok(())
    }

    /// Reads an entry, announcing the tags of a file on the way.
    fn read(
        &mut self,
        dir: &OwnedFd,
        path: &RelPath,
        name: &Name,
        stat: &Stat,
        records: &mut impl Records,
    ) -> Result<(Meta, Node, Kept), Fault> {
        let failed = |what: &str, errno| fault::at(Side::Destination, path, what, errno);
        Ok(match stat.kind {
            // Of a directory only its existence matters here: it is listed for itself.
            Kind::Directory => (Meta::default(), Node::Directory, Kept::Directory),
            Kind::File => {
                let fd =
                    file::open_read(dir, name).map_err(|errno| failed("open the file", errno))?;
                self.tell_reserved(&fd, stat, records)?;
                let hashed = self.content(&fd, path, stat, records)?;
                let meta =
                    metadata::read(&Reach::of_open(&fd), path, stat, self.destination.view())?;
                let Hashed { size, root } = hashed;
                let digest = file_digest(&meta, &hashed);
                let kept = Kept::File(KeptFile {
                    digest,
                    size,
                    root,
                    tags: None,
                    reserved: None,
                });
                (meta, Node::File { size, root }, kept)
            }
            _ => {
                let handle = file::open_handle(dir, name)
                    .map_err(|errno| failed("open the entry", errno))?;
                let node = entry::node(&handle, stat)
                    .map_err(|errno| failed("read the link", errno))?
                    .ok_or_else(|| failed("look at the entry", Errno::IO))?;
                let meta = metadata::read(
                    &Reach::of_handle(&handle),
                    path,
                    stat,
                    self.destination.view(),
                )?;
                let digest = livmig_proto::entry::entry_digest(&meta, &node);
                (meta, node, Kept::Other { digest })
            }
        })
    }

    /// Announces what is reserved beyond the end of a file, if something is.
    fn tell_reserved(
        &self,
        fd: &OwnedFd,
        stat: &Stat,
        records: &mut impl Records,
    ) -> Result<(), Fault> {
        let volume = &self.destination.volume;
        if !volume.tells_reserved() {
            return Ok(());
        }
        let space = reserved::beyond(fd.as_fd(), stat, volume.reservations());
        if space.is_none() {
            return Ok(());
        }
        records.push(Listed::Reserved(space).to_frame())
    }

    /// Reads a file, announcing the tags of its blocks on the way.
    fn content(
        &mut self,
        fd: &OwnedFd,
        path: &RelPath,
        stat: &Stat,
        records: &mut impl Records,
    ) -> Result<Hashed, Fault> {
        let size = stat.identity.size;
        // What this very pass has written may still have to be, before it can be dropped.
        let dropped =
            || file::drop_cache(fd) || rustix::fs::fdatasync(fd).is_ok() && file::drop_cache(fd);
        if self.level != VerifyLevel::Wire && !dropped() {
            self.destination.on_device.store(false, Ordering::Relaxed);
        }
        let block_log2 = block_log2_for(size);
        let block = 1_u64 << block_log2;
        let may_have_holes = stat.may_have_holes();
        let with_tags = may_have_holes && tags::is_tagged(size, stat.allocated());
        if with_tags {
            records.push(Listed::Content { size }.to_frame())?;
        }
        let mut tags: Vec<u8> = Vec::new();
        let mut flush = |tags: &mut Vec<u8>, least: usize| -> Result<(), Fault> {
            if tags.len() >= least && !tags.is_empty() {
                records.push(
                    Listed::Tags {
                        tags: std::mem::take(tags).into(),
                    }
                    .to_frame(),
                )?;
            }
            Ok(())
        };
        let window = hash::WINDOW.max(usize::try_from(block).unwrap_or(usize::MAX));
        let options = StreamOptions {
            window,
            align: block,
            // What takes all of its space is not asked for holes.
            true_holes: self.destination.volume.has_true_holes() && may_have_holes,
            ..StreamOptions::new(size)
        };
        let key = self.tag_key;
        let told = self.destination.volume.reservations();
        // Where holes cannot be told from data, only a file without any is known to take its space.
        let takes_space = self.destination.volume.has_true_holes() || !stat.is_sparse();
        if hash::takes_several(size) {
            file::expect_sequential(fd);
        }
        let hashed = hash::stream(fd, options, &mut self.buffer, |piece| {
            if !with_tags {
                return Ok(());
            }
            match piece {
                Piece::Data { leaves, .. } => {
                    for tag in tags::of_blocks(key, leaves, block) {
                        let tag = if takes_space { tag.taking_space() } else { tag };
                        tags.extend_from_slice(&tag.0);
                    }
                    flush(&mut tags, TAGS_PER_RECORD * 16)
                }
                Piece::Hole { offset, len } => {
                    // In pieces: a hole may be as large as nothing else.
                    let mut at = offset;
                    let end = offset + len / block * block;
                    while at < end {
                        let blocks = usize::try_from((end - at) / block).unwrap_or(usize::MAX);
                        let count = blocks.min(TAGS_PER_RECORD / 4);
                        let next = at + block * u64::try_from(count).unwrap_or(0);
                        let stretches = reserved::within(fd.as_fd(), at..next, told);
                        let stretches = stretches.unwrap_or_default();
                        for taken in reserved::by_block(&stretches, at, block, count) {
                            let tag = if taken { Tag::RESERVED } else { Tag::default() };
                            tags.extend_from_slice(&tag.0);
                        }
                        flush(&mut tags, TAGS_PER_RECORD * 16)?;
                        at = next;
                    }
                    if len % block > 0 {
                        tags.extend_from_slice(&tags::of_hole_tail(key, len % block).0);
                    }
                    flush(&mut tags, TAGS_PER_RECORD * 16)
                }
            }
        });
        let hashed = hashed.map_err(|error| match error {
            StreamError::Read(errno) => fault::at(Side::Destination, path, "read the file", errno),
            StreamError::Stopped(fault) => fault,
        })?;
        flush(&mut tags, 0)?;
        Ok(hashed)
    }
}
