//! Sends a file: what of it differs from what the destination holds, by the cheapest means.

use livmig_proto::{
    control::{Fault, FaultCode, Reasons, Side},
    entry::{Meta, Node, entry_digest},
    frame::{FileOp, Op, OpenMode, Reserve},
    name::{Name, RelPath},
    tree::{BLOCK, Digest, leaf, range_digest, root_of},
};

use super::content::{Existing, Sink};
use crate::source::{
    shared::Counts,
    walk::{
        join::LookNumber,
        read::{self, OpenFile, ReadAttempt},
        sight,
        visit::{Looked, Scope, Visit, Visitor},
    },
};
use crate::{
    catalog::{
        segment::{Entry, Kept, KeptFile, Seen},
        tags::TagsRef,
    },
    fault,
    fs::{entry::meta_of, file, metadata::xattr::Reach, space::reserved::Zeros, stat::Stat},
    hash::Hashed,
};

/// A file on its way, and what the destination has in its place.
pub(crate) struct Transfer<'t> {
    /// Its name in the directory of the scope.
    pub(crate) name: &'t Name,
    /// Its path, for people.
    pub(crate) path: &'t RelPath,
    /// The file.
    pub(crate) open: &'t OpenFile,
    /// What the destination's file of that name holds, if it may be written in place.
    pub(crate) kept: Option<KeptFile>,
    /// How it is written in place.
    pub(crate) in_place: OpenMode,
    /// How many names lead to that file and are this file's too.
    pub(crate) names: u32,
    /// Whether whatever stands at the name must make way for a new inode.
    pub(crate) replace: bool,
}

/// A file that was read to its end.
pub(crate) struct Passed {
    pub(crate) hashed: Hashed,
    pub(crate) meta: Meta,
    /// What it looked like afterwards.
    pub(crate) after: Stat,
    /// What of it is left out.
    pub(crate) left: Reasons,
    /// Its tags, of a large one.
    pub(crate) tags: Option<TagsRef>,
    /// What is reserved beyond its end.
    pub(crate) reserved: Reserve,
}

impl Transfer<'_> {
    /// The root of what is written over in place.
    pub(crate) fn base(&self) -> Digest {
        self.kept.map_or(Digest([0; 32]), |kept| kept.root)
    }
}

