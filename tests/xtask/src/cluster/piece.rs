//! A piece of the cluster: one program with its flags, started inside a machine.

use std::{
    fmt::Display,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Result, bail};

use super::{
    cgroups,
    layout::{Layout, Machine},
    namespaces::Running,
    process::{self, Process, await_value},
};

/// A program to start.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    name: String,
    program: PathBuf,
    arguments: Vec<String>,
    variables: Vec<(&'static str, String)>,
}

impl Piece {
    /// A program of the cluster's own, by the name of its part.
    pub(super) fn new(layout: &Layout, name: &str) -> Self {
        Self::at(&layout.program(name))
    }

    /// The program at `path`.
    pub(super) fn at(path: &Path) -> Self {
        Self {
            name: path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            program: path.to_owned(),
            arguments: Vec::new(),
            variables: Vec::new(),
        }
    }

    /// Adds `--name=value`.
    pub(super) fn flag(mut self, name: &str, value: impl Display) -> Self {
        self.arguments.push(format!("--{name}={value}"));
        self
    }

    /// Adds an argument as it is.
    pub(super) fn argument(mut self, argument: impl Display) -> Self {
        self.arguments.push(argument.to_string());
        self
    }

    /// Sets an environment variable.
    pub(super) fn variable(mut self, name: &'static str, value: impl Display) -> Self {
        self.variables.push((name, value.to_string()));
        self
    }

    /// Starts it inside `running`, where it can be seen when this returns; it outlives this
    /// program.
    pub(super) fn start(&self, layout: &Layout, running: &Running) -> Result<()> {
        let mut command = running.enter();
        command.push(self.program.to_string_lossy().into_owned());
        command.extend(self.arguments.iter().cloned());
        let variables: Vec<(&str, &str)> = self
            .variables
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let log = Self::log_of(layout, running.machine, &self.name);
        let outer = process::start(&command, &variables, &cgroups::procs(&layout.name)?, &log)?;
        let what = format!("The start of {} on {}", self.name, running.machine.name());
        await_value(&what, Duration::from_secs(10), || {
            let seen = running
                .processes()
                .iter()
                .any(|found| found.name == self.name);
            if !seen && Process::of(outer).is_none() {
                bail!("{what} failed: read {}", log.display());
            }
            Ok(seen.then_some(()))
        })
    }

    /// Fails when one of `pieces` does not run inside `running`.
    pub(super) fn check(layout: &Layout, running: &Running, pieces: &[&str]) -> Result<()> {
        let alive = running.processes();
        for piece in pieces {
            if !alive.iter().any(|process| process.name == *piece) {
                bail!(
                    "{piece} on {} has ended: read {}",
                    running.machine.name(),
                    Self::log_of(layout, running.machine, piece).display()
                );
            }
        }
        Ok(())
    }

    /// Where what `piece` on `machine` says goes.
    pub(super) fn log_of(layout: &Layout, machine: Machine, piece: &str) -> PathBuf {
        layout.run_of(machine).join(format!("log/{piece}.log"))
    }
}
