//! What stands below a source's root and is not content: mounts, and what a file system keeps for
//! itself. The name is carried, what stands under it is left as it is at either end.

use livmig_proto::{
    control::{Fault, Reason, Side},
    frame::{ApartKind, Op},
    name::{Name, RelPath},
};

use super::visit::{Looked, Visit, Visitor};
use crate::source::shared::{Counts, Shared};
use crate::{
    catalog::segment::{Entry, Kept},
    fault,
    fs::{
        entry::meta_of,
        lost_found::{LOST_AND_FOUND, LostFound},
        stat::{Kind, Stat},
    },
};

/// What a listed name is to a pass.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ApartStanding {
    /// Part of the volume's content.
    Content,
    /// The file system's own, and empty: no part of it.
    Nobodys,
    /// A name of the volume under which something stands that is not carried, and why not.
    Apart(Reason),
    /// The file system's own, and what it holds is not to be known.
    Closed,
}

/// What `lost` means at a source whose destination keeps the name for itself or not.
fn of_lost_and_found(lost: Option<LostFound>, reserved: bool) -> ApartStanding {
    match (lost, reserved) {
        (Some(LostFound::Empty), _) => ApartStanding::Nobodys,
        (Some(LostFound::Closed), _) => ApartStanding::Closed,
        (Some(LostFound::Holding), true) => ApartStanding::Apart(Reason::LostFound),
        (Some(LostFound::Holding), false) | (None, _) => ApartStanding::Content,
    }
}

impl Shared<'_> {
    /// What `name` in `directory`, which looks like `stat`, is to this pass.
    pub(crate) fn standing(
        &self,
        directory: &RelPath,
        name: &Name,
        stat: &Stat,
    ) -> Result<ApartStanding, Fault> {
        if self.volume.is_mount(stat) {
            return Ok(ApartStanding::Apart(Reason::Mount));
        }
        if !directory.is_root() {
            return Ok(ApartStanding::Content);
        }
        let lost = self.volume.lost_and_found(name, stat).map_err(|errno| {
            let path = directory.child(name).unwrap_or_default();
            fault::listing(Side::Source, &path, errno)
        })?;
        Ok(of_lost_and_found(lost, self.reserved))
    }

    /// Whether `name` in `directory` is somebody's own `lost+found` where the destination's file
    /// system keeps one, which has to make way. Said in every pass: an empty one would look like
    /// the file system's.
    pub(crate) fn keeps_lost_and_found(&self, directory: &RelPath, name: &Name) -> bool {
        self.reserved && directory.is_root() && name.as_bytes() == LOST_AND_FOUND
    }
}

impl Visitor<'_> {
    /// A name under which something stands that is left out because of `reason`.
    pub(crate) fn apart(
        &mut self,
        visit: &mut Visit,
        name: &Name,
        stat: &Stat,
        reason: Reason,
        before: Option<&Entry>,
    ) -> Result<Looked, Fault> {
        let counts = self.shared.counts;
        let path = visit.scope.path.child(name).unwrap_or_default();
        Counts::add(&counts.entries, 1);
        counts.leave(&path, reason, "");
        counts.set_apart(path);
        self.displace(visit, before)?;
        self.begin(&mut visit.scope)?;
        let op = Op::Apart {
            name: name.clone(),
            // Of the mount point itself nothing can be seen: what is mounted hides it.
            meta: meta_of(stat, Vec::new()),
            kind: match stat.kind {
                Kind::Directory => ApartKind::Directory,
                _ => ApartKind::File,
            },
        };
        self.lane.push(&op, 512)?;
        Ok(Looked::Now(Entry {
            name: name.clone(),
            seen: None,
            kept: Kept::Apart,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_rescued_is_content_wherever_the_name_is_free() {
        use LostFound::{Closed, Empty, Holding};
        for reserved in [false, true] {
            assert_eq!(of_lost_and_found(None, reserved), ApartStanding::Content);
            assert_eq!(
                of_lost_and_found(Some(Empty), reserved),
                ApartStanding::Nobodys
            );
            assert_eq!(
                of_lost_and_found(Some(Closed), reserved),
                ApartStanding::Closed
            );
        }
        assert_eq!(
            of_lost_and_found(Some(Holding), false),
            ApartStanding::Content
        );
        assert_eq!(
            of_lost_and_found(Some(Holding), true),
            ApartStanding::Apart(Reason::LostFound)
        );
    }
}
