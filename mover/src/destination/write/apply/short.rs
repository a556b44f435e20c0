//! What a lane does when the volume has no room for something.

use livmig_proto::{control::Fault, frame::Op};
use rustix::io::Errno;

use super::{Applier, Tried};
use crate::{
    advice,
    destination::space::{self, SpaceLeft},
    fs::stat::Stat,
};

impl Applier<'_> {
    /// What `fault`, that something did not fit, is told as; `made` is tried and new.
    pub(super) fn without_room(&mut self, mut fault: Fault, made: Tried) -> Fault {
        let volume = &self.destination.volume;
        let left = volume.available().ok();
        let left = left.map(|(bytes, inodes)| SpaceLeft { bytes, inodes });
        let directory = self.current.as_ref();
        let size = directory.and_then(|current| Stat::of_fd(&current.dir).ok());
        if let (Some(left), Some(size), Tried::New) = (left, size, made)
            && space::is_index_full(&volume.filesystem(), left, size.identity.size)
        {
            return space::index_full(fault);
        }
        self.room.ran_out();
        if let Some(left) = left.filter(|_| fault.advice.as_deref() != Some(advice::QUOTA)) {
            space::tell(left, &mut fault);
        }
        fault
    }

    /// Right after room has run out, what would be made anew is not tried: each attempt would
    /// have the file system look for room in vain, which takes it long.
    pub(super) fn refuse_new(&self, op: &Op) -> Result<(), Fault> {
        let (Some(current), true) = (&self.current, self.room.is_out()) else {
            return Ok(());
        };
        match space::made_by(op) {
            Some(name) if Stat::of_entry(&current.dir, name).err() == Some(Errno::NOENT) => {
                let path = current.path.child(name).unwrap_or_default();
                Err(space::refused(&path))
            }
            _ => Ok(()),
        }
    }

    /// A file that could not be written still gives back what it will not need. Best effort: what
    /// it holds now is unknown and will be asked for.
    pub(super) fn give_back(&mut self, op: &Op) {
        match (op, &mut self.writing) {
            (Op::Hole { offset, len }, Some(writing)) => writing.give_back(*offset, *len),
            (Op::Close { size, .. }, Some(writing)) => {
                writing.cut(*size);
                self.writing = None;
            }
            _ => {}
        }
    }
}
