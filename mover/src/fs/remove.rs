//! Removal of an entry and everything below it, by handles: a link is unlinked, never followed, and
//! what is mounted there is left alone.
//!
//! However deep a tree is, few of its directories are held open. One further up is found again as the
//! parent of the one below it that was emptied, and must be the one that was left. What resists is
//! named, and what lies beside it goes all the same.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use livmig_proto::{control::Side, name::Name};
use rustix::{
    fs::{AtFlags, Mode, OFlags, ResolveFlags},
    io::Errno,
};

use super::{
    dir, file,
    metadata::{rights, xattr},
    mounts::other_end,
    stat::{Inode, Kind, Stat},
};

/// Directories of one tree that are held open at once.
const HELD: usize = 4;

/// Entries of one tree that are named when they resist.
const NAMED: usize = 32;

/// An entry that could not be removed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Resisting {
    /// Its path below what was to be removed; empty for that itself.
    pub below: Vec<u8>,
    /// Why.
    pub errno: Errno,
}

/// What could not be removed: at least one entry, and only the first of very many.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Resistance {
    /// The first.
    pub first: Resisting,
    /// Others.
    pub others: Vec<Resisting>,
}

/// Removes `name` from `parent`, whatever it is; nothing there is fine. How many entries went.
///
/// # Errors
/// Everything that can go has gone then.
pub fn remove(parent: impl AsFd, name: &Name) -> Result<u64, Resistance> {
    let parent = parent.as_fd();
    match unlink(parent, name) {
        Ok(Unlinked::Gone(removed)) => Ok(removed),
        Ok(Unlinked::Directory) => Tree::new(parent).remove(name),
        Err(errno) => Err(Resistance {
            first: Resisting {
                below: Vec::new(),
                errno,
            },
            others: Vec::new(),
        }),
    }
}

enum Unlinked {
    /// So many entries.
    Gone(u64),
    /// Nothing was done.
    Directory,
}

fn unlink(parent: BorrowedFd<'_>, name: &Name) -> Result<Unlinked, Errno> {
    match rustix::fs::unlinkat(parent, name.as_os_str(), AtFlags::empty()) {
        Ok(()) => Ok(Unlinked::Gone(1)),
        Err(Errno::NOENT) => Ok(Unlinked::Gone(0)),
        Err(Errno::ISDIR) => Ok(Unlinked::Directory),
        // So says POSIX of a directory, and Linux of what may not be removed.
        Err(Errno::PERM) => match Stat::of_entry(parent, name) {
            Ok(stat) if stat.kind == Kind::Directory => Ok(Unlinked::Directory),
            _ => Err(Errno::PERM),
        },
        Err(errno) => Err(errno),
    }
}

/// A directory that is being emptied.
struct Level {
    name: Name,
    /// Its device and inode.
    is: Inode,
    /// It, unless it is too far up to be held.
    dir: Option<OwnedFd>,
    /// What is left to be removed in it.
    rest: Vec<Name>,
    /// Something in it resists.
    stays: bool,
}

/// A tree that is being removed, without recursion: depth costs neither stack nor handles.
struct Tree<'p> {
    parent: BorrowedFd<'p>,
    levels: Vec<Level>,
    removed: u64,
    resisting: Vec<Resisting>,
}

impl<'p> Tree<'p> {
    fn new(parent: BorrowedFd<'p>) -> Self {
        Self {
            parent,
            levels: Vec::new(),
            removed: 0,
            resisting: Vec::new(),
        }
    }

    fn remove(mut self, name: &Name) -> Result<u64, Resistance> {
        self.enter(name);
        while let Some(level) = self.levels.last_mut() {
            let Some(child) = level.rest.pop() else {
                self.leave();
                continue;
            };
            match unlink(self.at(), &child) {
                Ok(Unlinked::Gone(removed)) => self.removed += removed,
                Ok(Unlinked::Directory) => self.enter(&child),
                Err(errno) => self.resist(Some(&child), errno),
            }
        }
        let mut resisting = self.resisting.into_iter();
        match resisting.next() {
            None => Ok(self.removed),
            Some(first) => Err(Resistance {
                first,
                others: resisting.collect(),
            }),
        }
    }

