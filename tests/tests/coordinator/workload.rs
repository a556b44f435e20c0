//! Workloads that misbehave, and volumes that cannot be moved: the workload runs on its old
//! volume afterwards, and says so.

use std::{fs, os::unix::fs::symlink};

use anyhow::{Context as _, Result};
use livmig_tests::{
    journal::{Journals, is_intent},
    mounts::{self, Mount},
    require,
    rng::Rng,
    run::{LIMIT, Running, run},
    skip,
    tree::posix,
};
use rustix::process::Signal;

use super::host::Host;

/// Exit codes.
const FAILED: i32 = 1;
const REFUSED: i32 = 3;
const ROLLED_BACK: i32 = 4;
const HALTED: i32 = 5;
const INTERRUPTED: i32 = 130;

#[test]
fn a_stop_command_that_fails() -> Result<()> {
    let host = Host::start()?;
    let stop = "echo the reason >&2; exit 7";
    let mut command = host.migrate_dir_with(stop, &host.service_command("start"))?;
    run(&mut command)?
        .expect(ROLLED_BACK)?
        .says(&["stop", "7", "the reason"])?;
    host.expect_running_on(&host.old)
}

#[test]
fn a_stop_command_that_hangs() -> Result<()> {
    let host = Host::start()?;
    let mut command = host.migrate_dir_with("exec sleep 86400", &host.service_command("start"))?;
    command.args(["--stop-timeout", "1s"]);
    run(&mut command)?.expect(ROLLED_BACK)?.says(&["stop"])?;
    host.expect_running_on(&host.old)
}

#[test]
fn a_stop_command_that_lies() -> Result<()> {
    let host = Host::start()?;
    let writer = host.service.running()?.context("a workload that runs")?;
    let mut command = host.migrate_dir_with("true", &host.service_command("start"))?;
    let finished = run(&mut command)?.expect(ROLLED_BACK)?;
    // Who still writes, and what.
    finished.says(&[&writer.as_raw_nonzero().to_string(), "log"])?;
    assert_eq!(host.service.running()?, Some(writer));
    host.expect_running_on(&host.old)
}

#[test]
fn a_start_command_that_fails() -> Result<()> {
    let host = Host::start()?;
    let allowed = host.scratch.path().join("allowed");
    let start = format!(
        "test -e '{}' && {}",
        allowed.display(),
        host.service_command("start")
    );
    let mut command = host.migrate_dir_with(&host.service_command("stop"), &start)?;
    // Past the point of no return: a person decides, and nothing goes back by itself.
    let finished = run(&mut command)?.expect(HALTED)?;
    finished.says(&["start", "resume"])?;
    assert_eq!(host.path.canonicalize()?, host.new.canonicalize()?);

    fs::write(&allowed, "")?;
    host.resume()?.expect(0)?;
    host.expect_running_on(&host.new)
}

/// `kill -9` of both movers in a live pass: new ones are started and the migration completes.
#[test]
fn movers_that_are_killed_in_a_live_pass() -> Result<()> {
    let host = Host::start()?;
    let coordinator = Running::start(&mut host.migrate_dir()?)?;
    let mut journals = Journals::watch(&host.state_home)?;
    assert!(journals.wait_for(&coordinator, |record| is_intent(record, "pass"))?);
    kill_movers(&host)?;
    coordinator.wait(LIMIT)?.expect(0)?;
    host.expect_running_on(&host.new)
}

/// The same inside the downtime: it completes, or the workload is back on its old volume.
#[test]
fn movers_that_are_killed_in_the_downtime() -> Result<()> {
    for step in ["quiesce", "fence", "verify"] {
        let host = Host::start()?;
        let coordinator = Running::start(&mut host.migrate_dir()?)?;
        let mut journals = Journals::watch(&host.state_home)?;
        assert!(journals.wait_for(&coordinator, |record| is_intent(record, step))?);
        kill_movers(&host)?;
        let finished = coordinator.wait(LIMIT)?;
        let volume = match finished.status.code() {
            Some(0) => &host.new,
            Some(ROLLED_BACK) => &host.old,
            other => anyhow::bail!("{step}: {other:?}: {}", finished.stderr),
        };
        host.expect_running_on(volume)
            .with_context(|| step.to_owned())?;
    }
    Ok(())
}

fn kill_movers(host: &Host) -> Result<()> {
    for pid in host.processes("livmig-mover")? {
        rustix::process::kill_process(pid, Signal::KILL)?;
    }
    Ok(())
}

