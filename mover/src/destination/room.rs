//! A volume without room: what one lane knows of that, and how it is told.

use livmig_proto::{
    control::{Fault, FaultCode, Side},
    frame::{Op, OpenMode},
    name::{Name, RelPath},
};

use crate::{fault, fs::volume::Volume};

/// What one lane knows about room on the volume.
#[derive(Debug, Default)]
pub struct Room {
    /// There was none a moment ago.
    out: bool,
    /// There was none at some time.
    ran_out: bool,
}

impl Room {
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
    fault::named(
        Side::Destination,
        FaultCode::NoSpace,
        path,
        "destination: could not make the entry (no space left on device)",
    )
}

/// Adds to `fault` what ran out: the kernel has one error for bytes and inodes.
pub fn tell(volume: &Volume, fault: &mut Fault) {
    if let Ok((bytes, inodes)) = volume.available() {
        fault.message = format!(
            "{}; {bytes} bytes and {inodes} inodes are left",
            fault.message
        );
    }
}
