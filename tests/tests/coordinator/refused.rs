//! What `migrate-dir` refuses before it touches anything: the reason, the exit code, and a
//! workload that never noticed.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use livmig_tests::{
    compare,
    mounts::Mount,
    require,
    run::{LIMIT, Running, run},
    skip,
    snapshot::Snapshot,
};

use super::host::Host;

/// Exit code of what the checks refuse.
const REFUSED: i32 = 3;

/// Migrates `path` to `to`, which must be refused, naming `culprit`.
fn expect_refused(host: &mut Host, path: &Path, to: &Path, culprit: &Path) -> Result<()> {
    let writer = host.service.running()?;
    // Where the workload writes, nothing stays as it was.
    let apart = !host.old.starts_with(to) && !to.starts_with(&host.old) && to != host.path;
    let is_dir = fs::symlink_metadata(to).is_ok_and(|metadata| metadata.is_dir());
    let before = (apart && is_dir).then(|| Snapshot::of(to)).transpose()?;
    refuse(host, path, to, culprit)?;
    if let Some(before) = before {
        compare::expect_unchanged(&before, to)?;
    }
    host.expect_untouched(writer)
}

/// Asks for a migration that must be refused, naming `culprit`.
fn refuse(host: &Host, path: &Path, to: &Path, culprit: &Path) -> Result<()> {
    let mut command = host.coord()?;
    command.arg("migrate-dir").arg(path).arg("--to").arg(to);
    command.args(["--stop-cmd", "exit 99", "--start-cmd", "exit 98", "--yes"]);
    let finished = run(&mut command)?.expect(REFUSED)?;
    finished.says(&[culprit.to_str().context("a path that is text")?])
}

#[test]
fn a_path_that_is_missing() -> Result<()> {
    let mut host = Host::start()?;
    let path = host.scratch.path().join("missing");
    let to = host.new.clone();
    expect_refused(&mut host, &path, &to, &path)
}

#[test]
fn a_path_that_is_no_link() -> Result<()> {
    let mut host = Host::start()?;
    let (path, to) = (host.old.clone(), host.new.clone());
    expect_refused(&mut host, &path, &to, &path)
}

#[test]
fn a_link_to_nowhere_or_to_a_file() -> Result<()> {
    let mut host = Host::start()?;
    let (link, to) = (host.scratch.path().join("link"), host.new.clone());
    let target = host.scratch.path().join("target");
    symlink(&target, &link)?;
    expect_refused(&mut host, &link, &to, &target)?;
    fs::write(&target, "a file")?;
    expect_refused(&mut host, &link, &to, &target)
}

#[test]
fn ends_within_each_other_or_the_same() -> Result<()> {
    let mut host = Host::start()?;
    let path = host.path.clone();
    let inside = host.old.join("inside");
    let around = host.scratch.path().to_owned();
    for to in [inside, around, host.old.clone(), host.path.clone()] {
        let named = host.old.clone();
        expect_refused(&mut host, &path, &to, &named).with_context(|| to.display().to_string())?;
    }
    Ok(())
}

/// A copy into its own source, or one that removes it: no path says so.
#[test]
fn ends_that_are_one_tree_through_a_mount() -> Result<()> {
    require!(skip::root());
    let host = Host::start()?;
    let path = host.path.clone();
    let writer = host.service.running()?;
    fs::create_dir(host.old.join("part"))?;
    let at = |name: &str| host.scratch.dir(name);
    let alias = Mount::bind(&host.old, &at("alias")?)?;
    let part = Mount::bind(&host.old.join("part"), &at("in part")?)?;
    let around = Mount::bind(host.scratch.path(), &at("around")?)?;
    let ends = [
        alias.path().to_owned(),
        alias.path().join("new"),
        part.path().to_owned(),
        part.path().join("new"),
        around.path().to_owned(),
    ];
    for to in ends {
        refuse(&host, &path, &to, &host.old).with_context(|| to.display().to_string())?;
    }
    ensure!(!host.old.join("new").exists(), "it was made");
    ensure!(!host.old.join("part/new").exists(), "it was made");
    host.expect_untouched(writer)
}