/// A link that somebody else has moved meanwhile is not moved again.
#[test]
fn a_link_that_leads_elsewhere_meanwhile() -> Result<()> {
    let host = Host::start()?;
    let third = host.scratch.dir("third")?;
    let stop = format!(
        "{} && ln -sfn '{}' '{}'",
        host.service_command("stop"),
        third.display(),
        host.path.display()
    );
    let mut command = host.migrate_dir_with(&stop, &host.service_command("start"))?;
    let finished = run(&mut command)?;
    assert!(
        matches!(finished.status.code(), Some(ROLLED_BACK | HALTED)),
        "{finished:?}"
    );
    finished.says(&["third"])?;
    assert_eq!(host.path.canonicalize()?, third.canonicalize()?);
    Ok(())
}

#[test]
fn a_destination_that_is_full() -> Result<()> {
    require!(mounts::available("mkfs.ext4"));
    let mut host = Host::start()?;
    let writer = host.service.running()?;
    fs::write(host.old.join("too much"), Rng::new(1).bytes(60 << 20))?;
    let small = Mount::ext4(host.scratch.path(), "small", 32 << 20, &[])?;
    host.new = small.path().join("new");
    let finished = run(&mut host.migrate_dir()?)?;
    assert!(
        matches!(finished.status.code(), Some(FAILED | 3)),
        "{finished:?}"
    );
    finished.says(&["space"])?;
    host.expect_untouched(writer)
}

#[test]
fn a_destination_that_keeps_no_attributes() -> Result<()> {
    require!(skip::root());
    let mut host = Host::start()?;
    let writer = host.service.running()?;
    // One of many that the made tree has.
    posix::set_xattr(&host.old, "user.label", b"value")?;
    let ramfs = Mount::ramfs(host.scratch.path(), "ramfs")?;
    host.new = ramfs.path().join("new");
    let finished = run(&mut host.migrate_dir()?)?.expect(REFUSED)?;
    finished.says(&["attributes-unsupported", "user.label", "--leave-out"])?;
    host.expect_untouched(writer)
}

#[test]
fn a_budget_that_cannot_be_met() -> Result<()> {
    let host = Host::start()?;
    let writer = host.service.running()?;
    let mut command = host.migrate_dir()?;
    command.args(["--max-downtime", "1ms", "--on-overrun", "abort"]);
    run(&mut command)?.expect(FAILED)?.says(&["downtime"])?;
    host.expect_untouched(writer)
}

/// Ctrl-C before the stop: resumable, and it says so.
#[test]
fn an_interrupt_in_a_live_pass() -> Result<()> {
    let host = Host::start()?;
    let writer = host.service.running()?;
    let coordinator = Running::start(&mut host.migrate_dir()?)?;
    let mut journals = Journals::watch(&host.state_home)?;
    assert!(journals.wait_for(&coordinator, |record| is_intent(record, "pass"))?);
    coordinator.signal(Signal::INT)?;
    let finished = coordinator.wait(LIMIT)?.expect(INTERRUPTED)?;
    finished.says(&["resume", &host.migration()?])?;
    assert_eq!(host.service.running()?, writer);
    host.resume()?.expect(0)?;
    host.expect_running_on(&host.new)
}

/// Ctrl-C inside the downtime: rolled back, and it says so.
#[test]
fn an_interrupt_after_the_stop() -> Result<()> {
    let host = Host::start()?;
    let coordinator = Running::start(&mut host.migrate_dir()?)?;
    let mut journals = Journals::watch(&host.state_home)?;
    assert!(journals.wait_for(&coordinator, |record| is_intent(record, "quiesce"))?);
    coordinator.signal(Signal::INT)?;
    let finished = coordinator.wait(LIMIT)?;
    match finished.status.code() {
        Some(INTERRUPTED) => {
            finished.says(&["rolled back"])?;
            host.expect_running_on(&host.old)
        }
        // Already past COMMIT, it goes forward.
        Some(0) => host.expect_running_on(&host.new),
        other => anyhow::bail!("{other:?}: {}", finished.stderr),
    }
}

#[test]
fn a_volume_reached_through_two_links() -> Result<()> {
    let mut host = Host::start()?;
    let alias = host.scratch.path().join("alias");
    symlink(&host.path, &alias)?;
    // The workload opens the alias; what is swapped is the link that leads to the volume.
    host.service.stop()?;
    host.service.volume = alias.clone();
    run(std::process::Command::new("sh").args(["-c", &host.service_command("start")]))?
        .expect(0)?;
    host.migrate(0)?;
    host.expect_running_on(&host.new)?;
    assert_eq!(alias.canonicalize()?, host.new.canonicalize()?);
    Ok(())
}
