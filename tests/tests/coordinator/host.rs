//! One machine with a workload on a volume behind a symbolic link, and its coordinator.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use livmig_tests::{
    bins,
    journal::Journals,
    rng::Rng,
    run::{Finished, LIMIT, Running, run},
    scratch::Scratch,
    tree::random,
    writer::{check, service::Service},
};
use rustix::process::{Pid, Signal};

/// A workload, its volume, and room for another one.
pub(crate) struct Host {
    /// The link that the workload opens.
    pub(crate) path: PathBuf,
    /// What it leads to at first.
    pub(crate) old: PathBuf,
    /// Where the data is to go; missing at first.
    pub(crate) new: PathBuf,
    /// `$XDG_STATE_HOME`.
    pub(crate) state_home: PathBuf,
    /// The workload.
    pub(crate) service: Service,
    pub(crate) scratch: Scratch,
}

impl Host {
    /// A host whose workload runs.
    pub(crate) fn start() -> Result<Self> {
        let scratch = Scratch::new()?;
        let old = scratch.dir("old")?;
        random::make(&old, 60, &mut Rng::new(70))?;
        let path = scratch.path().join("data");
        symlink(&old, &path)?;
        let host = Self {
            new: scratch.path().join("new"),
            state_home: scratch.dir("state")?,
            service: Service {
                volume: path.clone(),
                home: scratch.dir("service")?,
            },
            path,
            old,
            scratch,
        };
        host.service.start(&writer())?;
        Ok(host)
    }

    /// The coordinator's command line, from here on.
    pub(crate) fn coord(&self) -> Result<Command> {
        let mut command = bins::coord()?;
        command.env("XDG_STATE_HOME", &self.state_home);
        Ok(command)
    }

    /// `migrate-dir` of the volume with the service's commands.
    pub(crate) fn migrate_dir(&self) -> Result<Command> {
        self.migrate_dir_with(
            &self.service_command("stop"),
            &self.service_command("start"),
        )
    }

    /// `migrate-dir` of the volume with these commands.
    pub(crate) fn migrate_dir_with(&self, stop: &str, start: &str) -> Result<Command> {
        let mut command = self.coord()?;
        command.arg("migrate-dir").arg(&self.path);
        command.arg("--to").arg(&self.new);
        command.args(["--stop-cmd", stop, "--start-cmd", start]);
        command.args(["--yes", "-o", "json"]);
        Ok(command)
    }

    /// A shell command that starts or stops the service.
    pub(crate) fn service_command(&self, action: &str) -> String {
        let quoted = |path: &Path| format!("'{}'", path.display());
        format!(
            "{} {action} {} {}",
            quoted(&writer()),
            quoted(&self.service.volume),
            quoted(&self.service.home)
        )
    }

    /// Runs `migrate-dir`, which must end with `code`.
    pub(crate) fn migrate(&self, code: i32) -> Result<Finished> {
        run(&mut self.migrate_dir()?)?.expect(code)
    }

    /// Goes on with the only migration there is, to whatever end.
    pub(crate) fn resume(&self) -> Result<Finished> {
        let name = self.migration()?;
        run(self.coord()?.args(["resume", &name, "-o", "json"]))
    }

    /// The name of the only migration there is.
    pub(crate) fn migration(&self) -> Result<String> {
        let names = Journals::watch(&self.state_home)?.migrations()?;
        match names.as_slice() {
            [name] => Ok(name.clone()),
            _ => anyhow::bail!("not one migration but {names:?}"),
        }
    }

    /// Fails unless the workload runs on `volume`, has lost nothing, and no mover is left.
    pub(crate) fn expect_running_on(&self, volume: &Path) -> Result<()> {
        ensure!(
            self.path.canonicalize()? == volume.canonicalize()?,
            "{} leads to {}",
            self.path.display(),
            self.path.canonicalize()?.display()
        );
        ensure!(
            self.service.running()?.is_some(),
            "the workload does not run"
        );
        self.service.stop()?;
        let records = check::expect_complete(volume, &self.service.ledger())?;
        ensure!(records > 0, "the workload has written nothing");
        // It can go on there.
        self.service.start(&writer())?;
        let left = self.processes("livmig-mover")?;
        ensure!(left.is_empty(), "movers are left: {left:?}");
        Ok(())
    }

    /// Fails unless nothing has happened: the workload never stopped since `writer` was its
    /// process, and there is nothing new.
    pub(crate) fn expect_untouched(&self, writer: Option<Pid>) -> Result<()> {
        ensure!(
            self.service.running()? == writer,
            "the workload was stopped"
        );
        self.expect_running_on(&self.old)
    }

    /// The processes that run `program` on anything of this host.
    pub(crate) fn processes(&self, program: &str) -> Result<Vec<Pid>> {
        let here = self.scratch.path().as_os_str().as_encoded_bytes().to_vec();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let entry = entry?;
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            else {
                continue;
            };
            // A process that has ended meanwhile has no command line.
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let first = line.split(|byte| *byte == 0).next().unwrap_or_default();
            if first.ends_with(program.as_bytes()) && contains(&line, &here) {
                found.extend(Pid::from_raw(pid));
            }
        }
        Ok(found)
    }
}

impl Drop for Host {
    /// A test that failed leaves nothing running either.
    fn drop(&mut self) {
        let _ = self.service.stop();
        for program in ["livmig-mover", "livmig-coord", "livmig-writer"] {
            for pid in self.processes(program).unwrap_or_default() {
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
        }
    }
}

/// Starts `command` and kills it, as `kill -9` does, at the first record that is `wanted`.
/// Whether there was one before it ended.
pub(crate) fn kill_at(
    host: &Host,
    command: &mut Command,
    wanted: impl Fn(&serde_json::Value) -> bool,
) -> Result<bool> {
    let mut journals = Journals::watch(&host.state_home)?;
    let coordinator = Running::start(command)?;
    let reached = journals.wait_for(&coordinator, wanted)?;
    coordinator.signal(Signal::KILL)?;
    let finished = coordinator.wait(LIMIT)?;
    if !reached {
        return Err(anyhow::anyhow!("{}\n{}", finished.stdout, finished.stderr))
            .context("the record never came");
    }
    Ok(finished.status.code().is_none())
}

pub(crate) fn writer() -> PathBuf {
    env!("CARGO_BIN_EXE_livmig-writer").into()
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
