//! The other end's root, where it lies on this machine: met in this end's own tree, the two ends are not
//! apart, whatever name leads there. Mounts tell most of that before anything is written
//! ([`places`](livmig_proto::places)); what they do not tell, because another namespace has mounted it
//! or a layer of an overlay was renamed, shows here.
//!
//! A process serves one volume at each side, and removal goes on far below what knows of sessions: so
//! this is the process's.

use std::sync::{PoisonError, RwLock};

use livmig_proto::{control::Side, session::RootMark};

use crate::fs::stat::Stat;

static OF_SOURCE: RwLock<Option<RootMark>> = RwLock::new(None);
static OF_DESTINATION: RwLock<Option<RootMark>> = RwLock::new(None);

fn marks(side: Side) -> &'static RwLock<Option<RootMark>> {
    match side {
        Side::Source => &OF_SOURCE,
        Side::Destination => &OF_DESTINATION,
    }
}

/// From here on the root of the end on `side` is `mark`, if that is on the machine of this end, whose
/// root is `own`.
pub fn remember(side: Side, mark: Option<RootMark>, own: &RootMark) {
    let here = mark.filter(|mark| mark.boot == own.boot);
    let here = here.map(|mark| RootMark {
        // Which of the two shows the other's directories does not matter.
        stacked: mark.stacked || own.stacked,
        ..mark
    });
    *marks(side).write().unwrap_or_else(PoisonError::into_inner) = here;
}

/// Whether the directory that looks like `stat` is the root of the end on `side`.
pub fn is_root_of(side: Side, stat: &Stat) -> bool {
    let mark = marks(side).read().unwrap_or_else(PoisonError::into_inner);
    mark.as_ref().is_some_and(|mark| is(mark, stat))
}

/// An overlay shows a directory of its layers under a device of its own, and keeps the rest.
fn is(mark: &RootMark, stat: &Stat) -> bool {
    let btime = stat.identity.btime;
    let birth = (btime.seconds, btime.nanoseconds);
    let is_shown = || mark.stacked && mark.birth == birth && birth != (0, 0);
    mark.ino == stat.identity.ino && (mark.device == stat.identity.device || is_shown())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_met_by_its_inode_and_through_an_overlay_by_its_birth() {
        let dir = tempfile::tempdir().unwrap();
        let stat = Stat::of_fd(std::fs::File::open(dir.path()).unwrap()).unwrap();
        let btime = stat.identity.btime;
        let mark = RootMark {
            boot: "here".into(),
            device: stat.identity.device,
            ino: stat.identity.ino,
            birth: (btime.seconds, btime.nanoseconds),
            stacked: false,
        };
        assert!(is(&mark, &stat));
        let other = RootMark {
            device: (0, 77),
            ..mark.clone()
        };
        assert!(!is(&other, &stat), "two file systems number alike");
        let shown = RootMark {
            stacked: true,
            ..other
        };
        assert_eq!(is(&shown, &stat), shown.birth != (0, 0));
        let elsewhere = RootMark {
            ino: mark.ino + 1,
            ..mark
        };
        assert!(!is(&elsewhere, &stat));
    }
}
