//! A small file system that passes everything through to another tree and is odd in one way at a
//! time, by FUSE: what network, union and user-space file systems do to those who copy from them.
//!
//! It runs as a program of its own, `livmig-oddfs`, which lives as long as its standard input is
//! open: whatever ends a test, its mount goes.

mod calls;
mod fs;
mod nodes;
mod oddity;
mod open;
mod shown;

use std::{
    ffi::{OsStr, OsString},
    fs::{self as files},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use fuser::{Config, MountOption, Session, SessionACL};
use rustix::process::{Resource, Rlimit};

pub use self::oddity::Oddity;
use crate::{bins, run::spawn, skip};

/// What the program says once its mount is there.
const MOUNTED: &str = "mounted";

/// Whether such a file system can be mounted here.
pub fn available() -> Result<(), String> {
    skip::root()?;
    if !Path::new("/dev/fuse").exists() {
        return Err("needs /dev/fuse".into());
    }
    bins::path("livmig-oddfs")
        .map(drop)
        .map_err(|error| format!("{error:#}"))
}

/// A mounted one. It goes when this is dropped, also by a panic.
#[derive(Debug)]
pub struct OddFs {
    child: Child,
    at: PathBuf,
}

impl OddFs {
    /// Shows the tree at `backing` in the directory `at` as `oddity` has it. Entries called
    /// `victim` are struck, or all if that is empty.
    pub fn mount(
        backing: &Path,
        at: &Path,
        oddity: Oddity,
        victim: impl AsRef<OsStr>,
    ) -> Result<Self> {
        let mut command = Command::new(bins::path("livmig-oddfs")?);
        command
            .args([backing, at])
            .args([OsStr::new(&oddity.name()), victim.as_ref()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = spawn(&mut command).context("starting livmig-oddfs")?;
        let stdout = child.stdout.take().context("no stdout")?;
        let mounted = Self {
            child,
            at: at.to_owned(),
        };
        let mut said = String::new();
        BufReader::new(stdout).read_line(&mut said)?;
        ensure!(said.trim() == MOUNTED, "livmig-oddfs did not mount");
        Ok(mounted)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.at
    }
}

impl Drop for OddFs {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// What the program does with its arguments `BACKING MOUNTPOINT ODDITY [VICTIM]`: mounts, says so,
/// and unmounts when its standard input ends.
pub fn serve(arguments: impl IntoIterator<Item = OsString>) -> Result<()> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let (backing, at, oddity, victim) = match arguments.as_slice() {
        [backing, at, oddity] => (backing, at, oddity, OsStr::new("")),
        [backing, at, oddity, victim] => (backing, at, oddity, victim.as_os_str()),
        _ => bail!("usage: BACKING MOUNTPOINT ODDITY [VICTIM]"),
    };
    let oddity = Oddity::named(&oddity.to_string_lossy())?;
    allow_many_handles()?;
    let at = files::canonicalize(at)?;
    let odd = fs::Odd::new(Path::new(backing), oddity, victim)?;
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName("odd".into()),
        MountOption::DefaultPermissions,
        MountOption::Dev,
        MountOption::Suid,
    ];
    config.acl = SessionACL::All;
    config.n_threads = Some(2);
    let session = Session::new(odd, &at, &config)
        .with_context(|| format!("mounting at {}", at.display()))?
        .spawn()?;
    println!("{MOUNTED}");
    std::io::stdout().flush()?;
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    unmount(&at);
    drop(session);
    Ok(())
}

/// Each inode that the kernel knows takes a handle.
fn allow_many_handles() -> Result<()> {
    let Rlimit { maximum, .. } = rustix::process::getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: maximum,
        maximum,
    };
    rustix::process::setrlimit(Resource::Nofile, most)?;
    Ok(())
}

/// Detached, so that nobody who still holds something open keeps the name.
fn unmount(at: &Path) {
    let _ = Command::new("umount").arg("--lazy").arg(at).status();
}
