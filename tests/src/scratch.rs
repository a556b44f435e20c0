//! Room for a test's trees: a directory that is gone when the test ends.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;
use walkdir::WalkDir;

/// Names the directory below which tests make theirs.
pub const SCRATCH: &str = "LIVMIG_SCRATCH";

/// A directory of one test, removed with everything in it.
#[derive(Debug)]
pub struct Scratch(TempDir);

impl Scratch {
    /// A new empty directory, below `$LIVMIG_SCRATCH` or the build's `target/tmp`.
    pub fn new() -> Result<Self> {
        let parent = env::var_os(SCRATCH).map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tmp"),
            PathBuf::from,
        );
        fs::create_dir_all(&parent).with_context(|| format!("making {}", parent.display()))?;
        Self::below(&parent.canonicalize()?)
    }

    /// A new empty directory where other users reach it (a build tree may lie in a private
    /// home).
    pub fn public() -> Result<Self> {
        let scratch = Self::below(&env::temp_dir())?;
        rustix::fs::chmod(scratch.path(), 0o755.into())?;
        Ok(scratch)
    }

    fn below(parent: &Path) -> Result<Self> {
        tempfile::Builder::new()
            .prefix("livmig-")
            .tempdir_in(parent)
            .map(Self)
            .with_context(|| format!("making a directory in {}", parent.display()))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A new empty directory in it.
    pub fn dir(&self, name: &str) -> Result<PathBuf> {
        let path = self.path().join(name);
        fs::create_dir(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    /// Without root's rights a directory that may not be written cannot be emptied either.
    fn drop(&mut self) {
        if rustix::process::geteuid().is_root() {
            return;
        }
        for entry in WalkDir::new(self.path()).into_iter().flatten() {
            if entry.file_type().is_dir() {
                let _ = rustix::fs::chmod(entry.path(), 0o700.into());
            }
        }
    }
}