#[test]
fn a_destination_that_holds_files() -> Result<()> {
    let mut host = Host::start()?;
    let (path, to) = (host.path.clone(), host.new.clone());
    fs::create_dir(&to)?;
    fs::write(to.join("precious"), "precious")?;
    expect_refused(&mut host, &path, &to, &to)?;
    let finished = run(&mut host.migrate_dir()?)?.expect(REFUSED)?;
    finished.says(&["precious", "--adopt"])?;
    assert_eq!(fs::read_to_string(to.join("precious"))?, "precious");
    Ok(())
}

#[test]
fn a_destination_that_is_a_file_or_has_no_folder() -> Result<()> {
    let mut host = Host::start()?;
    let path = host.path.clone();
    let file = host.scratch.path().join("file");
    fs::write(&file, "a file")?;
    expect_refused(&mut host, &path, &file, &file)?;
    let folder = host.scratch.path().join("no such folder");
    expect_refused(&mut host, &path, &folder.join("new"), &folder)
}

#[test]
fn wrong_usage() -> Result<()> {
    let host = Host::start()?;
    let writer = host.service.running()?;
    let path = |path: &PathBuf| path.to_str().map(str::to_owned).context("text");
    let (from, to) = (path(&host.path)?, path(&host.new)?);
    let lines: [&[&str]; 7] = [
        &[],
        &["no-such-command"],
        &["migrate-dir"],
        &["migrate-dir", &from],
        &["migrate-dir", &from, "--to", &to],
        // Nobody there to confirm it.
        &[
            "migrate-dir",
            &from,
            "--to",
            &to,
            "--stop-cmd",
            "exit 99",
            "--start-cmd",
            "exit 98",
        ],
        &["resume"],
    ];
    for line in lines {
        run(host.coord()?.args(line))?
            .expect(2)
            .with_context(|| format!("{line:?}"))?;
    }
    host.expect_untouched(writer)
}

#[test]
fn a_migration_that_does_not_exist() -> Result<()> {
    let host = Host::start()?;
    for command in ["get", "status", "resume", "rollback", "cleanup"] {
        let finished = run(host.coord()?.args([command, "no-such-migration"]))?;
        assert_ne!(finished.status.code(), Some(0), "{command}");
        finished.says(&["no-such-migration"])?;
    }
    Ok(())
}

/// While one coordinator works, another can neither resume its migration nor begin one of the
/// same volume.
#[test]
fn a_second_coordinator() -> Result<()> {
    let host = Host::start()?;
    // The stop waits for us: the first coordinator is busy as long as we like.
    let gate = host.scratch.path().join("gate");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &gate,
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )?;
    let stop = format!(
        "read word < '{}' && {}",
        gate.display(),
        host.service_command("stop")
    );
    let first = Running::start(&mut host.migrate_dir_with(&stop, &host.service_command("start"))?)?;
    let mut journals = livmig_tests::journal::Journals::watch(&host.state_home)?;
    let quiescing = journals.wait_for(&first, |record| {
        livmig_tests::journal::is_intent(record, "quiesce")
    })?;
    assert!(quiescing, "{}", first.stderr()?);

    let holder = first.pid().to_string();
    let name = host.migration()?;
    for command in ["resume", "rollback"] {
        let second = run(host.coord()?.args([command, &name]))?;
        assert_ne!(second.status.code(), Some(0), "{command}");
        second.says(&[&holder])?;
    }
    let second = run(&mut host.migrate_dir()?)?.expect(REFUSED)?;
    second.says(&[&name])?;

    fs::write(&gate, "go\n")?;
    first.wait(LIMIT)?.expect(0)?;
    host.expect_running_on(&host.new)
}