impl Visitor<'_> {
    /// A regular file with one link.
    pub(crate) fn file(
        &mut self,
        visit: &mut Visit,
        name: &Name,
        path: &RelPath,
        before: Option<&Entry>,
        look: LookNumber,
    ) -> Result<Looked, Fault> {
        let dir = std::sync::Arc::clone(&visit.dir);
        let dir = std::os::fd::AsFd::as_fd(&dir);
        let open = match read::open(self.shared, dir, path, name)? {
            // It has several names now. If it does not stay so, it is carried for itself.
            ReadAttempt::Read(open) if open.before.has_links() && !look.is_last() => {
                return Ok(Looked::Changed);
            }
            ReadAttempt::Read(open) => open,
            ReadAttempt::Gone => return Ok(Looked::Missing),
            ReadAttempt::Changed => return Ok(Looked::Changed),
        };
        let kept = match before.map(|before| &before.kept) {
            Some(Kept::File(kept)) => Some(*kept),
            _ => None,
        };
        let replace = before.is_some_and(|before| matches!(before.kept, Kept::Link { .. }));
        self.displace(visit, before)?;
        let transfer = Transfer {
            name,
            path,
            open: &open,
            kept,
            in_place: OpenMode::InPlace,
            names: 1,
            replace,
        };
        let (kept, seen) = self.transfer(&mut visit.scope, &transfer)?;
        // Shorter, with more holes, or instead of something else: that may have given room back.
        if before.is_some_and(|before| before.kept != Kept::File(kept)) {
            self.shared.room.free();
        }
        Ok(Looked::Now(Entry {
            name: name.clone(),
            seen: Some(seen),
            kept: Kept::File(kept),
        }))
    }

    /// Sends what differs. What the destination holds afterwards, and how the file was seen.
    pub(crate) fn transfer(
        &mut self,
        scope: &mut Scope,
        transfer: &Transfer<'_>,
    ) -> Result<(KeptFile, Seen), Fault> {
        let begun = std::time::Instant::now();
        let before = &transfer.open.before;
        if before.identity.size == 0 && !self.shared.volume.tells_sizes() {
            expect_empty(transfer)?;
        }
        // Holes that were filled, and space that was given back, are so at the destination too.
        let had_holes = |kept: KeptFile| {
            kept.tags.is_some() || kept.reserved.is_some_and(|space| !space.is_none())
        };
        let large = before.may_have_holes() || transfer.kept.is_some_and(had_holes);
        let Passed {
            hashed,
            meta,
            after,
            left,
            tags,
            reserved,
        } = if large {
            self.large(scope, transfer)?
        } else {
            self.small(scope, transfer)?
        };
        let counts = self.shared.counts;
        Counts::add_time(&counts.read_nanos, begun.elapsed());
        Counts::add(&counts.bytes_scanned, hashed.size);
        counts.read_file(transfer.path, hashed.size);

        // Through one handle it is one inode, whatever number it has by now.
        let still = before.identity.is_like(&after.identity);
        let same = still && hashed.size == after.identity.size;
        if !same && self.shared.is_final() {
            return Err(fault::named(
                Side::Source,
                FaultCode::StillWritten,
                transfer.path,
                "source: the file changed while it was read in the final pass",
            ));
        }
        let proof = &self.shared.proof;
        let mut seen = proof.seen(&before.identity, &after.identity, left);
        seen.cold &= same;
        if !seen.cold {
            Counts::add(&counts.bytes_hot, hashed.size);
        }
        let node = Node::File {
            size: hashed.size,
            root: hashed.root,
        };
        let digest = entry_digest(&meta, &node);
        Ok((
            KeptFile {
                digest,
                size: hashed.size,
                root: hashed.root,
                tags,
                reserved: Some(reserved),
            },
            seen,
        ))
    }

    /// The metadata as it is now, and what the file looks like: read after the content, so that
    /// they are not older, and the look last, so that it tells whether anything moved before.
    pub(crate) fn meta(&self, transfer: &Transfer<'_>) -> Result<(Meta, Stat, Reasons), Fault> {
        let reach = Reach::of_open(&transfer.open.fd);
        let (carried, mut left) = read::attributes(self.shared, &reach, transfer.path)?;
        let after = Stat::of_fd(&transfer.open.fd)
            .map_err(|errno| fault::at(Side::Source, transfer.path, "look at the file", errno))?;
        sight::sound(transfer.path, &after)?;
        left.extend(sight::tell_file(
            self.shared,
            &transfer.open.fd,
            transfer.path,
            &after,
        ));
        Ok((meta_of(&after, carried), after, left))
    }

    /// A file that is read whole and, if it differs, sent whole.
    fn small(&mut self, scope: &mut Scope, transfer: &Transfer<'_>) -> Result<Passed, Fault> {
        let mut content = std::mem::take(&mut self.buffer);
        let result = self.small_with(scope, transfer, &mut content);
        self.buffer = content;
        result
    }

    fn small_with(
        &mut self,
        scope: &mut Scope,
        transfer: &Transfer<'_>,
        content: &mut Vec<u8>,
    ) -> Result<Passed, Fault> {
        read::whole(
            transfer.open,
            transfer.path,
            content,
            transfer.open.before.identity.size,
        )?;
        let hashed = Hashed {
            size: u64::try_from(content.len()).unwrap_or(0),
            root: root_of(content),
        };
        let (meta, after, left) = self.meta(transfer)?;
        match difference(transfer.kept.as_ref(), &hashed, &meta) {
            Difference::None => {}
            Difference::Meta => self.send_meta(scope, transfer, &meta)?,
            Difference::Content => {
                self.begin(scope)?;
                Counts::add(&self.shared.counts.changed, 1);
                if transfer.in_place == OpenMode::Shared && !transfer.replace {
                    self.small_in_place(transfer, content, hashed, &meta)?;
                } else {
                    let file = FileOp {
                        name: transfer.name,
                        replace: transfer.replace,
                        meta: &meta,
                        root: hashed.root,
                        content,
                    };
                    self.lane
                        .push_with(content.len() + 512, |frame| frame.push_file(&file))?;
                }
            }
        }
        Ok(Passed {
            hashed,
            meta,
            after,
            left,
            tags: None,
            reserved: Reserve::NONE,
        })
    }

    /// A small file with several links: all of them change, so its inode stays.
    fn small_in_place(
        &mut self,
        transfer: &Transfer<'_>,
        content: &[u8],
        hashed: Hashed,
        meta: &Meta,
    ) -> Result<(), Fault> {
        let leaves: Vec<Digest> = content.chunks(BLOCK).map(leaf).collect();
        let open = Op::Open {
            name: transfer.name.clone(),
            mode: OpenMode::Shared,
            names: transfer.names,
            sparse: false,
            base: transfer.base(),
        };
        self.lane.push(&open, 300)?;
        if !content.is_empty() {
            let digest = range_digest(&leaves);
            self.lane.push_with(content.len() + 64, |frame| {
                frame.push_data(0, &digest, content);
            })?;
        }
        let close = Op::Close {
            size: hashed.size,
            root: hashed.root,
            reserved: Reserve::NONE,
            meta: meta.clone(),
        };
        self.lane.push(&close, 512)
    }

    pub(crate) fn send_meta(
        &mut self,
        scope: &mut Scope,
        transfer: &Transfer<'_>,
        meta: &Meta,
    ) -> Result<(), Fault> {
        self.begin(scope)?;
        Counts::add(&self.shared.counts.changed, 1);
        self.lane.push(
            &Op::Meta {
                name: transfer.name.clone(),
                meta: meta.clone(),
                names: transfer.names,
            },
            512,
        )
    }
}

