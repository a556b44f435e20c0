//! `kill -9` of the coordinator in each phase, then `resume`: the migration completes or is rolled
//! back, the workload runs on the one or the other volume, and every record it was promised is
//! there.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, bail, ensure};
use livmig_tests::{journal::is_intent, run::run};
use serde_json::Value;

use super::host::{Host, kill_at};

/// The volume that the migration of `host`, resumed, left its workload on, by exit code.
fn volume_after(host: &Host, code: Option<i32>) -> Result<&Path> {
    match code {
        Some(0) => Ok(&host.new),
        // Given up before the stop, or rolled back after it.
        Some(1 | 4) => Ok(&host.old),
        other => bail!("resume ended with {other:?}"),
    }
}

fn killed_at(wanted: impl Fn(&Value) -> bool) -> Result<()> {
    let host = Host::start()?;
    let killed = kill_at(&host, &mut host.migrate_dir()?, wanted)?;
    ensure!(killed, "it had ended before it was killed");
    let finished = host.resume()?;
    let volume = volume_after(&host, finished.status.code())
        .with_context(|| format!("{}{}", finished.stdout, finished.stderr))?;
    host.expect_running_on(volume)
        .with_context(|| format!("{}{}", finished.stdout, finished.stderr))?;
    // There is nothing left to resume.
    let again = host.resume()?;
    assert_ne!(again.status.code(), Some(130));
    host.expect_running_on(volume)
}

fn is_event(record: &Value, kind: &str) -> bool {
    record.pointer("/event/type").and_then(Value::as_str) == Some(kind)
}

fn is_pass(record: &Value, kind: &str, number: u64) -> bool {
    let step = |field: &str| record.pointer(&format!("/event/step/{field}"));
    is_intent(record, "pass")
        && step("kind").and_then(Value::as_str) == Some(kind)
        && step("number").and_then(Value::as_u64) >= Some(number)
}

#[test]
fn when_planned() -> Result<()> {
    killed_at(|record| is_event(record, "planned"))
}

#[test]
fn while_preparing() -> Result<()> {
    killed_at(|record| is_intent(record, "startMovers"))
}

#[test]
fn in_the_first_live_pass() -> Result<()> {
    killed_at(|record| is_pass(record, "live", 1))
}

#[test]
fn in_a_later_live_pass() -> Result<()> {
    killed_at(|record| is_pass(record, "live", 2))
}

#[test]
fn while_quiescing() -> Result<()> {
    killed_at(|record| is_intent(record, "quiesce"))
}

#[test]
fn while_fencing() -> Result<()> {
    killed_at(|record| is_intent(record, "fence"))
}

#[test]
fn in_the_final_pass() -> Result<()> {
    killed_at(|record| is_pass(record, "final", 1))
}

#[test]
fn while_verifying() -> Result<()> {
    killed_at(|record| is_intent(record, "verify"))
}

#[test]
fn at_the_commit() -> Result<()> {
    killed_at(|record| is_event(record, "commit"))
}

#[test]
fn while_swapping() -> Result<()> {
    killed_at(|record| is_intent(record, "swap"))
}

#[test]
fn while_unquiescing() -> Result<()> {
    killed_at(|record| is_intent(record, "unquiesce"))
}

#[test]
fn while_settling() -> Result<()> {
    killed_at(|record| is_intent(record, "settle"))
}

/// A rollback is resumed like anything else.
#[test]
fn while_rolling_back() -> Result<()> {
    for step in ["restart", "stopMovers"] {
        let host = Host::start()?;
        let mut command = host.migrate_dir_with("exit 7", &host.service_command("start"))?;
        kill_at(&host, &mut command, |record| is_intent(record, step))?;
        host.resume()?.expect(4)?;
        host.expect_running_on(&host.old)?;
    }
    Ok(())
}

/// Killed again and again, also while it resumes.
#[test]
fn over_and_over() -> Result<()> {
    let host = Host::start()?;
    let mut seen = 0;
    let mut command = host.migrate_dir()?;
    for _ in 0..8 {
        // Some records later each time.
        seen += 4;
        let past = move |record: &Value| record.get("seq").and_then(Value::as_u64) >= Some(seen);
        if !kill_at(&host, &mut command, past)? {
            break;
        }
        command = resume(&host)?;
    }
    let finished = host.resume()?;
    let volume =
        volume_after(&host, finished.status.code()).with_context(|| finished.stderr.clone())?;
    host.expect_running_on(volume)
}

fn resume(host: &Host) -> Result<Command> {
    let mut command = host.coord()?;
    command.args(["resume", &host.migration()?]);
    Ok(command)
}

/// Instead of a resume, the user may want it undone.
#[test]
fn and_rolled_back_instead() -> Result<()> {
    for step in ["startMovers", "quiesce", "fence", "verify"] {
        let host = Host::start()?;
        kill_at(&host, &mut host.migrate_dir()?, |record| {
            is_intent(record, step)
        })?;
        let name = host.migration()?;
        run(host.coord()?.args(["rollback", &name]))?
            .expect(0)
            .with_context(|| step.to_owned())?;
        host.expect_running_on(&host.old)
            .with_context(|| step.to_owned())?;
    }
    Ok(())
}
