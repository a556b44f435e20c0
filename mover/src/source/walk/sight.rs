//! What a look at an entry tells beside its state, and what of that is not carried: encryption, hidden
//! owners, flags, access times that reading moves.

use std::{
    os::fd::{AsFd, BorrowedFd},
    sync::atomic::Ordering,
};

use livmig_proto::{
    control::{Fault, FaultCode, Reason, Reasons, Side},
    name::{Name, RelPath},
};
use rustix::io::Errno;

use crate::source::shared::Shared;
use crate::{
    fault,
    fs::{
        dir,
        metadata::{
            flags::{self, Flags},
            fscrypt::{self, FscryptKey},
        },
        stat::{Attributes, Kind, Stat},
    },
};

/// Why nothing of the encrypted directory behind `dir` may be carried, if that is so: without its key
/// it shows ciphers in place of names.
pub(crate) fn locked(path: &RelPath, dir: BorrowedFd<'_>) -> Option<Fault> {
    match fscrypt::key_of(dir) {
        FscryptKey::Present => None,
        FscryptKey::Absent => Some(fault::named(
            Side::Source,
            FaultCode::Permission,
            path,
            "source: the directory is encrypted and its key is not there; unlock it (fscrypt unlock)",
        )),
        FscryptKey::Unknown(errno) => Some(unknown(path, "the directory", errno)),
    }
}

/// As [`locked`], of the encrypted entry `name` of this kind in the directory `dir`, which is at `path`.
pub(crate) fn locked_entry(
    path: &RelPath,
    dir: BorrowedFd<'_>,
    name: &Name,
    kind: Kind,
) -> Option<Fault> {
    match kind {
        // One that cannot be opened is left to the visit, which will tell.
        Kind::Directory => locked(path, dir::open(dir, name).ok()?.as_fd()),
        // What a link leads to is read as a cipher without a word.
        Kind::Symlink => Some(unknown(path, "the link", Errno::OPNOTSUPP)),
        _ => None,
    }
}

fn unknown(path: &RelPath, what: &str, errno: Errno) -> Fault {
    let text = format!(
        "source: {what} is encrypted, and whether its key is there cannot be told ({errno})"
    );
    fault::named(Side::Source, FaultCode::Unsupported, path, text)
}

/// Tells the flags of the file behind `fd`, which is at `path` and was `stat`; what is to be remembered
/// of that.
pub(crate) fn tell_file(
    shared: &Shared<'_>,
    fd: impl AsFd,
    path: &RelPath,
    stat: &Stat,
) -> Reasons {
    let place = shared.volume.flag_place();
    let own = place.map_or(Flags::default(), |place| Flags::of_file(fd.as_fd(), place));
    tell(shared, path, stat.attributes, own)
}

/// As [`tell_file`], of a directory.
pub(crate) fn tell_directory(
    shared: &Shared<'_>,
    fd: impl AsFd,
    path: &RelPath,
    stat: &Stat,
) -> Reasons {
    tell(
        shared,
        path,
        stat.attributes,
        of_directory(shared, fd.as_fd()),
    )
}

/// As [`tell_file`], of what cannot be opened.
pub(crate) fn tell_special(shared: &Shared<'_>, path: &RelPath, stat: &Stat) -> Reasons {
    tell(shared, path, stat.attributes, Flags::default())
}

fn of_directory(shared: &Shared<'_>, dir: BorrowedFd<'_>) -> Flags {
    let place = shared.volume.flag_place();
    place.map_or(Flags::default(), |place| Flags::of_directory(dir, place))
}

fn tell(shared: &Shared<'_>, path: &RelPath, attributes: Attributes, own: Flags) -> Reasons {
    if own.is_plain() && !attributes.has_flags() {
        return Reasons::NONE;
    }
    let parent = match path.split() {
        Some((parent, _)) if !own.is_plain() => shared
            .volume
            .dir(&parent)
            .map_or(Flags::default(), |dir| of_directory(shared, dir.as_fd())),
        _ => Flags::default(),
    };
    let words = flags::words(attributes, own.beyond(parent));
    if words.is_empty() {
        return Reasons::NONE;
    }
    shared.counts.leave(path, Reason::Flags, words);
    [Reason::Flags].into_iter().collect()
}

impl Shared<'_> {
    /// Tells what shows of the root directory, which nothing lists, before it is read.
    pub(crate) fn look_at_root(&self, stat: &Stat) {
        if stat.attributes.is_encrypted() {
            self.counts.leave(&RelPath::ROOT, Reason::Encrypted, "");
        }
        if self.volume.hides_owner_of_root(stat) {
            self.counts.leave(&RelPath::ROOT, Reason::Owners, "");
        }
    }

    /// What was left out of the unchanged entry at `path` when it was read is told again.
    pub fn leave_again(&self, path: &RelPath, left: Reasons, attributes: Attributes) {
        for reason in left.iter() {
            let detail = match reason {
                Reason::Flags => flags::words(attributes, Flags::default()),
                _ => String::new(),
            };
            self.counts.leave(path, reason, detail);
        }
    }

    /// What `stat` tells is read now. Only its owner and the privileged may leave its access time alone.
    pub(crate) fn reads(&self, stat: &Stat) {
        if self.volume.moves_access_time(stat) {
            self.moved_access_times.store(true, Ordering::Relaxed);
        }
    }

    /// Tells once that access times may have moved.
    pub(crate) fn tell_access_times(&self) {
        if self.moved_access_times.load(Ordering::Relaxed) {
            self.counts.leave(&RelPath::ROOT, Reason::AccessTimes, "");
        }
    }
}

/// A time that is none cannot be carried, nor sent.
pub(crate) fn sound(path: &RelPath, stat: &Stat) -> Result<(), Fault> {
    match fault::damaged_time(Side::Source, path, stat) {
        None => Ok(()),
        Some(fault) => Err(fault),
    }
}