/// Sends differing blocks down the lane, opening the file at the first of them.
pub(crate) struct LaneSink<'v, 's, 't, 'a> {
    pub(crate) visitor: &'v mut Visitor<'a>,
    pub(crate) scope: &'s mut Scope,
    pub(crate) transfer: &'t Transfer<'t>,
    pub(crate) before: Existing,
    pub(crate) opened: Option<OpenMode>,
}

impl LaneSink<'_, '_, '_, '_> {
    pub(crate) fn open(&mut self) -> Result<(), Fault> {
        if self.opened.is_none() {
            let mode = match self.before {
                Existing::Fresh => OpenMode::Replace,
                Existing::Tagged(_) | Existing::Opaque => self.transfer.in_place,
            };
            self.open_as(mode)?;
        }
        Ok(())
    }

    pub(crate) fn open_as(&mut self, mode: OpenMode) -> Result<(), Fault> {
        self.opened = Some(mode);
        self.visitor.begin(self.scope)?;
        {
            let name = self.transfer.name.clone();
            let sparse = self.transfer.open.before.is_sparse();
            self.visitor.lane.push(
                &Op::Open {
                    name,
                    mode,
                    names: self.transfer.names,
                    sparse,
                    base: self.transfer.base(),
                },
                300,
            )
        }
    }
}

impl Sink for LaneSink<'_, '_, '_, '_> {
    fn data(&mut self, offset: u64, digest: Digest, content: &[u8]) -> Result<(), Fault> {
        self.open()?;
        self.visitor.lane.push_with(content.len() + 64, |frame| {
            frame.push_data(offset, &digest, content);
        })
    }

    fn zero(&mut self, offset: u64, len: u64, zeros: Zeros) -> Result<(), Fault> {
        self.open()?;
        let op = match zeros {
            Zeros::Reserved => Op::Zero { offset, len },
            Zeros::Hole => Op::Hole { offset, len },
        };
        self.visitor.lane.push(&op, 32)
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Difference {
    None,
    Meta,
    Content,
}

/// Fails where a file that its file system says is empty has content: how much nobody can say.
fn expect_empty(transfer: &Transfer<'_>) -> Result<(), Fault> {
    let path = transfer.path;
    match file::read_at(&transfer.open.fd, &mut [0; 1], 0) {
        Ok(0) => Ok(()),
        Ok(_) => Err(fault::named(
            Side::Source,
            FaultCode::Unsupported,
            path,
            "source: the file system says that the file is empty, and it has content; livmig \
             carries what has a size",
        )),
        Err(errno) => Err(fault::at(Side::Source, path, "read the file", errno)),
    }
}

/// What must be sent of a file, given what the destination has.
pub(crate) fn difference(kept: Option<&KeptFile>, hashed: &Hashed, meta: &Meta) -> Difference {
    let node = Node::File {
        size: hashed.size,
        root: hashed.root,
    };
    match kept {
        Some(kept) if kept.digest == entry_digest(meta, &node) => Difference::None,
        Some(kept) if kept.size == hashed.size && kept.root == hashed.root => Difference::Meta,
        _ => Difference::Content,
    }
}
