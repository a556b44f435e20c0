//! Histories that once ended wrong: each is short, and each is a reason for a rule of the mover.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{FileExt as _, PermissionsExt as _, symlink},
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Error, Result, ensure};
use livmig_proto::{
    control::{FaultCode, PassKind, PassReport, RequestBody, Side},
    ids::Epoch,
};
use livmig_tests::{
    compare,
    control::{Keys, Mover},
    mounts::{self, Mount},
    pair::{pass_to, report},
    require,
    run::LIMIT,
    scratch::Scratch,
    skip,
};
use rustix::{
    fs::{IFlags, ioctl_setflags},
    process::Signal,
};

use super::sync::{digest, expect_copied, sync, try_sync};

const BLOCK: usize = 8192;

/// The source's state is older than what the destination holds: a machine lost power, or a
/// snapshot was restored. What it believes to be there is not.
#[test]
fn a_source_whose_state_is_older_than_the_destination() -> Result<()> {
    let scratch = Scratch::new()?;
    let (a, b) = (scratch.dir("a")?, scratch.dir("b")?);
    let keys = Keys::generate(1)?;
    let file = a.join("f");
    fs::write(&file, vec![1; 128 * BLOCK])?;
    let destination = Mover::start(Side::Destination, &b, scratch.path(), &keys)?;
    let state = scratch.path().join("source.state");
    ensure!(!state.exists(), "the state folder has another name now");
    let pass = |number: u32, kind| -> Result<PassReport> {
        let source = Mover::start(Side::Source, &a, scratch.path(), &keys)?;
        let mut client = source.connect(&keys.coordinator, Epoch(1))?;
        let report = report(client.ask(pass_to(destination.data()?, number, kind))?)?;
        client.ask(RequestBody::Acknowledge { pass: report.pass })?;
        source.process.signal(Signal::KILL)?;
        source.process.wait(LIMIT)?;
        Ok(report)
    };
    ensure!(pass(1, PassKind::Live)?.complete);
    let saved = ["catalog", "tags"].map(|name| (name, fs::read(state.join(name))));
    let file = fs::File::options().write(true).open(&file)?;
    file.write_all_at(&[2; BLOCK], 50 * BLOCK as u64)?;
    ensure!(pass(2, PassKind::Live)?.complete);
    for (name, bytes) in saved {
        fs::write(state.join(name), bytes?)?;
    }
    file.write_all_at(&[1; BLOCK], 50 * BLOCK as u64)?;
    file.write_all_at(&[3; BLOCK], 90 * BLOCK as u64)?;
    drop(file);
    let third = pass(3, PassKind::Final)?;
    ensure!(!third.complete, "a difference was not seen: {third:?}");
    let fourth = pass(4, PassKind::Final)?;
    ensure!(fourth.complete, "{fourth:?}");
    compare::expect_equal(&a, &b)
}

/// What was sent of a file before it was found to change is at the destination; what is remembered
/// of it must not be what was there before.
#[test]
fn a_file_that_changes_while_it_is_read_is_not_remembered_as_it_was() -> Result<()> {
    let scratch = Scratch::new()?;
    let (a, b) = (scratch.dir("a")?, scratch.dir("b")?);
    let keys = Keys::generate(1)?;
    let path = a.join("f");
    fs::write(&path, vec![1; 512 * BLOCK])?;
    let destination = Mover::start(Side::Destination, &b, scratch.path(), &keys)?;
    let source = Mover::start(Side::Source, &a, scratch.path(), &keys)?;
    let pass = |number: u32, kind| -> Result<PassReport> {
        let mut client = source.connect(&keys.coordinator, Epoch(1))?;
        let report = report(client.ask(pass_to(destination.data()?, number, kind))?)?;
        client.ask(RequestBody::Acknowledge { pass: report.pass })?;
        Ok(report)
    };
    ensure!(pass(1, PassKind::Live)?.complete);
    fs::write(&path, vec![2; 512 * BLOCK])?;
    let over = AtomicBool::new(false);
    let second = std::thread::scope(|scope| {
        let touching = scope.spawn(|| -> Result<()> {
            while !over.load(Ordering::Relaxed) {
                // Moves the change time, and needs no handle that a lease would notice.
                fs::set_permissions(&path, Permissions::from_mode(0o644))?;
            }
            Ok(())
        });
        let second = pass(2, PassKind::Final);
        over.store(true, Ordering::Relaxed);
        touching.join().expect("a thread that ends")?;
        second
    })?;
    ensure!(!second.complete, "nobody noticed: {second:?}");
    let codes: Vec<FaultCode> = second.faults.iter().map(|fault| fault.code).collect();
    ensure!(codes == [FaultCode::StillWritten], "{second:?}");
    let third = pass(3, PassKind::Final)?;
    ensure!(third.complete, "{third:?}");
    compare::expect_equal(&a, &b)
}

