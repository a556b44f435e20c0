//! Applies the ops of one lane, in order.

mod apart;
mod link;
mod short;

use std::{os::fd::OwnedFd, sync::atomic::Ordering};

use livmig_proto::{
    control::{Fault, FaultCode, Side},
    entry::{Meta, Node, entry_digest},
    frame::{Op, OpenMode},
    lately::Lately,
    name::{Name, RelPath},
    tree::Digest,
};
use rustix::io::Errno;

use super::{
    create,
    file::{self, Writing},
    lane_directory::LaneDirectory,
    metadata,
    unshare::{self, Unshared},
};
use crate::destination::{
    space::{self, LaneSpace},
    state::Destination,
    touched::{Written, WrittenContent, key_of},
};
use crate::{
    fault,
    fs::{
        metadata::rights,
        mounts::other_end,
        remove,
        space::reserved::Zeros,
        stat::{Kind, Stat},
        way::Way,
    },
};

/// The applying end of one lane.
pub struct Applier<'a> {
    destination: &'a Destination,
    /// What the lane spoke of lately.
    lately: Lately,
    /// How it got to where it is, and to where it found the target of a link last.
    ways: (Way, Way),
    /// The directory that ops are about.
    current: Option<LaneDirectory>,
    /// The file that content is for.
    writing: Option<Writing>,
    /// What is passed over because the op that it rests on has failed, and that was said.
    skip: Skip,
    /// What is known about room.
    room: LaneSpace,
    /// What else the op that is being applied has met.
    also: Vec<Fault>,
}

/// What is passed over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Skip {
    Nothing,
    /// The content of a file, up to its close.
    File,
    /// Everything in a directory.
    Directory,
}

/// What was tried.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Tried {
    /// To make something of a name that may be new in its directory.
    New,
    Other,
}

/// An op that failed.
#[derive(Debug)]
pub struct Failure {
    /// How.
    pub fault: Fault,
    /// What else failed, of an op about several entries.
    pub also: Box<[Fault]>,
    /// The directory that it was about.
    pub directory: RelPath,
}

impl<'a> Applier<'a> {
    /// A lane that has said nothing yet.
    pub fn new(destination: &'a Destination) -> Self {
        Self {
            destination,
            lately: Lately::new(),
            ways: (Way::new(), Way::new()),
            current: None,
            writing: None,
            skip: Skip::Nothing,
            room: LaneSpace::default(),
            also: Vec::new(),
        }
    }

    /// Applies one op.
    pub fn apply(&mut self, op: Op) -> Result<(), Failure> {
        // Also of what is passed over: what comes later refers to it.
        let spoken_of = match &op {
            Op::Enter { path }
            | Op::Link {
                directory: path, ..
            } => Some(self.lately.resolve(path).map_err(|_| Failure {
                fault: out_of_order(),
                also: Box::default(),
                directory: self.directory(),
            })?),
            _ => None,
        };
        let is_content = matches!(
            op,
            Op::Data { .. }
                | Op::Zero { .. }
                | Op::Hole { .. }
                | Op::Copy { .. }
                | Op::Close { .. }
        );
        let is_close = matches!(op, Op::Close { .. });
        match (&op, self.skip) {
            (Op::Enter { .. }, _) => self.skip = Skip::Nothing,
            (_, Skip::Directory) => return Ok(()),
            (_, Skip::File) if is_content => {
                self.give_back(&op);
                if is_close {
                    self.skip = Skip::Nothing;
                }
                return Ok(());
            }
            (Op::Open { .. }, Skip::File) => self.skip = Skip::Nothing,
            _ => {}
        }
        let (is_enter, is_open) = (
            matches!(op, Op::Enter { .. }),
            matches!(op, Op::Open { .. }),
        );
        let gives_room = matches!(op, Op::Remove { .. });
        let entered = spoken_of.clone().filter(|_| is_enter);
        let mut makes = Tried::Other;
        let result = match op {
            Op::Enter { .. } => self.enter(spoken_of.unwrap_or_default()),
            op => self.refuse_new(&op).and_then(|()| {
                if space::made_by(&op).is_some() {
                    makes = Tried::New;
                }
                self.in_directory(op, spoken_of)
            }),
        };
        if result.is_err() && is_enter {
            self.skip = Skip::Directory;
        } else if result.is_err() && (is_open || is_content) && !is_close {
            self.skip = Skip::File;
        }
        let result = result.and_then(|()| self.note_much());
        if gives_room && result.is_ok() {
            self.room.was_given();
        }
        result.map_err(|fault| {
            let fault = if fault.code == FaultCode::NoSpace && fault.path.is_some() {
                self.without_room(fault, makes)
            } else {
                fault
            };
            Failure {
                fault,
                also: std::mem::take(&mut self.also).into(),
                directory: entered.unwrap_or_else(|| self.directory()),
            }
        })
    }

