//! Movers that are no more than a workload: a user, its groups, no capabilities.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
};

use anyhow::{Result, ensure};
use livmig_proto::control::Reason;
use livmig_tests::{
    compare,
    mounts::{self, Mount},
    require, skip,
};

use super::{
    left_out,
    user::{GROUP, User, owned},
};

const EXT4: u64 = 64 << 20;

/// Neither does its own at the destination go, nor is a new volume taken for a used one.
#[test]
fn a_lost_and_found_that_may_not_be_looked_into_needs_consent() -> Result<()> {
    require!(mounts::available("mkfs.ext4"));
    require!(skip::program("setpriv"));
    let user = User::new()?;
    let mount = |name| Mount::ext4(user.scratch.path(), name, EXT4, &[]);
    let (a, reserved) = (mount("a")?, mount("reserved")?);
    for root in [a.path(), reserved.path()] {
        owned(root)?;
    }
    fs::write(a.path().join("keep"), "keep")?;
    owned(&a.path().join("keep"))?;
    for b in [&user.dir("free")?, reserved.path()] {
        for flags in [&[][..], &["--verify", "full"]] {
            let finished = user.sync(a.path(), b, flags)?.expect(1)?;
            ensure!(left_out(&finished, Reason::LostFound)? == ["lost+found"]);
            let consent = [flags, &["--leave-out", "lost-found"]].concat();
            user.sync(a.path(), b, &consent)?.expect(0)?;
        }
    }
    ensure!(reserved.path().join("lost+found").is_dir());
    // A source that has none is not asked.
    let plain = user.dir("plain")?;
    user.sh("echo keep > $1/keep", &plain, &plain)?;
    user.sync(&plain, reserved.path(), &[])?.expect(0)?;
    ensure!(reserved.path().join("lost+found").is_dir());
    Ok(())
}

/// A list takes the right to write from an owner whose mode has none.
#[test]
fn lists_and_attributes_of_what_its_owner_may_not_write() -> Result<()> {
    require!(skip::root());
    require!(skip::program("setpriv"));
    require!(skip::program("setfacl"));
    require!(skip::program("setfattr"));
    let user = User::new()?;
    let (a, b) = (user.dir("a")?, user.dir("b")?);
    let script = "cd $1; mkdir d; echo f > f; \
        for e in d f; do setfattr -n user.z -v 1 $e; setfacl -m u:4321:r $e; done; \
        chmod u-w d f";
    user.sh(script, &a, &b)?;
    user.sync(&a, &b, &[])?.expect(0)?;
    compare::expect_equal(&a, &b)?;
    let script = "cd $1; chmod u+w d f; for e in d f; do setfattr -n user.a -v 2 $e; \
        setfacl -m u:4321:rw,u:99:r $e; done; chmod u-w d f";
    user.sh(script, &a, &b)?;
    user.sync(&a, &b, &[])?.expect(0)?;
    compare::expect_equal(&a, &b)
}

/// Several lanes may find it first.
#[test]
fn a_file_becomes_a_directory_where_its_owner_may_not_write() -> Result<()> {
    require!(skip::root());
    require!(skip::program("setpriv"));
    let user = User::new()?;
    for round in 0..12 {
        let (a, b) = (
            user.dir(&format!("a{round}"))?,
            user.dir(&format!("b{round}"))?,
        );
        user.sh(
            "cd $1; mkdir x; echo f > x/f; echo g > x/g; chmod 500 x",
            &a,
            &b,
        )?;
        user.sync(&a, &b, &[])?.expect(0)?;
        let script = "cd $1; chmod 700 x; rm x/f x/g; mkdir x/f x/g; echo i > x/f/i; \
            ln -s nowhere x/g/l; chmod 500 x";
        user.sh(script, &a, &b)?;
        user.sync(&a, &b, &[])?.expect(0)?;
        compare::expect_equal(&a, &b)?;
    }
    Ok(())
}

/// As a kubelet leaves the root of a volume for `fsGroup`.
#[test]
fn a_root_of_somebody_else_keeps_its_time() -> Result<()> {
    require!(skip::root());
    require!(skip::program("setpriv"));
    let user = User::new()?;
    let (a, b) = (user.dir("a")?, user.dir("b")?);
    for root in [&a, &b] {
        chown(root, Some(0), Some(GROUP))?;
        fs::set_permissions(root, fs::Permissions::from_mode(0o2775))?;
    }
    user.sh("cd $1; mkdir d; echo f > d/f", &a, &b)?;
    for flags in [&[][..], &["--verify", "full"]] {
        let finished = user.sync(&a, &b, flags)?.expect(0)?;
        ensure!(left_out(&finished, Reason::RootTime)? == ["."]);
    }
    user.sh("cd $1; echo more > more", &a, &b)?;
    user.sync(&a, &b, &[])?.expect(0)?;
    compare::expect_equal(&a.join("d"), &b.join("d"))?;
    ensure!(fs::read(b.join("more"))? == b"more\n");
    Ok(())
}
