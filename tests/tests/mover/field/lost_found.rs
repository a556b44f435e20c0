//! `lost+found`: the file system's own, and a user's directory of that name.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
};

use anyhow::{Result, ensure};
use livmig_proto::control::Reason;
use livmig_tests::{
    compare,
    mounts::{self, Mount},
    require,
    scratch::Scratch,
    skip,
};

use super::{
    expect_nothing_left_out, left_out,
    user::{User, owned},
    write,
};
use crate::sync::try_sync;

const EXT4: u64 = 64 << 20;

fn rescue(root: &Path) -> Result<()> {
    write(&root.join("lost+found/#1234"), "rescued")?;
    write(&root.join("lost+found/#99/x"), "and this")
}

#[test]
fn what_was_rescued_is_carried_where_the_name_is_free() -> Result<()> {
    require!(mounts::available("mkfs.ext4"));
    let scratch = Scratch::new()?;
    let a = Mount::ext4(scratch.path(), "a", EXT4, &[])?;
    let b = scratch.dir("b")?;
    write(&a.path().join("keep"), "keep")?;
    // An empty one is nobody's content.
    expect_nothing_left_out(&try_sync(a.path(), &b, &[])?.expect(0)?)?;
    ensure!(!b.join("lost+found").exists());
    rescue(a.path())?;
    for flags in [&[][..], &["--verify", "full"]] {
        expect_nothing_left_out(&try_sync(a.path(), &b, flags)?.expect(0)?)?;
        compare::expect_equal(a.path(), &b)?;
    }
    Ok(())
}

#[test]
fn what_was_rescued_is_grave_where_the_destination_keeps_the_name() -> Result<()> {
    require!(mounts::available("mkfs.ext4"));
    let scratch = Scratch::new()?;
    let a = Mount::ext4(scratch.path(), "a", EXT4, &[])?;
    let b = Mount::ext4(scratch.path(), "b", EXT4, &[])?;
    write(&a.path().join("keep"), "keep")?;
    try_sync(a.path(), b.path(), &[])?.expect(0)?;
    ensure!(
        b.path().join("lost+found").exists(),
        "it is the file system's"
    );
    rescue(a.path())?;
    for flags in [&[][..], &["--verify", "full"]] {
        let finished = try_sync(a.path(), b.path(), flags)?.expect(1)?;
        ensure!(left_out(&finished, Reason::LostFound)? == ["lost+found"]);
        let consent = [flags, &["--leave-out", "lost-found"]].concat();
        try_sync(a.path(), b.path(), &consent)?.expect(0)?;
    }
    Ok(())
}

/// Made anew it gets the inode that `mke2fs` gave the first one.
#[test]
fn a_user_s_own_lost_and_found_is_a_directory() -> Result<()> {
    require!(mounts::available("mkfs.ext4"));
    let scratch = Scratch::new()?;
    let a = Mount::ext4(scratch.path(), "a", EXT4, &[])?;
    let (tree, b) = (scratch.dir("tree")?, scratch.dir("b")?);
    let reserved = Mount::ext4(scratch.path(), "reserved", EXT4, &[])?;
    for root in [a.path(), &tree] {
        let _ = fs::remove_dir(root.join("lost+found"));
        fs::create_dir(root.join("lost+found"))?;
        fs::set_permissions(root.join("lost+found"), fs::Permissions::from_mode(0o700))?;
        for held in [false, true] {
            if held {
                write(&root.join("lost+found/user's"), "mine")?;
                fs::set_permissions(root.join("lost+found"), fs::Permissions::from_mode(0o755))?;
            }
            for b in [b.as_path(), reserved.path()] {
                for flags in [&[][..], &[], &["--verify", "full"]] {
                    expect_nothing_left_out(&try_sync(root, b, flags)?.expect(0)?)?;
                    compare::expect_equal(root, b)?;
                }
            }
        }
        fs::remove_dir_all(root.join("lost+found"))?;
        write(&root.join("another"), "so that it is not empty")?;
        try_sync(root, reserved.path(), &[])?.expect(0)?;
    }
    Ok(())
}

/// What a kubelet does for `fsGroup`, an entrypoint for its user, and an administrator in a hurry.
const REWRITES: [(u32, u32, u32); 3] = [(0, 2000, 0o2770), (1000, 1000, 0o700), (0, 0, 0o777)];

/// A mover that is no more than its workload may not make a directory of root's.
#[test]
fn whoever_owns_it_now_an_empty_one_is_the_file_system_s() -> Result<()> {
    require!(mounts::available("mkfs.ext4"));
    require!(skip::program("setpriv"));
    let user = User::new()?;
    for (number, (uid, gid, mode)) in REWRITES.into_iter().enumerate() {
        let mount = |name: &str| -> Result<Mount> {
            let name = format!("{name}{number}");
            let mount = Mount::ext4(user.scratch.path(), &name, EXT4, &[])?;
            let own = mount.path().join("lost+found");
            chown(&own, Some(uid), Some(gid))?;
            fs::set_permissions(&own, fs::Permissions::from_mode(mode))?;
            owned(mount.path())?;
            Ok(mount)
        };
        let (a, reserved) = (mount("a")?, mount("reserved")?);
        let free = user.dir(&format!("free{number}"))?;
        write(&a.path().join("keep"), "keep")?;
        owned(&a.path().join("keep"))?;
        for b in [free.as_path(), reserved.path()] {
            for flags in [&[][..], &["--verify", "full"]] {
                user.sync(a.path(), b, flags)?.expect(0)?;
            }
        }
        ensure!(!free.join("lost+found").exists());
        let kept = fs::metadata(reserved.path().join("lost+found"))?;
        ensure!(kept.permissions().mode() & 0o7777 == mode, "{kept:?}");
    }
    Ok(())
}
