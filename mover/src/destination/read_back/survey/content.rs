//! Reads the content of a file back, as far as it was written.

use std::os::fd::{AsFd as _, OwnedFd};

use livmig_proto::{
    control::{Fault, Side, VerifyLevel},
    name::RelPath,
};
use rustix::io::Errno;

use super::Surveyor;
use crate::{
    destination::{
        read_back::ranges::WrittenFile,
        touched::{BlockRange, Written, WrittenContent},
    },
    fault,
    fs::{file, stat::Stat},
    hash::{self, Hashed, StreamOptions},
};

impl Surveyor<'_> {
    /// What a file holds, read back as far as it was written.
    pub(crate) fn content(
        &mut self,
        fd: &OwnedFd,
        path: &RelPath,
        stat: &Stat,
        known: Option<Hashed>,
        writes: &[&Written],
        direct: impl FnOnce() -> Option<OwnedFd>,
    ) -> Result<Hashed, Fault> {
        let contents: Vec<&WrittenContent> = writes
            .iter()
            .map(|write| &write.content)
            .filter(|c| **c != WrittenContent::None)
            .collect();
        match (contents.as_slice(), known) {
            (
                [
                    WrittenContent::Whole { size, root }
                    | WrittenContent::Ranges { size, root, .. },
                ],
                _,
            ) if self.level == VerifyLevel::Wire => Ok(Hashed {
                size: *size,
                root: *root,
            }),
            // Nothing but metadata was written since the content was proven.
            ([], Some(known)) if !writes.is_empty() && known.size == stat.identity.size => {
                Ok(known)
            }
            (
                [
                    WrittenContent::Ranges {
                        size,
                        root,
                        base,
                        ranges,
                    },
                ],
                Some(known),
            ) if *base == known.root && *size == stat.identity.size && is_minor(ranges, *size) => {
                // Once for the whole file: pages are dropped only together with the larger folio
                // that they lie in.
                self.drop_cache(fd, *size);
                let volume = &self.destination.volume;
                let file = WrittenFile {
                    fd: fd.as_fd(),
                    direct: volume.has_direct_reads().then(direct).flatten(),
                    size: *size,
                    true_holes: volume.has_true_holes(),
                };
                let held = file.holds(ranges).map_err(|errno| {
                    fault::at(Side::Destination, path, "read the file back", errno)
                })?;
                if !held {
                    self.mismatch(path, "content");
                }
                Ok(Hashed {
                    size: *size,
                    root: *root,
                })
            }
            _ => self.whole(fd, path, stat, direct),
        }
    }

    fn whole(
        &mut self,
        fd: &OwnedFd,
        path: &RelPath,
        stat: &Stat,
        direct: impl FnOnce() -> Option<OwnedFd>,
    ) -> Result<Hashed, Fault> {
        let failed = |errno| fault::at(Side::Destination, path, "read the file back", errno);
        // What takes all of its space is not asked for holes: one that a reservation makes up for reads as
        // the zeros that it is.
        let holes = self.destination.volume.has_true_holes() && stat.shows_holes();
        let options = StreamOptions {
            true_holes: holes,
            ..StreamOptions::new(stat.identity.size)
        };
        // Also before a direct read, which a file system may answer from its cache all the same.
        self.drop_cache(fd, stat.identity.size);
        if self.level != VerifyLevel::Wire && self.destination.volume.has_direct_reads() {
            match hash::sum_directly(options, direct) {
                // Whoever answers so reads only through the cache.
                None | Some(Err(Errno::INVAL)) => {}
                Some(hashed) => return hashed.map_err(failed),
            }
        }
        hash::sum(fd, options, &mut self.buffer).map_err(failed)
    }

    fn drop_cache(&mut self, fd: &OwnedFd, size: u64) {
        if self.level == VerifyLevel::Wire || size == 0 {
            return;
        }
        let in_memory = self.destination.volume.is_in_memory();
        self.on_device &= !in_memory && file::drop_cache(fd);
    }
}

/// Whether reading ranges back is cheaper than reading the file.
fn is_minor(ranges: &[BlockRange], size: u64) -> bool {
    let data: u64 = ranges
        .iter()
        .filter(|r| r.digest.is_some())
        .map(|r| r.len)
        .sum();
    data <= size / 2
}
