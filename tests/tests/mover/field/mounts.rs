//! Mounts, subvolumes and overlays below the root.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    process::Command,
};

use anyhow::{Result, ensure};
use livmig_proto::{
    control::{PassKind, Reason, Side},
    ids::Epoch,
};
use livmig_tests::{
    compare,
    control::{Keys, Mover},
    mounts::{self, Mount},
    pair::{pass_to, report},
    require,
    run::run,
    scratch::Scratch,
    skip,
};
use serde_json::Value;

use super::{expect_nothing_left_out, left_out, write};
use crate::sync::try_sync;

const EXT4: u64 = 64 << 20;
const XFS: u64 = 320 << 20;
const BTRFS: u64 = 256 << 20;

/// Consent to mounts.
const MOUNTS: &[&str] = &["--leave-out", "mount"];

#[test]
fn an_overlay_over_two_file_systems_is_carried_whole() -> Result<()> {
    require!(mounts::available("mkfs.xfs"));
    let scratch = Scratch::new()?;
    let lower = Mount::xfs(scratch.path(), "lower", XFS)?;
    let upper = Mount::ext4(scratch.path(), "upper", EXT4, &[])?;
    write(&lower.path().join("etc/app.conf"), "base")?;
    write(&lower.path().join("db"), "data")?;
    write(&lower.path().join("deep/down/file"), "lower")?;
    let u = upper.dir("u")?;
    let a = Mount::overlay(scratch.path(), "a", lower.path(), &u)?;
    write(&a.path().join("etc/new.conf"), "new")?;
    fs::write(a.path().join("etc/app.conf"), "changed")?;
    let b = scratch.dir("b")?;
    for flags in [&[][..], &["--verify", "full"]] {
        let finished = try_sync(a.path(), &b, flags)?.expect(0)?;
        expect_nothing_left_out(&finished)?;
        compare::expect_equal(a.path(), &b)?;
    }
    Ok(())
}

#[test]
fn subvolumes_and_snapshots_become_directories_and_that_is_said() -> Result<()> {
    require!(mounts::available("mkfs.btrfs"));
    let scratch = Scratch::new()?;
    let a = Mount::btrfs(scratch.path(), "a", BTRFS)?;
    let subvolume = |args: &[&str]| -> Result<()> {
        let mut command = Command::new("btrfs");
        command.arg("subvolume").args(args).current_dir(a.path());
        run(&mut command)?.expect(0).map(drop)
    };
    subvolume(&["create", "data"])?;
    write(&a.path().join("data/f"), "also")?;
    // Before there is one within: in a snapshot that is a stub, whose times are made up.
    subvolume(&["snapshot", "-r", "data", "snap"])?;
    subvolume(&["create", "data/inner"])?;
    write(&a.path().join("data/inner/f"), "precious")?;
    // The same inode number in another subvolume, with another content.
    fs::write(a.path().join("data/f"), "something else")?;
    let b = scratch.dir("b")?;
    // What an earlier copy by something else has brought stays.
    write(&b.join("data/inner/f"), "older")?;
    for flags in [&[][..], &["--verify", "full"]] {
        let finished = try_sync(a.path(), &b, flags)?.expect(0)?;
        ensure!(left_out(&finished, Reason::Subvolume)? == ["data", "data/inner", "snap"]);
        compare::expect_equal(a.path(), &b)?;
    }

    // Whose times the kernel makes up at each look changes nothing from pass to pass.
    subvolume(&["snapshot", "data", "later"])?;
    let told = ["data", "data/inner", "later", "later/inner", "snap"];
    for (run, flags) in [&[][..], &["--verify", "full"], &[]]
        .into_iter()
        .enumerate()
    {
        rustix::fs::syncfs(fs::File::open(a.path())?)?;
        fs::write("/proc/sys/vm/drop_caches", "2")?;
        let finished = try_sync(a.path(), &b, flags)?.expect(0)?;
        ensure!(left_out(&finished, Reason::Subvolume)? == told);
        let changed = finished.json()?.get("changed").and_then(Value::as_u64);
        ensure!(run == 0 || changed == Some(0), "{changed:?} changed again");
        ensure!(fs::read_dir(b.join("later/inner"))?.next().is_none());
    }
    Ok(())
}