#[test]
fn directories_that_go_while_they_are_in_flight_leave_nothing() -> Result<()> {
    require!(skip::root());
    let scratch = Scratch::new()?;
    let (a, b, state) = (scratch.dir("a")?, scratch.dir("b")?, scratch.dir("state")?);
    fs::create_dir_all(a.join("top/mid/low"))?;
    for directory in ["top", "top/mid", "top/mid/low"] {
        fs::write(a.join(directory).join("file"), directory)?;
    }
    fs::write(a.join("keep"), "keep")?;
    let flags = ["--state", state.to_str().unwrap_or_default()];
    // Nothing can be made in this directory, so the ops there and below fail.
    fs::create_dir(b.join("top"))?;
    let set = |flags| ioctl_setflags(fs::File::open(b.join("top"))?, flags).map_err(Error::from);
    set(IFlags::IMMUTABLE)?;
    let failed = try_sync(&a, &b, &flags)?.expect(1);
    set(IFlags::empty())?;
    failed?;
    fs::remove_dir_all(a.join("top"))?;
    let synced = sync(&a, &b, &flags)?;
    assert_eq!(synced.digest, digest(&a)?);
    expect_copied(&a, &b)
}

#[test]
fn links_that_lead_out_of_the_destination_are_not_written_through() -> Result<()> {
    let scratch = Scratch::new()?;
    let (a, b) = (scratch.dir("a")?, scratch.dir("b")?);
    for content in ["NEW", &"NEW ".repeat(1 << 16)] {
        let _ = fs::remove_dir_all(&a).and_then(|()| fs::remove_dir_all(&b));
        fs::create_dir_all(&a)?;
        fs::create_dir_all(&b)?;
        fs::write(a.join("x"), content)?;
        fs::hard_link(a.join("x"), a.join("y"))?;
        let outside = scratch.path().join(format!("backup {}", content.len()));
        fs::write(&outside, "OLD".repeat(content.len()))?;
        fs::hard_link(&outside, b.join("x"))?;
        fs::hard_link(&outside, b.join("y"))?;
        sync(&a, &b, &[])?;
        expect_copied(&a, &b)?;
        assert_eq!(fs::read_to_string(&outside)?, "OLD".repeat(content.len()));
    }
    Ok(())
}

#[test]
fn linked_entries_become_other_linked_entries() -> Result<()> {
    let scratch = Scratch::new()?;
    let (a, b, state) = (scratch.dir("a")?, scratch.dir("b")?, scratch.dir("state")?);
    let flags = ["--state", state.to_str().unwrap_or_default()];
    let (x, y) = (a.join("x"), a.join("y"));
    let steps: [&dyn Fn() -> Result<()>; 4] = [
        &|| Ok(symlink("t1", &x)?),
        &|| Ok(symlink("t2", &x)?),
        &|| Ok(fs::write(&x, "a file")?),
        &|| Ok(symlink("t3", &x)?),
    ];
    for flags in [&flags[..], &[]] {
        for make in &steps {
            let _ = fs::remove_file(&x).and_then(|()| fs::remove_file(&y));
            make()?;
            fs::hard_link(&x, &y)?;
            sync(&a, &b, flags)?;
            expect_copied(&a, &b)?;
        }
    }
    Ok(())
}

#[test]
fn a_directory_of_a_name_that_the_destination_keeps_for_itself() -> Result<()> {
    require!(mounts::available("mkfs.ext4"));
    let scratch = Scratch::new()?;
    let a = scratch.dir("a")?;
    fs::create_dir(a.join("lost+found"))?;
    fs::write(a.join("file"), "file")?;
    let mount = Mount::ext4(scratch.path(), "image", 64 << 20, &[])?;
    sync(&a, mount.path(), &[])?;
    ensure!(fs::read(mount.path().join("file"))? == b"file");
    fs::write(a.join("lost+found/found"), "found")?;
    sync(&a, mount.path(), &[])?;
    ensure!(fs::read(mount.path().join("lost+found/found"))? == b"found");
    Ok(())
}

#[test]
fn two_movers_never_write_to_one_destination() -> Result<()> {
    let scratch = Scratch::new()?;
    let (a, b) = (scratch.dir("a")?, scratch.dir("b")?);
    fs::write(a.join("file"), "file")?;
    let keys = Keys::generate(1)?;
    let mover = Mover::start(Side::Destination, &b, scratch.path(), &keys)?;
    try_sync(&a, &b, &[])?
        .expect(1)?
        .says(&["another livmig-mover"])?;
    ensure!(fs::read_dir(&b)?.next().is_none(), "it wrote all the same");
    mover.process.signal(Signal::KILL)?;
    mover.process.wait(LIMIT)?;
    Ok(())
}
