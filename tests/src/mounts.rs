//! File systems of their own for tests: images on loop devices, in memory, bound, laid over others.

use std::{
    ffi::OsStr,
    fmt::Debug,
    fs::File,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::skip;

/// A mounted file system, unmounted when dropped.
#[derive(Debug)]
pub struct Mount {
    at: PathBuf,
}

/// Whether images can be made with `mkfs` (such as `mkfs.ext4`) and mounted here.
pub fn available(mkfs: &str) -> Result<(), String> {
    skip::root()?;
    skip::program(mkfs)?;
    if Path::new("/dev/loop-control").exists() {
        Ok(())
    } else {
        Err("needs loop devices".into())
    }
}

impl Mount {
    /// An ext4 of `bytes` bytes, made with the further `options` of `mkfs.ext4`. No block is
    /// reserved for root, so that full means full for everybody.
    pub fn ext4(dir: &Path, name: &str, bytes: u64, options: &[&str]) -> Result<Self> {
        let options = [&["-q", "-F", "-m", "0"], options].concat();
        Self::image(dir, name, bytes, "mkfs.ext4", &options)
    }

    /// An xfs of `bytes` bytes; it takes 300 MiB or more.
    pub fn xfs(dir: &Path, name: &str, bytes: u64) -> Result<Self> {
        Self::image(dir, name, bytes, "mkfs.xfs", &["-q", "-f"])
    }

    /// A ramfs: it keeps no extended attributes.
    pub fn ramfs(dir: &Path, name: &str) -> Result<Self> {
        let at = mount_point(dir, name)?;
        command("mount", &["-t", "ramfs", "none"], &at)?;
        Ok(Self { at })
    }

    /// A btrfs of `bytes` bytes; it takes 110 MiB or more.
    pub fn btrfs(dir: &Path, name: &str, bytes: u64) -> Result<Self> {
        Self::image(dir, name, bytes, "mkfs.btrfs", &["-q", "-f"])
    }

    /// An xfs of `bytes` bytes that counts and limits projects.
    pub fn xfs_with_projects(dir: &Path, name: &str, bytes: u64) -> Result<Self> {
        let image = dir.join(format!("{name}.img"));
        File::create(&image)?.set_len(bytes)?;
        command("mkfs.xfs", &["-q", "-f"], &image)?;
        let at = mount_point(dir, name)?;
        let source = image.to_str().context("a path that is text")?;
        command("mount", &["-o", "loop,prjquota", source], &at)?;
        Ok(Self { at })
    }

    /// The image of a mount that is gone, at the directory that is left of it.
    pub fn again(image: &Path, at: &Path) -> Result<Self> {
        let source = image.to_str().context("a path that is text")?;
        command("mount", &["-o", "loop", source], at)?;
        Ok(Self { at: at.to_owned() })
    }

    /// An image at the existing directory `at`, with these `options` of `mount`.
    pub fn with(image: &Path, at: &Path, options: &str) -> Result<Self> {
        let source = image.to_str().context("a path that is text")?;
        command("mount", &["-o", options, source], at)?;
        Ok(Self { at: at.to_owned() })
    }

    /// What somebody has mounted at `at`.
    pub fn taken(at: &Path) -> Self {
        Self { at: at.to_owned() }
    }

    /// A tmpfs of its own on the existing directory `at`.
    pub fn tmpfs_over(at: &Path) -> Result<Self> {
        command("mount", &["-t", "tmpfs", "tmpfs"], at)?;
        Ok(Self { at: at.to_owned() })
    }

    /// The file or directory `what` a second time, at the existing one `at`.
    pub fn bind(what: &Path, at: &Path) -> Result<Self> {
        command("mount", &[OsStr::new("--bind"), what.as_os_str()], at)?;
        Ok(Self { at: at.to_owned() })
    }

    /// What bindfs shows of the directory `what`, at the existing one `at`: a file system by FUSE that
    /// passes on the inode numbers of whatever is mounted there. Needs `bindfs`.
    pub fn bindfs(what: &Path, at: &Path) -> Result<Self> {
        let what = what.to_str().context("a path that is text")?;
        command("bindfs", &[what], at)?;
        Ok(Self { at: at.to_owned() })
    }

    /// An overlay of the directory `lower` and the directory `upper`, whose sibling `work` is made,
    /// at the new directory `name`. A directory that is renamed in it stays where it is, with a note.
    pub fn overlay(dir: &Path, name: &str, lower: &Path, upper: &Path) -> Result<Self> {
        let at = mount_point(dir, name)?;
        let work = upper.with_extension("work");
        std::fs::create_dir_all(&work)?;
        let options = format!(
            "redirect_dir=on,lowerdir={},upperdir={},workdir={}",
            lower.display(),
            upper.display(),
            work.display()
        );
        command("mount", &["-t", "overlay", "overlay", "-o", &options], &at)?;
        Ok(Self { at })
    }

    /// A tmpfs with these mount `options`.
    pub fn tmpfs(dir: &Path, name: &str, options: &str) -> Result<Self> {
        let at = mount_point(dir, name)?;
        command("mount", &["-t", "tmpfs", "-o", options, "none"], &at)?;
        Ok(Self { at })
    }

    fn image(dir: &Path, name: &str, bytes: u64, mkfs: &str, options: &[&str]) -> Result<Self> {
        let image = dir.join(format!("{name}.img"));
        File::create(&image)?.set_len(bytes)?;
        command(mkfs, options, &image)?;
        let at = mount_point(dir, name)?;
        let source = image.to_str().context("a path that is text")?;
        command("mount", &["-o", "loop", source], &at)?;
        Ok(Self { at })
    }

    /// Makes it read-only from now on.
    pub fn make_read_only(&self) -> Result<()> {
        command("mount", &["-o", "remount,ro"], &self.at)
    }

    /// Has the image read and written without the page cache of the file system that holds it, many
    /// requests at once, as a disk would.
    pub fn like_a_disk(self) -> Result<Self> {
        let found = Command::new("findmnt")
            .args(["--noheadings", "--output", "SOURCE"])
            .arg(&self.at)
            .output()
            .context("running findmnt")?;
        let device = String::from_utf8_lossy(&found.stdout).trim().to_owned();
        command("losetup", &["--direct-io=on"], Path::new(&device))?;
        Ok(self)
    }

    /// Its root directory.
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// A new empty directory in it, for a file system whose root holds `lost+found`.
    pub fn dir(&self, name: &str) -> Result<PathBuf> {
        let path = self.at.join(name);
        std::fs::create_dir(&path)?;
        Ok(path)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Detached at least: a mount that outlives its test keeps a loop device for ever.
        if command::<&str>("umount", &[], &self.at).is_err() {
            let _ = command("umount", &["--lazy"], &self.at);
        }
    }
}

fn mount_point(dir: &Path, name: &str) -> Result<PathBuf> {
    let at = dir.join(name);
    std::fs::create_dir(&at)?;
    Ok(at)
}

fn command<O>(program: &str, options: &[O], path: &Path) -> Result<()>
where
    O: AsRef<OsStr> + Debug,
{
    let output = Command::new(program)
        .args(options)
        .arg(path)
        .output()
        .with_context(|| format!("running {program}"))?;
    ensure!(
        output.status.success(),
        "{program} {options:?} {} failed: {}",
        path.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
