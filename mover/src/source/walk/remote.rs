//! Asks the destination what a directory holds, as if it had been remembered.

use livmig_proto::{
    control::{Fault, FaultCode, Side},
    entry::{Node, entry_digest},
    frame::Reserve,
    limits::DIRECTORY_ENTRIES_MAX,
    name::RelPath,
    session::{Listed, Query},
};

use crate::source::shared::{Shared, lock};
use crate::{
    catalog::{
        segment::{Entry, Kept, KeptFile, Segment},
        tags::{Tag, TagsRef, block_log2_for},
    },
    fault,
};

/// What the destination holds in the directory at `path`; nothing when it has none. Groups of
/// hard links are noted in the link table.
pub fn fetch(shared: &Shared<'_>, path: &RelPath) -> Result<Option<Segment>, Fault> {
    let mut answer = shared.link.query(path, |path| Query::List { path })?;
    let mut next = || -> Result<Listed, Fault> {
        let record = answer
            .next(Listed::frame_length)?
            .ok_or_else(not_understood)?;
        Listed::decode(record).map_err(|_| not_understood())
    };
    let meta = match next()? {
        Listed::Directory { meta } => meta,
        Listed::End => {
            answer.end();
            return Ok(None);
        }
        _ => return Err(not_understood()),
    };
    let mut segment = Segment {
        path: path.clone(),
        meta,
        seen: None,
        entries: Vec::new(),
    };
    let mut tags = TagWriter::default();
    let mut reserved = Reserve::NONE;
    loop {
        match next()? {
            Listed::Directory { .. } => return Err(not_understood()),
            Listed::End => break,
            Listed::Content { size } => tags.begin(shared, size)?,
            Listed::Reserved(space) => reserved = space,
            Listed::Tags { tags: bytes } => tags.push(shared, &bytes)?,
            Listed::Entry {
                name,
                meta,
                node,
                links,
                count,
            } => {
                // Sorted names are what the merge relies on; a peer that breaks it is refused.
                let sorted = segment.entries.last().is_none_or(|last| last.name < name);
                if !sorted || segment.entries.len() >= DIRECTORY_ENTRIES_MAX {
                    return Err(not_understood());
                }
                let digest = entry_digest(&meta, &node);
                let reserved = std::mem::take(&mut reserved);
                let mut kept = match node {
                    Node::Directory => Kept::Directory,
                    Node::File { size, root } => Kept::File(KeptFile {
                        digest,
                        size,
                        root,
                        tags: tags.take(size),
                        reserved: shared.tells_reserved.then_some(reserved),
                    }),
                    _ => Kept::Other { digest },
                };
                if links != 0 {
                    kept = Kept::Link {
                        group: lock(&shared.links).remember_remote(links, count, kept),
                    };
                }
                segment.entries.push(Entry {
                    name,
                    seen: None,
                    kept,
                });
            }
        }
    }
    answer.end();
    Ok(Some(segment))
}

/// Stores the tags of one file after the other as they arrive.
#[derive(Default)]
struct TagWriter {
    place: Option<TagsRef>,
    written: u64,
}

impl TagWriter {
    fn begin(&mut self, shared: &Shared<'_>, size: u64) -> Result<(), Fault> {
        let log2 = block_log2_for(size);
        let count = size.div_ceil(1 << log2);
        let place = shared
            .store
            .tags()
            .allocate(count, log2)
            .map_err(Shared::state_fault)?;
        self.written = 0;
        self.place = Some(place);
        Ok(())
    }

    /// The tags that came before the entry of a file of `size` bytes, if all of them came.
    fn take(&mut self, size: u64) -> Option<TagsRef> {
        let place = self.place.take()?;
        let complete =
            self.written == place.count && size.div_ceil(1 << place.block_log2) == place.count;
        complete.then_some(place)
    }

    fn push(&mut self, shared: &Shared<'_>, bytes: &[u8]) -> Result<(), Fault> {
        let place = self.place.ok_or_else(not_understood)?;
        let tags: Vec<Tag> = bytes
            .chunks_exact(16)
            .map(|chunk| Tag(<[u8; 16]>::try_from(chunk).unwrap_or_default()))
            .collect();
        let count = u64::try_from(tags.len()).unwrap_or(u64::MAX);
        if self.written + count > place.count {
            return Err(not_understood());
        }
        shared
            .store
            .tags()
            .write(&place, self.written, &tags)
            .map_err(Shared::state_fault)?;
        self.written += count;
        Ok(())
    }
}

fn not_understood() -> Fault {
    fault::plain(
        Side::Source,
        FaultCode::Protocol,
        "source: the destination listed a directory in a way that makes no sense",
    )
}
