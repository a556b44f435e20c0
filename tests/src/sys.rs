//! System calls of tests that no safe wrapper offers.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    os::fd::{AsRawFd as _, OwnedFd},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use rustix::{
    fs::CWD,
    mount::{MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount_change, move_mount},
    thread::UnshareFlags,
};

use crate::run::spawn;

/// Gives this thread, and whatever it starts, mounts of its own: they go with the last of them,
/// however that ends.
pub fn own_mounts() -> Result<()> {
    // SAFETY: descriptors, the one thing that could dangle, stay shared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }.context("unsharing mounts")?;
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    mount_change("/", private).context("making mounts private")
}

/// What the kernel takes to change a mount.
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Mounts the directory `what` at the existing one `at` so that the owners 0 to `count` - 1 of the
/// disk are shown as `first` and following. All others are shown as the overflow id.
pub fn mount_mapped(what: &Path, at: &Path, first: u32, count: u32) -> Result<()> {
    const IDMAP: u64 = 0x0010_0000;
    let map = format!("0 {first} {count}");
    let users = user_namespace(&map)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = rustix::mount::open_tree(CWD, what, flags)?;
    let attributes = MountAttributes {
        set: IDMAP,
        clear: 0,
        propagation: 0,
        user_namespace: u64::try_from(users.as_raw_fd())?,
    };
    // SAFETY: the path is a constant, and the structure lives through the call and has the size
    // that is told.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    };
    ensure!(
        done == 0,
        "mapping owners: {}",
        std::io::Error::last_os_error()
    );
    move_mount(&tree, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(())
}

/// A user namespace with this map for users and groups.
fn user_namespace(map: &str) -> Result<OwnedFd> {
    let mut inside = Command::new("unshare");
    inside
        .args(["--user", "sh", "-c", "echo inside; read end"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = spawn(&mut inside).context("starting unshare")?;
    let opened = (|| {
        let mut said = String::new();
        let stdout = child.stdout.take().context("no stdout")?;
        BufReader::new(stdout).read_line(&mut said)?;
        ensure!(said == "inside\n", "unshare made no user namespace");
        let process = format!("/proc/{}", child.id());
        for file in ["uid_map", "gid_map"] {
            fs::write(format!("{process}/{file}"), map)?;
        }
        Ok(File::open(format!("{process}/ns/user"))?.into())
    })();
    drop(child.stdin.take());
    child.wait()?;
    opened
}
