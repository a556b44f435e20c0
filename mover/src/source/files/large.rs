//! A large file, or one with holes or reserved space: compared block by block while it is read, or as a
//! whole where nothing is known of its blocks.

use std::os::fd::AsFd as _;

use livmig_proto::{
    control::{Fault, Side},
    frame::{Op, OpenMode, Reserve},
};

use super::{
    content::{self, Compared, Existing, Subject},
    delta,
    file::{Difference, LaneSink, Passed, Transfer, difference},
};
use crate::source::{
    shared::{Counts, lock},
    walk::visit::{Scope, Visitor},
};
use crate::{
    catalog::segment::KeptFile,
    fault,
    fs::{
        space::reserved,
        stat::{SMALL, Stat},
    },
    hash::{self, StreamError, StreamOptions},
};

impl Visitor<'_> {
    /// A file of which the destination holds something of the same size, of whose blocks nothing is
    /// known: if it is the same as a whole, nothing of it is sent. Unless it has holes where the
    /// destination, which would have told of its own, has none.
    fn is_as_kept(
        &mut self,
        scope: &mut Scope,
        transfer: &Transfer<'_>,
        subject: Subject,
    ) -> Result<Option<Passed>, Fault> {
        let same_size = |kept: &KeptFile| kept.size == subject.size && !transfer.replace;
        let Some(kept) = transfer.kept.filter(same_size) else {
            return Ok(None);
        };
        let failed = |errno| fault::at(Side::Source, transfer.path, "read the file", errno);
        let fd = &transfer.open.fd;
        // A small one goes again as a whole: only where the holes will be told of then.
        let asks = subject.tagged && (subject.size > SMALL || self.shared.tells_reserved);
        if asks && content::has_hole(fd, subject).map_err(failed)? {
            return Ok(None);
        }
        let reserved = reserved_beyond(transfer, &transfer.open.before, subject);
        if !is_reserved_alike(&kept, reserved) {
            return Ok(None);
        }
        let options = StreamOptions {
            cache: self.shared.cache_use(),
            true_holes: subject.true_holes,
            ..StreamOptions::new(subject.size)
        };
        let hashed = hash::sum(fd, options, &mut self.buffer).map_err(failed)?;
        if (hashed.size, hashed.root) != (kept.size, kept.root) {
            return Ok(None);
        }
        let (meta, after, left) = self.meta(transfer)?;
        if difference(Some(&kept), &hashed, &meta) != Difference::None {
            self.send_meta(scope, transfer, &meta)?;
        }
        Ok(Some(Passed {
            hashed,
            meta,
            after,
            left,
            tags: None,
            reserved,
        }))
    }

    /// A file that is compared block by block while it is read.
    pub(crate) fn large(
        &mut self,
        scope: &mut Scope,
        transfer: &Transfer<'_>,
    ) -> Result<Passed, Fault> {
        let subject = Subject::of(&transfer.open.before, self.shared.volume);
        let old = transfer
            .kept
            .and_then(|kept| kept.tags)
            .filter(|_| !transfer.replace && subject.tagged);
        if old.is_none()
            && let Some(passed) = self.is_as_kept(scope, transfer, subject)?
        {
            return Ok(passed);
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let before = match old {
            Some(tags) => Existing::Tagged(tags),
            // A new inode would take this name away from the others.
            None if transfer.in_place == OpenMode::Shared && !transfer.replace => Existing::Opaque,
            None => Existing::Fresh,
        };
        let mut sink = LaneSink {
            visitor: self,
            scope,
            transfer,
            before,
            opened: None,
        };

        let shifted = delta::shifted(sink.visitor.shared, transfer, old, &mut buffer)?;
        let result = if let Some((kept, tags)) = shifted {
            delta::send(&mut sink, subject, (kept, &tags), &mut buffer)
        } else {
            content::compare(
                sink.visitor.shared,
                &transfer.open.fd,
                subject,
                before,
                &mut buffer,
                &mut sink,
            )
        };
        let opened = sink.opened;
        // What one file needed of the buffer beyond the usual is given back.
        buffer.truncate(crate::hash::WINDOW);
        buffer.shrink_to(crate::hash::WINDOW);
        self.buffer = buffer;
        let Compared { hashed, tags } = result.map_err(|error| match error {
            StreamError::Read(errno) => {
                fault::at(Side::Source, transfer.path, "read the file", errno)
            }
            StreamError::Stopped(fault) => fault,
        })?;

        let (meta, after, left) = self.meta(transfer)?;
        let kept = transfer.kept.as_ref().filter(|_| old.is_some());
        let difference = difference(kept, &hashed, &meta);
        let reserved = reserved_beyond(transfer, &after, subject);
        let same_space = kept.is_none_or(|kept| is_reserved_alike(kept, reserved));
        if opened.is_none() && difference != Difference::Content && same_space {
            // Nothing changed but perhaps the metadata: the old tags stay.
            if let Some(tags) = &tags {
                self.shared.store.tags().release(tags);
            }
            if difference == Difference::Meta {
                self.send_meta(scope, transfer, &meta)?;
            }
            return Ok(Passed {
                hashed,
                meta,
                after,
                left,
                tags: old,
                reserved,
            });
        }
        // Under another name what is replaced may go on.
        let kept = transfer.kept.filter(|_| !transfer.replace);
        if let Some(old) = kept.and_then(|kept| kept.tags) {
            lock(&self.shared.retired).push(old);
        }
        if opened.is_none() {
            // Shorter, or nothing but holes: there was no block to send.
            LaneSink {
                visitor: self,
                scope,
                transfer,
                before,
                opened: None,
            }
            .open()?;
        }
        Counts::add(&self.shared.counts.changed, 1);
        let close = Op::Close {
            size: hashed.size,
            root: hashed.root,
            reserved,
            meta: meta.clone(),
        };
        self.lane.push(&close, 512)?;
        Ok(Passed {
            hashed,
            meta,
            after,
            left,
            tags,
            reserved,
        })
    }
}

/// What is reserved beyond the end of the file, which looked like `stat`. While it is written it is not
/// believed: a file system may have allocated what is about to become content. The next pass will ask.
fn reserved_beyond(transfer: &Transfer<'_>, stat: &Stat, subject: Subject) -> Reserve {
    let fd = &transfer.open.fd;
    let reserved = reserved::beyond(fd.as_fd(), stat, subject.told);
    let is_still = |now: Stat| now.identity == stat.identity && now.blocks == stat.blocks;
    if reserved.is_none() || Stat::of_fd(fd).is_ok_and(is_still) {
        reserved
    } else {
        Reserve::NONE
    }
}

/// Whether the destination's file has the space `reserved` beyond its end, as far as anybody knows.
fn is_reserved_alike(kept: &KeptFile, reserved: Reserve) -> bool {
    kept.reserved
        .is_none_or(|kept| reserved::is_alike(kept, reserved))
}
