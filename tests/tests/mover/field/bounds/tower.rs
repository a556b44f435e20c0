//! Trees deeper than any path the system takes: made, looked at and removed level by level.

use std::{
    collections::BTreeSet,
    fs::File,
    io::Write as _,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::{AtFlags, Dir, Mode, OFlags};

/// A directory with a deep tree in it. It is removed in the end, which is not just anybody's work.
pub(super) struct Tower(PathBuf);

/// What stands beside the way down at each level.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Beside {
    /// A directory with a file in it.
    pub(super) directory: bool,
    /// A file.
    pub(super) file: bool,
    /// Another name of the file of the level above.
    pub(super) link: bool,
}

impl Tower {
    /// The directory `path`, made if there is none.
    pub(super) fn new(path: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Builds directories called `name` in one another, `depth` of them.
    pub(super) fn build(&self, name: &str, depth: usize, beside: Beside) -> Result<()> {
        let mut at = open(&self.0)?;
        for level in 0..depth {
            rustix::fs::mkdirat(&at, name, Mode::RWXU)?;
            let below = below(&at, name)?;
            if beside.file {
                write(&below, "file", &level.to_string())?;
            }
            if beside.link && level > 0 {
                rustix::fs::linkat(&at, "file", &below, "link", AtFlags::empty())?;
            }
            if beside.directory {
                rustix::fs::mkdirat(&at, "side", Mode::RWXU)?;
                let side = self::below(&at, "side")?;
                write(&side, "leaf", &level.to_string())?;
            }
            at = below;
        }
        Ok(())
    }

    /// Fails unless the ways down by `name` hold the same names here and in `other`, `depth` levels of
    /// them, and whatever is a file the same content.
    pub(super) fn expect_equal(&self, other: &Path, name: &str, depth: usize) -> Result<()> {
        let (mut one, mut two) = (open(&self.0)?, open(other)?);
        for level in 0..depth {
            let names = names(&one)?;
            ensure!(names == self::names(&two)?, "level {level} differs");
            for name in &names {
                let (one, two) = (content(&one, name)?, content(&two, name)?);
                ensure!(one == two, "level {level}: {name} differs");
            }
            one = below(&one, name).with_context(|| format!("level {level}"))?;
            two = below(&two, name).with_context(|| format!("level {level}"))?;
        }
        Ok(())
    }

    /// How many directories called `name` are in one another.
    pub(super) fn depth(&self, name: &str) -> Result<usize> {
        let mut at = open(&self.0)?;
        for depth in 0.. {
            match below(&at, name) {
                Ok(next) => at = next,
                Err(_) => return Ok(depth),
            }
        }
        bail!("without end")
    }
}

impl Drop for Tower {
    fn drop(&mut self) {
        let _ = Command::new("rm").arg("-rf").arg(&self.0).status();
    }
}

fn open(path: &Path) -> Result<OwnedFd> {
    Ok(File::open(path)?.into())
}

fn below(dir: &OwnedFd, name: &str) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir, name, flags, Mode::empty())?)
}

fn write(dir: &OwnedFd, name: &str, text: &str) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?;
    Ok(File::from(file).write_all(text.as_bytes())?)
}

/// What a file holds, or the names in a directory.
fn content(dir: &OwnedFd, name: &str) -> Result<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(dir, name, flags, Mode::empty())?;
    if rustix::fs::fstat(&opened)?.st_mode & 0o170_000 == 0o040_000 {
        return Ok(format!("{:?}", names(&opened)?));
    }
    Ok(std::io::read_to_string(File::from(opened))?)
}

fn names(dir: &OwnedFd) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in Dir::read_from(dir)? {
        let name = entry?.file_name().to_str()?.to_owned();
        if name != "." && name != ".." {
            names.insert(name);
        }
    }
    Ok(names)
}
