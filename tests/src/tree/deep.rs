//! A tree deeper than `PATH_MAX`: no path names its leaf, only directory handles reach it.

use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::fs::{CWD, Mode, OFlags};

/// Directories above the leaf; with their names of 200 bytes the leaf's path has 6000.
const DEPTH: usize = 30;

/// Makes the tree below `root`, with a file at its bottom.
pub fn make(root: &Path) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut dir = rustix::fs::openat(CWD, root, flags, Mode::empty())?;
    for level in 0..DEPTH {
        let name = format!("{level:0>200}");
        rustix::fs::mkdirat(&dir, &name, 0o755.into()).context("making a level")?;
        dir = rustix::fs::openat(&dir, &name, flags, Mode::empty())?;
    }
    let leaf = rustix::fs::openat(
        &dir,
        "leaf",
        OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC,
        0o644.into(),
    )?;
    rustix::io::write(&leaf, b"found")?;
    Ok(())
}
