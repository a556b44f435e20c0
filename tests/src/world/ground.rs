//! The file systems that worlds lie on: made once, a directory for each world.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use super::plan::Kind;
use crate::{mounts::Mount, skip, sys};

/// Bytes of each image. They are in memory, so they take what is written.
const IMAGE: u64 = 512 << 20;

/// Bytes of the image of a world whose volume is a root.
const ROOT_IMAGE: u64 = 64 << 20;

/// One file system of each kind.
#[derive(Debug)]
pub struct Ground {
    disks: Vec<(Kind, Mount)>,
    root_image: PathBuf,
    memory: Mount,
}

/// Whether worlds can be laid out here.
pub fn available() -> Result<(), String> {
    crate::odd::available()?;
    for mkfs in ["mkfs.ext4", "mkfs.xfs", "mkfs.btrfs"] {
        crate::mounts::available(mkfs)?;
    }
    skip::program("unshare")
}

impl Ground {
    /// Makes them in the existing directory `dir`, among mounts that this thread and those that it
    /// starts have for themselves.
    pub fn new(dir: &Path) -> Result<Self> {
        sys::own_mounts()?;
        let memory = Mount::tmpfs_over(dir)?;
        let old = ["-I", "128", "-O", "^filetype"];
        let root = Mount::ext4(dir, "template", ROOT_IMAGE, &[])?;
        drop(root);
        Ok(Self {
            disks: vec![
                (Kind::Ext4, Mount::ext4(dir, "ext4", IMAGE, &[])?),
                (Kind::Ext4Old, Mount::ext4(dir, "ext4old", IMAGE, &old)?),
                (Kind::Xfs, Mount::xfs(dir, "xfs", IMAGE)?),
                (Kind::Btrfs, Mount::btrfs(dir, "btrfs", IMAGE)?),
            ],
            root_image: dir.join("template.img"),
            memory,
        })
    }

    /// A new directory on a file system of `kind`, and the mount that it takes with it.
    pub fn dir(&self, kind: Kind, name: &str) -> Result<(PathBuf, Option<Mount>)> {
        if kind == Kind::Ext4Root {
            let mount = self.root(name)?;
            return Ok((mount.path().to_owned(), Some(mount)));
        }
        let disk = self.disks.iter().find(|(other, _)| *other == kind);
        let disk = disk.map_or(self.memory.path(), |(_, mount)| mount.path());
        let dir = disk.join(name);
        fs::create_dir(&dir).with_context(|| format!("making {}", dir.display()))?;
        Ok((dir, None))
    }

    /// A file system whose root is nobody else's.
    fn root(&self, name: &str) -> Result<Mount> {
        let at = self.memory.path().join(name);
        fs::create_dir(&at)?;
        let image = at.with_extension("img");
        let copied = Command::new("cp")
            .arg("--sparse=always")
            .args([&self.root_image, &image])
            .status()?;
        ensure!(copied.success(), "cp did not copy an image");
        Mount::again(&image, &at)
    }

    /// Removes what [`Ground::dir`] gave, whose mount is gone.
    pub fn give_back(&self, dir: &Path) {
        // What is left is left in memory, until the test ends.
        let _ = super::grow::thaw(dir);
        let _ = fs::remove_dir_all(dir);
        let _ = fs::remove_file(dir.with_extension("img"));
    }
}