#[test]
fn a_mount_needs_consent_and_its_mount_point_is_carried() -> Result<()> {
    require!(skip::root());
    let scratch = Scratch::new()?;
    let (a, b, c) = (scratch.dir("a")?, scratch.dir("b")?, scratch.dir("c")?);
    write(&a.join("real/file"), "real")?;
    write(&a.join("d/deep/bound/hidden"), "below the mount")?;
    write(&a.join("file"), "mounted over another")?;
    write(&a.join("mounted"), "hidden too")?;
    let directory = Mount::bind(&a.join("real"), &a.join("d/deep/bound"))?;
    let file = Mount::bind(&a.join("file"), &a.join("mounted"))?;
    fs::set_permissions(a.join("real"), fs::Permissions::from_mode(0o710))?;
    for flags in [&[][..], &["--verify", "full"], &["--verify", "wire"]] {
        let finished = try_sync(&a, &b, flags)?.expect(1)?;
        ensure!(left_out(&finished, Reason::Mount)? == ["d/deep/bound", "mounted"]);
        finished.says(&["left out: mount (2)", "--leave-out mount"])?;
        let finished = try_sync(&a, &b, &[flags, MOUNTS].concat())?.expect(0)?;
        ensure!(left_out(&finished, Reason::Mount)? == ["d/deep/bound", "mounted"]);
        let point = fs::metadata(b.join("d/deep/bound"))?;
        ensure!(point.is_dir() && point.mode() & 0o7777 == 0o710);
        ensure!(fs::read_dir(b.join("d/deep/bound"))?.next().is_none());
        ensure!(fs::metadata(b.join("mounted"))?.len() == 0);
    }
    drop((directory, file));
    for b in [b, c] {
        expect_nothing_left_out(&try_sync(&a, &b, &[])?.expect(0)?)?;
        compare::expect_equal(&a, &b)?;
    }
    Ok(())
}

/// With and without a memory of earlier runs.
#[test]
fn what_the_destination_has_under_a_mount_point_stays_as_it_is() -> Result<()> {
    require!(skip::root());
    for remembers in [false, true] {
        let scratch = Scratch::new()?;
        let (a, b, state) = (scratch.dir("a")?, scratch.dir("b")?, scratch.dir("state")?);
        let state = state.to_str().unwrap_or_default();
        let flags = if remembers {
            vec!["--state", state]
        } else {
            Vec::new()
        };
        write(&a.join("d/data/one"), "one")?;
        write(&a.join("d/beside"), "beside")?;
        write(&a.join("f"), "f")?;
        try_sync(&a, &b, &flags)?.expect(0)?;
        let before = livmig_tests::snapshot::Snapshot::of(&b.join("d/data"))?;
        let mount = Mount::tmpfs_over(&a.join("d/data"))?;
        fs::set_permissions(mount.path(), fs::Permissions::from_mode(0o700))?;
        write(&mount.path().join("elsewhere"), "on the tmpfs")?;
        write(&a.join("d/new"), "new")?;
        for _ in 0..2 {
            let finished = try_sync(&a, &b, &flags)?.expect(1)?;
            ensure!(left_out(&finished, Reason::Mount)? == ["d/data"]);
            compare::expect_unchanged(&before, &b.join("d/data"))?;
            ensure!(fs::read(b.join("d/new"))? == b"new");
        }
        drop(mount);
        write(&a.join("d/data/two"), "two")?;
        expect_nothing_left_out(&try_sync(&a, &b, &flags)?.expect(0)?)?;
        compare::expect_equal(&a, &b)?;
    }
    Ok(())
}

#[test]
fn final_passes_agree_on_what_is_mounted() -> Result<()> {
    require!(skip::root());
    let scratch = Scratch::new()?;
    let (a, b) = (scratch.dir("a")?, scratch.dir("b")?);
    write(&a.join("d/mounted/hidden"), "hidden")?;
    write(&a.join("d/file"), "file")?;
    let mount = Mount::tmpfs_over(&a.join("d/mounted"))?;
    write(&mount.path().join("busy"), "busy")?;
    let keys = Keys::generate(1)?;
    let source = Mover::start(Side::Source, &a, scratch.path(), &keys)?;
    let destination = Mover::start(Side::Destination, &b, scratch.path(), &keys)?;
    for (number, kind) in [
        (1, PassKind::Live),
        (2, PassKind::Live),
        (3, PassKind::Final),
    ] {
        let mut client = source.connect(&keys.coordinator, Epoch(1))?;
        let report = report(client.ask(pass_to(destination.data()?, number, kind))?)?;
        ensure!(report.complete, "{report:?}");
        ensure!(report.digest_source == report.digest_destination);
        let left: Vec<_> = report.left_out.iter().map(|left| left.reason).collect();
        ensure!(left == [Reason::Mount], "{left:?}");
        // Others go on using it.
        write(&mount.path().join("busy"), &format!("pass {number}"))?;
    }
    Ok(())
}
