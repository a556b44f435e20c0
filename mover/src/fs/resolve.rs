//! A path that a person named, resolved once and by handles: what was checked is what is used.
//!
//! A symbolic link is followed if it is root's or our own. One that somebody else made may lead
//! anywhere, also where only we may write, and is refused by name.

use std::{
    ffi::{OsStr, OsString},
    os::{fd::OwnedFd, unix::ffi::OsStringExt as _},
    path::{Component, Path, PathBuf},
};

use livmig_proto::name::escape;
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

use super::stat::{Kind, Stat};

/// Links that are followed on the way, as many as the kernel follows.
const LINKS_MAX: usize = 40;

/// The magic of /proc, where links are the kernel's own and lead where no path does.
const PROC: u64 = 0x9fa0;

const HELD: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);
const DIRECTORY: OFlags = HELD.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW);

/// Why a path leads nowhere.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unresolved {
    /// A link on the way that somebody else has made.
    #[error(
        "the symbolic link {} belongs to user {owner}, not to root or to you, and is not followed; \
         it leads to {leads_to}: name that directory, if it is what you mean",
        link.display()
    )]
    Planted {
        /// Which.
        link: PathBuf,
        /// Whose.
        owner: u32,
        /// What it holds, for people.
        leads_to: String,
    },
    /// What the kernel said.
    #[error("{0}")]
    Errno(#[from] Errno),
}

/// A directory, or the deepest one that is there on the way to it.
#[derive(Debug)]
pub struct Resolved {
    handle: OwnedFd,
    /// What is missing below it.
    missing: Vec<OsString>,
}

impl Resolved {
    /// What `path` leads to now.
    pub fn new(path: &Path) -> Result<Self, Unresolved> {
        let mut walk = PathWalk::new(path)?;
        while let Some(part) = walk.ahead.pop() {
            match walk.step(&part.name) {
                Ok(()) => {}
                Err(Unresolved::Errno(Errno::NOENT)) => return walk.ends_at(part),
                Err(error) => return Err(error),
            }
        }
        Ok(Self {
            handle: walk.at,
            missing: Vec::new(),
        })
    }

    /// The directory, or the deepest one that is there.
    pub fn handle(&self) -> &OwnedFd {
        &self.handle
    }

    /// What is missing below that.
    pub fn missing(&self) -> PathBuf {
        self.missing.iter().collect()
    }

    /// Makes what is missing. One that somebody else makes meanwhile is taken, a link is not.
    pub fn make(self) -> Result<OwnedFd, Errno> {
        let mut at = self.handle;
        for name in &self.missing {
            match rustix::fs::mkdirat(&at, name, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
            at = rustix::fs::openat(&at, name, DIRECTORY, Mode::empty())?;
        }
        Ok(at)
    }
}

struct PathWalk {
    at: OwnedFd,
    /// The way to `at`, for people.
    way: PathBuf,
    /// What is still to be resolved, the last first.
    ahead: Vec<PathPart>,
    links: usize,
}

struct PathPart {
    name: OsString,
    from: From,
}

/// Who named a part of the way.
#[derive(Clone, Copy, Eq, PartialEq)]
enum From {
    Person,
    Link,
}

impl PathWalk {
    fn new(path: &Path) -> Result<Self, Errno> {
        if path.as_os_str().is_empty() {
            return Err(Errno::NOENT);
        }
        let start = Path::new(if path.is_absolute() { "/" } else { "." });
        let mut this = Self {
            at: rustix::fs::open(start, HELD | OFlags::DIRECTORY, Mode::empty())?,
            way: if path.is_absolute() {
                PathBuf::from("/")
            } else {
                PathBuf::new()
            },
            ahead: Vec::new(),
            links: 0,
        };
        this.put_ahead(path, From::Person);
        Ok(this)
    }

