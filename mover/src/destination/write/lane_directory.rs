//! The directory that a lane speaks of, and what is to be noted of it.

use std::os::fd::OwnedFd;

use livmig_proto::{frame::Op, name::RelPath, tree::Digest};

use crate::destination::touched::{Touch, Written};

/// Writes and ranges that one lane holds in memory before it notes them, those of one file aside.
const TOUCH_MAX: usize = 4096;

/// The directory that ops are about.
pub(crate) struct LaneDirectory {
    /// Where it is.
    pub(crate) path: RelPath,
    /// It.
    pub(crate) dir: OwnedFd,
    touch: Touch,
    /// How much `touch` holds.
    weight: usize,
    /// Whether anything was said of it since `touch` was last taken.
    touched: bool,
    /// Whether `touch` told all when the file was opened that is being written.
    complete_at_open: bool,
}

impl LaneDirectory {
    /// A directory of which nothing was said yet but that something will be.
    pub(crate) fn new(path: RelPath, dir: OwnedFd) -> Self {
        Self {
            path,
            dir,
            touch: untold(),
            weight: 0,
            touched: true,
            complete_at_open: false,
        }
    }

    /// An entry was written.
    pub(crate) fn wrote(&mut self, written: Written) {
        self.weight += written.weight();
        self.touch.writes.push(written);
    }

    /// The directory's own metadata was written: it should be this in the manifest.
    pub(crate) fn is_to_be(&mut self, member: Digest) {
        self.touch.member = Some(member);
    }

    /// Before `op` is tried: what was done is not all told from now on, since an op that fails has
    /// changed nobody knows what. Whether it is again once the op is done: see
    /// [`LaneDirectory::is_all_told`].
    pub(crate) fn begin(&mut self, op: &Op) -> bool {
        self.touched = true;
        let complete = std::mem::replace(&mut self.touch.complete, false);
        match op {
            Op::Remove { .. }
            | Op::Directory { .. }
            | Op::File { .. }
            | Op::Node { .. }
            | Op::Meta { .. }
            | Op::DirectoryMeta { .. } => complete,
            Op::Open { .. } => {
                self.complete_at_open = complete;
                false
            }
            Op::Close { .. } => self.complete_at_open,
            // Of the content of a file the close tells; a link changes its target too.
            Op::Data { .. }
            | Op::Zero { .. }
            | Op::Hole { .. }
            | Op::Copy { .. }
            | Op::Link { .. }
            | Op::Apart { .. }
            | Op::Enter { .. } => false,
        }
    }

    /// An op was done, and what was done is all told now.
    pub(crate) fn is_all_told(&mut self) {
        self.touch.complete = true;
    }

    /// Whether so much was written that it should be noted.
    pub(crate) fn is_much(&self) -> bool {
        self.weight > TOUCH_MAX
    }

    /// What was done since this was last asked; nothing when nothing was said.
    pub(crate) fn take(&mut self) -> Option<Touch> {
        if !std::mem::take(&mut self.touched) {
            return None;
        }
        self.weight = 0;
        let mut touch = std::mem::replace(&mut self.touch, untold());
        // Whoever speaks of a directory and says nothing of it wants all of it looked at.
        touch.complete &= !touch.writes.is_empty() || touch.member.is_some();
        Some(touch)
    }
}

/// What is told before anything was done.
fn untold() -> Touch {
    Touch {
        complete: true,
        ..Touch::default()
    }
}

#[cfg(test)]
mod tests {
    use livmig_proto::{
        entry::Meta,
        frame::{OpenMode, Reserve},
        ids::MigrationUid,
        lately::Relative,
        name::Name,
        tree::{leaf, root_of},
    };

    use super::*;
    use crate::{
        destination::{state::Destination, touched::key_of, write::apply::Applier},
        fs::volume::Volume,
    };

    const CONTENT: &[u8] = b"content";

    fn name(text: &str) -> Name {
        Name::new(text.as_bytes()).unwrap()
    }

    fn path(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).unwrap()
    }

    fn meta() -> Meta {
        Meta {
            mode: 0o644,
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            ..Meta::default()
        }
    }

    fn enter(text: &str) -> Op {
        Op::Enter {
            path: Relative::whole(&path(text)),
        }
    }

    fn file(text: &str) -> Op {
        Op::File {
            name: name(text),
            replace: false,
            meta: meta(),
            root: root_of(CONTENT),
            content: CONTENT.into(),
        }
    }

    fn open(text: &str) -> Op {
        Op::Open {
            name: name(text),
            mode: OpenMode::Replace,
            names: 1,
            sparse: false,
            base: Digest([0; 32]),
        }
    }

    fn data() -> Op {
        Op::Data {
            offset: 0,
            digest: leaf(CONTENT),
            content: CONTENT.into(),
        }
    }

    fn close() -> Op {
        Op::Close {
            size: 7,
            root: root_of(CONTENT),
            reserved: Reserve::NONE,
            meta: meta(),
        }
    }

    fn remove(text: &str) -> Op {
        Op::Remove { name: name(text) }
    }

    fn link(text: &str, directory: &str, target: &str) -> Op {
        Op::Link {
            name: name(text),
            directory: Relative::whole(&path(directory)),
            target: name(target),
        }
    }

    /// Whether the notes of each of the directories `a` and `b` tell all that was done there; none
    /// where there are no notes.
    fn complete_after(ops: Vec<Op>) -> [Option<bool>; 2] {
        let (root, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let volume = Volume::open(root.path()).unwrap();
        let destination = Destination::new(volume, state.path(), MigrationUid([1; 16])).unwrap();
        std::fs::create_dir(root.path().join("a")).unwrap();
        std::fs::write(root.path().join("a/old"), CONTENT).unwrap();
        let mut applier = Applier::new(&destination);
        for op in ops {
            // Some are to fail.
            let _ = applier.apply(op);
        }
        assert!(applier.note().is_ok());
        ["a", "b"].map(|text| {
            let notes = destination.touched.get(key_of(&path(text))).unwrap();
            notes.map(|(_, touch)| touch.complete)
        })
    }

    #[test]
    fn notes_tell_all_that_was_done_only_after_whole_ops_that_succeeded() {
        let within_a = |ops: Vec<Op>| {
            let all = std::iter::once(enter("a")).chain(ops).collect();
            complete_after(all)[0]
        };
        assert_eq!(within_a(vec![file("f")]), Some(true));
        assert_eq!(within_a(vec![file("f"), remove("old")]), Some(true));
        assert_eq!(within_a(vec![open("f"), data(), close()]), Some(true));
        assert_eq!(within_a(vec![]), Some(false), "why was it entered?");
        assert_eq!(within_a(vec![file("f"), open("g"), data()]), Some(false));
        let failed = vec![file("f"), data(), file("g")];
        assert_eq!(within_a(failed), Some(false));
        let one_of_two = vec![open("f"), data(), open("g"), data(), close()];
        assert_eq!(within_a(one_of_two), Some(false));
    }

    #[test]
    fn a_link_leaves_both_directories_in_doubt() {
        let linked = vec![enter("b"), file("f"), link("l", "a", "old")];
        assert_eq!(complete_after(linked), [Some(false), Some(false)]);
        let written = vec![enter("a"), file("f"), enter("b"), file("g")];
        assert_eq!(complete_after(written), [Some(true), Some(true)]);
    }
}