    /// Where it is.
    fn directory(&self) -> RelPath {
        let current = self.current.as_ref();
        current.map_or(RelPath::ROOT, |current| current.path.clone())
    }

    /// Notes what was touched before there is too much of it: a frame may hold many small ops.
    fn note_much(&mut self) -> Result<(), Fault> {
        if self.current.as_ref().is_some_and(LaneDirectory::is_much) {
            return self.note().map_err(|failure| failure.fault);
        }
        Ok(())
    }

    /// Notes what was touched so far. Before a frame is acknowledged.
    pub fn note(&mut self) -> Result<(), Failure> {
        self.room.may_be_back();
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        let Some(touch) = current.take() else {
            return Ok(());
        };
        self.destination
            .touched
            .push(&current.path, &touch)
            .map_err(|errno| Failure {
                fault: Destination::state_fault(errno),
                also: Box::default(),
                directory: current.path.clone(),
            })
    }

    /// Speaks of its directory no more, as far as it knows.
    pub fn leave(&mut self) {
        if let Some(current) = self.current.take() {
            self.destination.early.left(key_of(&current.path));
        }
    }

    fn enter(&mut self, path: RelPath) -> Result<(), Fault> {
        self.note().map_err(|failure| failure.fault)?;
        self.leave();
        self.writing = None;
        let dir = self.ensure(&path)?;
        if Stat::of_fd(&dir).is_ok_and(|stat| other_end::is_root_of(Side::Source, &stat)) {
            let what = "write into the directory, which is the source itself";
            return Err(fault::at(Side::Destination, &path, what, Errno::DEADLK));
        }
        if !rights::overrides_permissions() {
            create::allow_owner(&dir, &path)?;
        }
        self.current = Some(LaneDirectory::new(path, dir));
        Ok(())
    }

    /// The directory at `path`, made where it is missing.
    fn ensure(&mut self, path: &RelPath) -> Result<OwnedFd, Fault> {
        let way = &mut self.ways.0;
        let root = self.destination.volume.root();
        let failed = |what: &str, errno| fault::at(Side::Destination, path, what, errno);
        match way.open(root, path) {
            Ok(dir) => return Ok(dir),
            Err(Errno::NOENT) if self.room.is_out() => return Err(space::refused(path)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS) => {}
            Err(errno) => return Err(failed("open the directory", errno)),
        }
        way.make(root, path, create::directory)
            .map_err(|errno| failed("make the directory", errno))
    }

    /// `spoken_of` is the directory of the target of a link.
    fn in_directory(&mut self, op: Op, spoken_of: Option<RelPath>) -> Result<(), Fault> {
        let Some(current) = &mut self.current else {
            return Err(out_of_order());
        };
        let complete = current.begin(&op);
        let replaced = replaced_by(&op).cloned();
        let changed = self.change(op, spoken_of);
        let Some(current) = &mut self.current else {
            return changed;
        };
        if changed.is_ok() && complete {
            current.is_all_told();
        }
        // A directory may have made way for what could not be made then.
        if let Some(name) = replaced
            && (changed.is_ok() || !is_directory(&current.dir, &name))
        {
            let path = current.path.child(&name).unwrap_or_default();
            self.destination.forget(&path)?;
        }
        changed
    }

    fn change(&mut self, op: Op, spoken_of: Option<RelPath>) -> Result<(), Fault> {
        let Some(current) = &mut self.current else {
            return Err(out_of_order());
        };
        let view = self.destination.view();
        let at = |name: &Name| current.path.child(name).unwrap_or_default();
        let failed =
            |path: &RelPath, what: &str, errno| fault::at(Side::Destination, path, what, errno);
        match op {
            Op::Enter { .. } => Err(out_of_order()),
            Op::Remove { name } => self.remove(&name),
            Op::Directory { name } => {
                let path = at(&name);
                let way = if current.path.is_root() {
                    let Destination { apart, volume, .. } = self.destination;
                    apart.make_way(volume, &current.dir, &name)
                } else {
                    Ok(())
                };
                way.and_then(|()| create::directory(&current.dir, &name).map(drop))
                    .map_err(|errno| failed(&path, "make the directory", errno))
            }
            Op::File {
                name,
                replace,
                meta,
                root,
                content,
            } => {
                let path = at(&name);
                let mode = if replace {
                    OpenMode::Replace
                } else {
                    OpenMode::InPlace
                };
                file::write_whole(&current.dir, &name, &path, mode, (&content, &meta), view)?;
                let size = u64::try_from(content.len()).unwrap_or(0);
                self.destination.written.fetch_add(size, Ordering::Relaxed);
                let digest = entry_digest(&meta, &Node::File { size, root });
                current.wrote(Written {
                    name,
                    digest,
                    content: WrittenContent::Whole { size, root },
                });
                Ok(())
            }
            Op::Node { name, meta, node } => {
                let path = at(&name);
                create::node(&current.dir, &name, &path, (&meta, &node), view)?;
                let digest = entry_digest(&meta, &node);
                current.wrote(Written {
                    name,
                    digest,
                    content: WrittenContent::None,
                });
                Ok(())
            }
            Op::Apart { name, meta, kind } => self.set_apart(&name, &meta, kind),
            Op::Meta { name, meta, names } => {
                let path = at(&name);
                let content = match unshare::ensure(&current.dir, &name, &path, names)? {
                    Unshared::Not => WrittenContent::None,
                    Unshared::Anew => WrittenContent::Copied,
                };
                metadata::to_entry(&current.dir, &name, &path, &meta, view)?;
                current.wrote(Written::meta(name, content));
                Ok(())
            }
            Op::Open {
                name,
                mode,
                names,
                sparse,
                base,
            } => {
                let path = at(&name);
                self.writing = None;
                let how = (mode, names);
                self.writing = Some(Writing::open(
                    &current.dir,
                    &name,
                    &path,
                    how,
                    if sparse { Zeros::Hole } else { Zeros::Reserved },
                    base,
                )?);
                Ok(())
            }
            Op::Link { name, target, .. } => {
                let path = at(&name);
                self.link(&name, &path, &spoken_of.unwrap_or_default(), &target)
            }
            Op::DirectoryMeta { meta, member } => self.directory_meta(&meta, member),
            Op::Data { .. }
            | Op::Zero { .. }
            | Op::Hole { .. }
            | Op::Copy { .. }
            | Op::Close { .. } => self.in_file(op),
        }
    }