    fn put_ahead(&mut self, path: &Path, from: From) {
        let names = path.components().rev().filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
        });
        self.ahead.extend(names.map(|name| PathPart { name, from }));
    }

    fn step(&mut self, part: &OsStr) -> Result<(), Unresolved> {
        match rustix::fs::openat(&self.at, part, DIRECTORY, Mode::empty()) {
            Ok(next) => {
                self.at = next;
                self.way.push(part);
                Ok(())
            }
            Err(Errno::NOTDIR | Errno::LOOP) => self.follow(part),
            Err(errno) => Err(errno.into()),
        }
    }

    /// What is no directory may be a link to one.
    fn follow(&mut self, part: &OsStr) -> Result<(), Unresolved> {
        let link = rustix::fs::openat(&self.at, part, HELD | OFlags::NOFOLLOW, Mode::empty())?;
        let stat = Stat::of_fd(&link)?;
        if stat.kind != Kind::Symlink {
            return Err(Errno::NOTDIR.into());
        }
        self.links += 1;
        if self.links > LINKS_MAX {
            return Err(Errno::LOOP.into());
        }
        if u64::try_from(rustix::fs::fstatfs(&link)?.f_type) == Ok(PROC) {
            let flags = HELD | OFlags::DIRECTORY;
            self.at = rustix::fs::openat(&self.at, part, flags, Mode::empty())?;
            self.way.push(part);
            return Ok(());
        }
        // Of the link that is held, not of whatever has its name by now.
        let leads_to = rustix::fs::readlinkat(&link, c"", Vec::new())?.into_bytes();
        let owner = stat.identity.uid;
        if owner != 0 && owner != rustix::process::geteuid().as_raw() {
            return Err(Unresolved::Planted {
                link: self.way.join(part),
                owner,
                leads_to: escape(&leads_to),
            });
        }
        let leads_to = PathBuf::from(OsString::from_vec(leads_to));
        if leads_to.is_absolute() {
            self.at = rustix::fs::open(c"/", HELD | OFlags::DIRECTORY, Mode::empty())?;
            self.way = PathBuf::from("/");
        }
        self.put_ahead(&leads_to, From::Link);
        Ok(())
    }

    /// `part` is not there.
    fn ends_at(mut self, part: PathPart) -> Result<Resolved, Unresolved> {
        let mut missing = vec![part];
        missing.extend(self.ahead.drain(..).rev());
        // A link to nowhere is not filled, and from nowhere there is no way up.
        if (missing.iter()).any(|part| part.from == From::Link || part.name == "..") {
            return Err(Errno::NOENT.into());
        }
        Ok(Resolved {
            handle: self.at,
            missing: missing.into_iter().map(|part| part.name).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::{fd::AsFd as _, unix::fs::symlink},
    };

    use super::*;
    use crate::fs::mounts::path_of;

    /// Where a path leads, and what is missing there.
    fn led(path: &Path) -> Result<(PathBuf, PathBuf), Unresolved> {
        let resolved = Resolved::new(path)?;
        Ok((path_of(resolved.handle()).unwrap(), resolved.missing()))
    }

    fn world() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("file"), "").unwrap();
        (folder, root)
    }

    #[test]
    fn paths_lead_where_the_kernel_says() {
        let (_folder, root) = world();
        symlink("b/../b", root.join("a/inner")).unwrap();
        symlink(root.join("a"), root.join("absolute")).unwrap();
        symlink("absolute/inner", root.join("twice")).unwrap();
        for path in [
            "a/b",
            "a/./b/",
            "a/b/../b",
            "a/inner",
            "absolute/b",
            "twice",
            "twice/../b",
            "a//b",
        ] {
            let path = root.join(path);
            let expected = (path.canonicalize().unwrap(), PathBuf::new());
            assert_eq!(led(&path), Ok(expected), "{path:?}");
        }
        assert_eq!(led(Path::new("/")), Ok(("/".into(), PathBuf::new())));
        let here = std::env::current_dir().unwrap().canonicalize().unwrap();
        assert_eq!(led(Path::new(".")), Ok((here, PathBuf::new())));
        let held = fs::File::open(&root).unwrap();
        let by_handle = crate::fs::mounts::by_handle(held.as_fd());
        assert_eq!(led(&by_handle), Ok((root.clone(), PathBuf::new())));
        assert_eq!(
            led(&by_handle.join("a")),
            Ok((root.join("a"), PathBuf::new()))
        );
    }

    #[test]
    fn what_leads_nowhere_is_told() {
        let (_folder, root) = world();
        symlink("loop", root.join("loop")).unwrap();
        symlink("nowhere", root.join("dangling")).unwrap();
        for (path, errno) in [
            ("file", Errno::NOTDIR),
            ("file/x", Errno::NOTDIR),
            ("loop", Errno::LOOP),
            ("dangling", Errno::NOENT),
            ("dangling/x", Errno::NOENT),
            ("no/../a", Errno::NOENT),
        ] {
            assert_eq!(led(&root.join(path)), Err(errno.into()), "{path}");
        }
        assert_eq!(led(Path::new("")), Err(Errno::NOENT.into()));
    }

    #[test]
    fn what_is_missing_is_made_where_it_was_looked_for() {
        let (_folder, root) = world();
        symlink("a", root.join("link")).unwrap();
        let resolved = Resolved::new(&root.join("link/new/er")).unwrap();
        assert_eq!(path_of(resolved.handle()), Some(root.join("a")));
        assert_eq!(resolved.missing(), Path::new("new/er"));
        // Nobody leads it elsewhere meanwhile.
        fs::remove_file(root.join("link")).unwrap();
        fs::create_dir(root.join("link")).unwrap();
        let made = resolved.make().unwrap();
        assert_eq!(path_of(&made), Some(root.join("a/new/er")));
        let resolved = Resolved::new(&root.join("planted")).unwrap();
        symlink("a", root.join("planted")).unwrap();
        assert!(resolved.make().is_err());
    }

    #[test]
    fn links_of_others_are_not_followed() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: needs root, to make a link somebody else's");
            return;
        }
        let (_folder, root) = world();
        symlink("a", root.join("planted")).unwrap();
        symlink("planted", root.join("own")).unwrap();
        assert!(led(&root.join("own/b")).is_ok());
        std::os::unix::fs::lchown(root.join("planted"), Some(65_534), None).unwrap();
        for path in ["planted", "planted/b", "own", "planted/new", "planted/"] {
            let refused = led(&root.join(path)).unwrap_err();
            assert_eq!(
                refused,
                Unresolved::Planted {
                    link: root.join("planted"),
                    owner: 65_534,
                    leads_to: "a".into(),
                },
                "{path}"
            );
        }
    }
}
