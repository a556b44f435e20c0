//! A volume without room: what one lane knows of that, and how it is told.

use livmig_proto::{
    control::{Fault, FaultCode, Side},
    frame::{Op, OpenMode},
    name::{Name, RelPath},
};
use rustix::io::Errno;

use crate::{advice, fault};

/// What one lane knows about room on the volume.
#[derive(Debug, Default)]
pub struct LaneSpace {
    /// There was none a moment ago.
    out: bool,
    /// There was none at some time.
    ran_out: bool,
}

impl LaneSpace {
    /// Something did not fit.
    pub fn ran_out(&mut self) {
        (self.out, self.ran_out) = (true, true);
    }

    /// Something was removed.
    pub fn was_given(&mut self) {
        self.out = false;
    }

    /// Time has passed; other lanes may have removed something.
    pub fn may_be_back(&mut self) {
        self.out = false;
    }

    /// Whether there was no room a moment ago.
    pub fn is_out(&self) -> bool {
        self.out
    }

    /// Whether there ever was none.
    pub fn has_run_out(&self) -> bool {
        self.ran_out
    }
}

/// The name that `op` makes if there is none.
pub fn made_by(op: &Op) -> Option<&Name> {
    match op {
        Op::File { name, .. }
        | Op::Node { name, .. }
        | Op::Directory { name }
        | Op::Link { name, .. }
        | Op::Apart { name, .. }
        | Op::Open {
            name,
            mode: OpenMode::Replace,
            ..
        } => Some(name),
        _ => None,
    }
}

/// That the entry at `path` was not tried.
pub fn refused(path: &RelPath) -> Fault {
    fault::at(Side::Destination, path, "make the entry", Errno::NOSPC)
}

/// What a volume has left, in bytes and in inodes; nothing of these where it does not count them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SpaceLeft {
    /// Bytes.
    pub bytes: u64,
    /// Inodes.
    pub inodes: Option<u64>,
}

/// Adds to `fault` what is left: the kernel has one error for bytes and inodes.
pub fn tell(left: SpaceLeft, fault: &mut Fault) {
    let SpaceLeft { bytes, inodes } = left;
    let inodes = inodes.map(|inodes| format!(" and {inodes} inodes"));
    fault.message = format!(
        "{}; {bytes} bytes{} are left",
        fault.message,
        inodes.unwrap_or_default()
    );
}

/// Bytes of a directory below which the index of it is never full, whatever its blocks.
const INDEX_MIN: u64 = 1 << 20;

/// Bytes that are enough for any new name.
const AMPLE: u64 = 4 << 20;

/// Whether a new name did not fit although there is room: ext4's directories have an index that ends
/// at so many blocks. `directory` is the size of the directory in bytes.
pub fn is_index_full(filesystem: &str, left: SpaceLeft, directory: u64) -> bool {
    filesystem == "ext"
        && directory >= INDEX_MIN
        && left.bytes >= AMPLE
        && left.inodes.is_some_and(|inodes| inodes > 0)
}

/// The same fault, of a directory that takes no more names: nothing that gives room back helps.
pub fn index_full(fault: Fault) -> Fault {
    Fault {
        code: FaultCode::Unsupported,
        message: format!("{}: the directory's index is full", fault.message),
        ..fault
    }
    .advised(advice::INDEX_FULL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_full_only_where_there_is_room() {
        let left = SpaceLeft {
            bytes: 600 << 20,
            inodes: Some(100_000),
        };
        assert!(is_index_full("ext", left, 12 << 20));
        assert!(!is_index_full("ext", left, 4096));
        assert!(!is_index_full("xfs", left, 12 << 20));
        assert!(!is_index_full(
            "ext",
            SpaceLeft { bytes: 100, ..left },
            12 << 20
        ));
        let without = SpaceLeft {
            inodes: Some(0),
            ..left
        };
        assert!(!is_index_full("ext", without, 12 << 20));
        let full = index_full(refused(&RelPath::ROOT));
        assert_eq!(full.code, FaultCode::Unsupported);
        assert!(full.advice.unwrap().contains("large_dir"));
    }

    #[test]
    fn inodes_that_nobody_counts_are_not_said_to_be_gone() {
        let mut fault = refused(&RelPath::ROOT);
        let left = SpaceLeft {
            bytes: 5,
            inodes: None,
        };
        tell(left, &mut fault);
        assert!(fault.message.ends_with("; 5 bytes are left"), "{fault}");
    }
}