    fn remove(&mut self, name: &Name) -> Result<(), Fault> {
        let Some(current) = &self.current else {
            return Err(out_of_order());
        };
        let Err(resistance) = remove::remove(&current.dir, name) else {
            return Ok(());
        };
        let path = current.path.child(name).unwrap_or_default();
        let fault = |resisting| fault::resisting(&path, "remove the entry", resisting);
        self.also = resistance.others.iter().map(fault).collect();
        Err(fault(&resistance.first))
    }

    /// The metadata of the directory itself, and what it should be then: zero where something in it
    /// failed, for nothing is claimed then.
    fn directory_meta(&mut self, meta: &Meta, member: Digest) -> Result<(), Fault> {
        let view = self.destination.view();
        let Some(current) = &mut self.current else {
            return Err(out_of_order());
        };
        if current.path.is_root() && self.destination.volume.has_foreign_root() {
            metadata::to_foreign(&current.dir, &current.path, meta, view)?;
        } else {
            metadata::to_fd(&current.dir, &current.path, meta, view)?;
        }
        if member != Digest([0; 32]) {
            current.is_to_be(member);
        }
        Ok(())
    }

    fn in_file(&mut self, op: Op) -> Result<(), Fault> {
        let Some(writing) = &mut self.writing else {
            return Err(out_of_order());
        };
        let result = match op {
            Op::Data {
                offset,
                digest,
                content,
            } => {
                let size = u64::try_from(content.len()).unwrap_or(0);
                self.destination.written.fetch_add(size, Ordering::Relaxed);
                writing.data(offset, &content, digest)
            }
            Op::Zero { offset, len } => writing.zero(offset, len, Zeros::Reserved),
            Op::Hole { offset, len } => writing.zero(offset, len, Zeros::Hole),
            Op::Copy { from, offset, len } => {
                self.destination.written.fetch_add(len, Ordering::Relaxed);
                writing.copy(from, offset, len)
            }
            Op::Close {
                size,
                root,
                reserved,
                meta,
            } => {
                let Some(writing) = self.writing.take() else {
                    return Err(out_of_order());
                };
                let written =
                    writing.close((size, root), reserved, &meta, self.destination.view())?;
                if let Some(current) = &mut self.current {
                    current.wrote(written);
                }
                return Ok(());
            }
            _ => Err(out_of_order()),
        };
        // One failure is enough for one file: what follows for it would fail too.
        if let Err(fault) = &result {
            if fault.code == FaultCode::NoSpace {
                writing.abandon();
            } else {
                self.writing = None;
            }
        }
        result
    }
}

/// The entry that `op` puts something else in the place of.
fn replaced_by(op: &Op) -> Option<&Name> {
    match op {
        Op::Remove { name }
        | Op::File { name, .. }
        | Op::Node { name, .. }
        | Op::Open { name, .. }
        | Op::Link { name, .. } => Some(name),
        _ => None,
    }
}

fn is_directory(dir: &OwnedFd, name: &Name) -> bool {
    Stat::of_entry(dir, name).is_ok_and(|stat| stat.kind == Kind::Directory)
}

fn out_of_order() -> Fault {
    fault::plain(
        Side::Destination,
        FaultCode::Protocol,
        "destination: was told something that makes no sense here",
    )
}
