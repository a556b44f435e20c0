//! The way down to a directory deep in the tree, held in part: from there its neighbours are as near
//! as in any other tree, whereas the kernel would walk from the root each time.
//!
//! What is held are a few handles. Whoever goes on to a child, a sibling or a parent opens one or two
//! directories; every few levels up it takes one walk from the root to hold the next few.

use std::{
    collections::VecDeque,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use livmig_proto::name::{Name, RelPath};
use rustix::io::Errno;

use super::dir;

/// Handles that are held at most. With as many ways as there are threads they are far fewer than a
/// process may have.
const HELD: usize = 4;

/// Names of a path up to which nothing is held: the kernel walks them faster than anybody looks.
const DEEP: usize = 32;

/// Where somebody was last, and the last few directories on the way there.
///
/// A held directory may be moved or replaced meanwhile. One that is gone is noticed, for nothing is in
/// it any more; one that was moved is not. So a way is for one look over a tree, like the handles of
/// parents that such a look holds anyway.
#[derive(Debug, Default)]
pub struct Way {
    path: RelPath,
    /// How many bytes of `path` lead to each, and it; the deepest last.
    held: VecDeque<(usize, OwnedFd)>,
}

impl Way {
    /// Nowhere yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The directory at `path` below `root`, opened anew.
    ///
    /// # Errors
    /// As of [`dir::open_path`].
    pub fn open(&mut self, root: BorrowedFd<'_>, path: &RelPath) -> Result<OwnedFd, Errno> {
        if !path.is_deeper_than(DEEP) {
            return dir::open_path(root, path);
        }
        match self.descend(root, path) {
            Ok(opened) => Ok(opened),
            Err(Errno::MFILE | Errno::NFILE) => {
                // What is held are some handles too many.
                self.held.clear();
                dir::open_path(root, path)
            }
            // What is held may have been removed since.
            Err(errno) => {
                let opened = dir::open_path(root, path);
                if opened.as_ref().err() != Some(&errno) {
                    self.held.clear();
                }
                opened
            }
        }
    }

    /// As [`Way::open`], of a path of which `make` opens or makes each directory that it is given,
    /// from the deepest that is held on.
    ///
    /// # Errors
    /// Whatever `make` answers.
    pub fn make(
        &mut self,
        root: BorrowedFd<'_>,
        path: &RelPath,
        make: impl Fn(&OwnedFd, &Name) -> Result<OwnedFd, Errno>,
    ) -> Result<OwnedFd, Errno> {
        self.turn_to(path);
        let held = !self.held.is_empty();
        match self.make_from_held(root, path, &make) {
            Err(_) if held => {
                self.held.clear();
                self.make_from_held(root, path, &make)
            }
            made => made,
        }
    }

    /// Lets go of what does not lead to `path`.
    fn turn_to(&mut self, path: &RelPath) {
        let common = self.path.common(path);
        while self.held.back().is_some_and(|(at, _)| *at > common) {
            self.held.pop_back();
        }
        self.path.clone_from(path);
    }

    fn descend(&mut self, root: BorrowedFd<'_>, path: &RelPath) -> Result<OwnedFd, Errno> {
        self.turn_to(path);
        let mut at = self.reached();
        let far = path.depth_beyond(at).saturating_sub(HELD);
        if far > 0 {
            let ancestor = path.ancestor(HELD).ok_or(Errno::NOENT)?;
            let above = ancestor.beyond(at);
            let next = dir::open_below(self.last(root), above)?;
            at = ancestor.as_bytes().len();
            self.hold(at, next);
        }
        let mut below = path.beyond(at).split(|byte| *byte == b'/');
        let mut next = below.next().unwrap_or_default();
        for after in below {
            let dir = dir::open_below(self.last(root), next)?;
            at = end_of(at, next);
            self.hold(at, dir);
            next = after;
        }
        dir::open_below(self.last(root), next)
    }

    fn make_from_held(
        &mut self,
        root: BorrowedFd<'_>,
        path: &RelPath,
        make: impl Fn(&OwnedFd, &Name) -> Result<OwnedFd, Errno>,
    ) -> Result<OwnedFd, Errno> {
        let deep = path.is_deeper_than(DEEP);
        let mut at = self.reached();
        let mut dir = match self.held.pop_back() {
            Some((_, dir)) => dir,
            None => dir::open_path(root, &RelPath::ROOT)?,
        };
        for name in path.beyond(at).split(|byte| *byte == b'/') {
            if name.is_empty() {
                break;
            }
            let name = Name::new(name).map_err(|_| Errno::INVAL)?;
            let next = make(&dir, &name)?;
            if deep && at > 0 {
                self.hold(at, dir);
            }
            at = end_of(at, name.as_bytes());
            dir = next;
        }
        Ok(dir)
    }

    /// Bytes of the path to the deepest that is held.
    fn reached(&self) -> usize {
        self.held.back().map_or(0, |(at, _)| *at)
    }

    fn last<'f>(&'f self, root: BorrowedFd<'f>) -> BorrowedFd<'f> {
        self.held.back().map_or(root, |(_, dir)| dir.as_fd())
    }

    fn hold(&mut self, at: usize, dir: OwnedFd) {
        self.held.push_back((at, dir));
        if self.held.len() > HELD {
            self.held.pop_front();
        }
    }
}

/// Bytes of a path up to the end of `name`, which comes after the first `at`.
fn end_of(at: usize, name: &[u8]) -> usize {
    at + usize::from(at > 0) + name.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::stat::Stat;

    fn name(text: &str) -> Name {
        Name::new(text.as_bytes()).unwrap()
    }

    /// A tree of a chain `depth` deep, with a `side` in each, and the path of its end.
    fn deep(depth: usize) -> (tempfile::TempDir, OwnedFd, RelPath) {
        let top = tempfile::tempdir().unwrap();
        let root = OwnedFd::from(std::fs::File::open(top.path()).unwrap());
        let mut path = RelPath::ROOT;
        let mut at = dir::open_path(&root, &path).unwrap();
        for _ in 0..depth {
            for text in ["side", "d"] {
                rustix::fs::mkdirat(&at, text, rustix::fs::Mode::RWXU).unwrap();
            }
            at = dir::open(&at, &name("d")).unwrap();
            path = path.child(&name("d")).unwrap();
        }
        (top, root, path)
    }

    fn ino(dir: Result<OwnedFd, Errno>) -> Result<u64, Errno> {
        dir.and_then(|dir| Stat::of_fd(&dir))
            .map(|stat| stat.identity.ino)
    }

    #[test]
    fn whatever_the_way_it_leads_to_the_same_directory() {
        let (_top, root, end) = deep(200);
        let mut way = Way::new();
        let mut same = |path: &RelPath| {
            let (opened, expected) = (way.open(root.as_fd(), path), dir::open_path(&root, path));
            assert_eq!(ino(opened), ino(expected), "{path}");
            assert!(way.held.len() <= HELD);
        };
        let ups = [0, 1, 2, 3, 9, 4, 4, 5, 150, 60, 0, 199, 200, 2];
        for up in (0..=200).rev().chain(0..200).chain(ups) {
            let path = end.ancestor(up).unwrap();
            same(&path);
            same(&path.child(&name("side")).unwrap());
            same(&path.child(&name("none")).unwrap());
        }
    }

    #[test]
    fn a_way_that_was_removed_is_not_gone_again() {
        let (top, root, end) = deep(60);
        let mut way = Way::new();
        way.open(root.as_fd(), &end).unwrap();
        std::fs::remove_dir_all(top.path().join("d")).unwrap();
        assert_eq!(way.open(root.as_fd(), &end).map(drop), Err(Errno::NOENT));
        let make = |parent: &OwnedFd, name: &Name| match rustix::fs::mkdirat(
            parent,
            name.as_os_str(),
            rustix::fs::Mode::RWXU,
        ) {
            Ok(()) | Err(Errno::EXIST) => dir::open(parent, name),
            Err(errno) => Err(errno),
        };
        let made = way.make(root.as_fd(), &end, make);
        assert_eq!(ino(made), ino(dir::open_path(&root, &end)));
        std::fs::remove_dir_all(top.path().join("d")).unwrap();
        let below = end.child(&name("below")).unwrap();
        let made = way.make(root.as_fd(), &below, make);
        assert_eq!(ino(made), ino(way.open(root.as_fd(), &below)));
    }
}