    /// The directory that is being emptied, or that of the tree.
    fn at(&self) -> BorrowedFd<'_> {
        let deepest = self.levels.last().and_then(|level| level.dir.as_ref());
        deepest.map_or(self.parent, AsFd::as_fd)
    }

    /// Goes on in the directory `name`.
    fn enter(&mut self, name: &Name) {
        match open(self.at(), name) {
            Ok(level) => {
                self.levels.push(level);
                let far = self.levels.len().checked_sub(HELD + 1);
                if let Some(above) = far.and_then(|far| self.levels.get_mut(far)) {
                    above.dir = None;
                }
            }
            // The source itself, which lies here by another name.
            Err(Errno::DEADLK) => self.resist(Some(name), Errno::DEADLK),
            // It may be empty.
            Err(errno) => {
                match rustix::fs::unlinkat(self.at(), name.as_os_str(), AtFlags::REMOVEDIR) {
                    Ok(()) => self.removed += 1,
                    Err(_) => self.resist(Some(name), errno),
                }
            }
        }
    }

    /// Removes the directory that was emptied, and goes on in the one above.
    fn leave(&mut self) {
        let Some(done) = self.levels.pop() else {
            return;
        };
        if let Err(errno) = self.hold_again(&done) {
            // Nobody knows where it is now: what is above it stays.
            self.resist(Some(&done.name), errno);
            self.levels.clear();
            return;
        }
        if done.stays {
            if let Some(above) = self.levels.last_mut() {
                above.stays = true;
            }
            return;
        }
        match rustix::fs::unlinkat(self.at(), done.name.as_os_str(), AtFlags::REMOVEDIR) {
            Ok(()) => self.removed += 1,
            Err(Errno::NOENT) => {}
            Err(errno) => self.resist(Some(&done.name), errno),
        }
    }

    /// Opens the directory above `below`, which is now the deepest, if it was let go.
    fn hold_again(&mut self, below: &Level) -> Result<(), Errno> {
        let Some(above) = self.levels.last_mut() else {
            return Ok(());
        };
        if above.dir.is_some() {
            return Ok(());
        }
        let below = below.dir.as_ref().ok_or(Errno::STALE)?;
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let dir = rustix::fs::openat2(below, c"..", flags, Mode::empty(), resolve)?;
        if Stat::of_fd(&dir)?.inode() != above.is {
            return Err(Errno::STALE);
        }
        above.dir = Some(dir);
        Ok(())
    }

    /// Notes that `name` in the deepest directory cannot be removed.
    fn resist(&mut self, name: Option<&Name>, errno: Errno) {
        if self.resisting.len() < NAMED {
            let names = self.levels.iter().map(|level| &level.name).chain(name);
            // The first is what was to be removed itself.
            let below: Vec<&[u8]> = names.skip(1).map(Name::as_bytes).collect();
            self.resisting.push(Resisting {
                below: below.join(&b'/'),
                errno,
            });
        }
        if let Some(level) = self.levels.last_mut() {
            level.stays = true;
        }
    }
}

fn open(parent: BorrowedFd<'_>, name: &Name) -> Result<Level, Errno> {
    let dir = open_writable(parent, name)?;
    let stat = Stat::of_fd(&dir)?;
    if other_end::is_root_of(Side::Source, &stat) {
        return Err(Errno::DEADLK);
    }
    Ok(Level {
        name: name.clone(),
        is: stat.inode(),
        rest: dir::list(&dir)?,
        dir: Some(dir),
        stays: false,
    })
}

/// Opens a directory whose content must change; its owner may have to allow that first.
fn open_writable(parent: BorrowedFd<'_>, name: &Name) -> Result<OwnedFd, Errno> {
    match dir::open(parent, name) {
        Ok(dir) => {
            if !rights::overrides_permissions() {
                // Somebody else's may be writable all the same.
                let _ = rustix::fs::fchmod(&dir, Mode::RWXU);
            }
            Ok(dir)
        }
        Err(Errno::ACCESS) => {
            let handle = file::open_handle(parent, name)?;
            rustix::fs::chmod(xattr::proc_link(&handle), Mode::RWXU)?;
            dir::open(parent, name)
        }
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_deep_and_wide_tree_goes_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("kept"), "kept").unwrap();
        let mut path = root.path().join("tree");
        fs::create_dir(&path).unwrap();
        let mut made = 1;
        for depth in 0..60 {
            for beside in ["a", "z"] {
                fs::create_dir(path.join(beside)).unwrap();
                std::os::unix::fs::symlink(root.path(), path.join(beside).join("l")).unwrap();
            }
            path = path.join("m");
            fs::create_dir(&path).unwrap();
            fs::write(path.join(format!("file{depth}")), "").unwrap();
            made += 6;
        }
        let dir = File::open(root.path()).unwrap();
        assert_eq!(remove(&dir, &name("tree")).unwrap(), made);
        assert_eq!(remove(&dir, &name("tree")).unwrap(), 0);
        assert!(root.path().join("kept").exists());
        assert_eq!(remove(&dir, &name("kept")).unwrap(), 1);
    }

    #[test]
    fn few_directories_are_held_however_deep_a_tree_is() {
        let root = tempfile::tempdir().unwrap();
        let dir = File::open(root.path()).unwrap();
        let mut at = OwnedFd::from(dir.try_clone().unwrap());
        for _ in 0..2000 {
            rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
            at = dir::open(&at, &name("d")).unwrap();
        }
        drop(at);
        let mut tree = Tree::new(dir.as_fd());
        tree.enter(&name("d"));
        while let Some(child) = tree.levels.last_mut().and_then(|level| level.rest.pop()) {
            tree.enter(&child);
            let held = tree.levels.iter().filter(|level| level.dir.is_some());
            assert!(held.count() <= HELD);
        }
        assert_eq!(tree.levels.len(), 2000);
        assert_eq!(remove(&dir, &name("d")).unwrap(), 2000);
    }

    #[test]
    fn a_directory_that_was_moved_meanwhile_is_not_taken_for_another() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("tree/1/2/3/4/5/6");
        fs::create_dir_all(&deep).unwrap();
        fs::create_dir_all(root.path().join("other/precious")).unwrap();
        let dir = File::open(root.path()).unwrap();
        let mut tree = Tree::new(dir.as_fd());
        tree.enter(&name("tree"));
        while let Some(child) = tree.levels.last_mut().and_then(|level| level.rest.pop()) {
            tree.enter(&child);
        }
        // What is held is moved to where `..` leads elsewhere.
        let moved = root.path().join("tree/1/2/3");
        fs::rename(moved, root.path().join("other/3")).unwrap();
        for _ in 0..7 {
            tree.leave();
        }
        assert!(tree.levels.is_empty());
        assert_eq!(tree.resisting.len(), 1);
        assert!(root.path().join("other/precious").exists());
        assert!(root.path().join("tree/1/2").exists());
    }
}
