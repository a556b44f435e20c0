//! A user without rights migrates a workload of its own.

use std::{
    fs,
    os::unix::fs::{chown, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use livmig_tests::{
    bins, require,
    run::{Finished, run},
    scratch::Scratch,
    skip,
    tree::posix,
    writer::{check, service::Service},
};

use super::host::Host;

const NOBODY: u32 = 65_534;

/// A host on which everything belongs to nobody, its programs among it, and the workload runs.
fn start() -> Result<(Host, PathBuf)> {
    let scratch = Scratch::public()?;
    let programs = scratch.dir("programs")?;
    for name in ["livmig-coord", "livmig-mover"] {
        fs::copy(bins::path(name)?, programs.join(name))?;
    }
    fs::copy(
        env!("CARGO_BIN_EXE_livmig-writer"),
        programs.join("livmig-writer"),
    )?;
    let path = scratch.path().join("data");
    let host = Host {
        old: scratch.dir("old")?,
        new: scratch.path().join("new"),
        state_home: scratch.dir("state")?,
        service: Service {
            volume: path.clone(),
            home: scratch.dir("service")?,
        },
        path,
        scratch,
    };
    symlink(&host.old, &host.path)?;
    fs::write(host.old.join("file"), "file")?;
    for owned in [
        host.scratch.path().to_owned(),
        host.old.clone(),
        host.old.join("file"),
        host.state_home.clone(),
        host.service.home.clone(),
    ] {
        chown(owned, Some(NOBODY), Some(NOBODY))?;
    }
    as_nobody(Command::new("sh").args(["-c", &service(&host, &programs, "start")]))?.expect(0)?;
    Ok((host, programs))
}

fn service(host: &Host, programs: &Path, action: &str) -> String {
    format!(
        "{}/livmig-writer {action} {} {}",
        programs.display(),
        host.service.volume.display(),
        host.service.home.display()
    )
}

fn migrate(host: &Host, programs: &Path) -> Result<Finished> {
    let mut command = Command::new(programs.join("livmig-coord"));
    command.arg("migrate-dir").arg(&host.path);
    command.arg("--to").arg(&host.new);
    command.args(["--stop-cmd", &service(host, programs, "stop")]);
    command.args(["--start-cmd", &service(host, programs, "start")]);
    command.args(["--yes", "-o", "json"]);
    command.env("XDG_STATE_HOME", &host.state_home);
    as_nobody(&command)
}

/// Runs `command` without rights.
fn as_nobody(command: &Command) -> Result<Finished> {
    let mut wrapped = Command::new("setpriv");
    wrapped.arg(format!("--reuid={NOBODY}"));
    wrapped.arg(format!("--regid={NOBODY}"));
    wrapped.args(["--clear-groups", "--"]);
    wrapped.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            wrapped.env(name, value);
        }
    }
    run(&mut wrapped)
}

#[test]
fn a_workload_of_its_own() -> Result<()> {
    require!(skip::root());
    require!(skip::program("setpriv"));
    let (host, programs) = start()?;
    migrate(&host, &programs)?.expect(0)?;
    assert_eq!(host.path.canonicalize()?, host.new.canonicalize()?);
    host.service.stop()?;
    check::expect_complete(&host.new, &host.service.ledger())?;
    Ok(())
}

#[test]
fn a_file_that_may_not_be_read() -> Result<()> {
    require!(skip::root());
    require!(skip::program("setpriv"));
    let (host, programs) = start()?;
    let writer = host.service.running()?.context("a workload that runs")?;
    posix::set_mode(&host.old.join("file"), 0)?;
    migrate(&host, &programs)?
        .expect(1)?
        .says(&["file", "permission", "never asked to stop"])?;
    assert_eq!(host.service.running()?, Some(writer));
    assert_eq!(host.path.canonicalize()?, host.old.canonicalize()?);
    Ok(())
}
