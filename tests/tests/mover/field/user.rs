//! A user with a mover of its own, which has no rights but the user's.

use std::{
    fs,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;
use livmig_tests::{
    bins,
    run::{Finished, run},
    scratch::Scratch,
};

/// Its number, and its primary group's.
pub(super) const USER: u32 = 1000;
/// Another group that it is in.
pub(super) const GROUP: u32 = 2000;

/// A user with a mover that it may run.
pub(super) struct User {
    pub(super) scratch: Scratch,
    program: PathBuf,
    work: PathBuf,
}

impl User {
    pub(super) fn new() -> Result<Self> {
        let scratch = Scratch::public()?;
        let program = scratch.path().join("livmig-mover");
        fs::copy(bins::path("livmig-mover")?, &program)?;
        let work = owned(&scratch.dir("work")?)?;
        Ok(Self {
            scratch,
            program,
            work,
        })
    }

    pub(super) fn dir(&self, name: &str) -> Result<PathBuf> {
        owned(&self.scratch.dir(name)?)
    }

    /// Runs a command as the user.
    pub(super) fn run(
        &self,
        program: &Path,
        arguments: &[&str],
        ends: [&Path; 2],
    ) -> Result<Finished> {
        let groups = GROUP.to_string();
        let user = USER.to_string();
        run(Command::new("setpriv")
            .args(["--reuid", &user, "--regid", &user, "--groups", &groups])
            .args(["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"])
            .arg(program)
            .args(arguments)
            .args(ends)
            .env("TMPDIR", &self.work))
    }

    pub(super) fn sync(&self, a: &Path, b: &Path, flags: &[&str]) -> Result<Finished> {
        let arguments = [&["sync", "--json"], flags].concat();
        self.run(&self.program, &arguments, [a, b])
    }

    /// Runs a script of a shell as the user, `$1` and `$2` being the ends.
    pub(super) fn sh(&self, script: &str, a: &Path, b: &Path) -> Result<()> {
        self.run(Path::new("sh"), &["-euc", script, "sh"], [a, b])?
            .expect(0)?;
        Ok(())
    }
}

/// Gives `path` to the user.
pub(super) fn owned(path: &Path) -> Result<PathBuf> {
    chown(path, Some(USER), Some(USER))?;
    Ok(path.to_owned())
}
