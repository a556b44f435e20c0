//! A piece of the cluster: one program with its flags, started inside a machine.

use std::{
    fmt::Display,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

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
    variables: Vec<(String, String)>,
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
    pub(super) fn variable(mut self, name: &str, value: impl Display) -> Self {
        self.variables.push((name.to_owned(), value.to_string()));
        self
    }

    /// Starts it inside `running`, where it can be seen when this returns; it outlives this
    /// program.
    pub(super) fn start(&self, layout: &Layout, running: &Running) -> Result<()> {
        let kept = Self::kept(layout, running.machine, &self.name);
        fs::create_dir_all(kept.parent().unwrap_or(&layout.run))?;
        fs::write(&kept, self.to_json().to_string())?;
        let mut command = running.enter();
        command.push(self.program.to_string_lossy().into_owned());
        command.extend(self.arguments.iter().cloned());
        let variables: Vec<(&str, &str)> = self
            .variables
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
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

    /// The piece called `name` as it was started on `machine` before.
    pub(super) fn again(layout: &Layout, machine: Machine, name: &str) -> Result<Self> {
        let kept = Self::kept(layout, machine, name);
        let text = fs::read_to_string(&kept).with_context(|| {
            format!(
                "{} has no piece {name}; `status` names those it has",
                machine.name()
            )
        })?;
        Self::of_json(&serde_json::from_str(&text)?)
            .with_context(|| format!("{} cannot be read", kept.display()))
    }

    fn kept(layout: &Layout, machine: Machine, name: &str) -> PathBuf {
        layout.run_of(machine).join(format!("pieces/{name}.json"))
    }

    fn to_json(&self) -> Value {
        let variables: Vec<_> = self
            .variables
            .iter()
            .map(|(name, value)| json!([name, value]))
            .collect();
        json!({"program": self.program, "arguments": self.arguments, "variables": variables})
    }

    fn of_json(kept: &Value) -> Option<Self> {
        let mut piece = Self::at(Path::new(kept.get("program")?.as_str()?));
        for argument in kept.get("arguments")?.as_array()? {
            piece = piece.argument(argument.as_str()?);
        }
        for variable in kept.get("variables")?.as_array()? {
            piece = piece.variable(variable.get(0)?.as_str()?, variable.get(1)?.as_str()?);
        }
        Some(piece)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_piece_starts_as_before() {
        let piece = Piece::at(Path::new("/bin/kubelet"))
            .flag("config", "a b")
            .argument("start")
            .variable("NODE_NAME", "node-a");
        let again = Piece::of_json(&piece.to_json()).unwrap();
        assert_eq!(format!("{again:?}"), format!("{piece:?}"));
        assert_eq!(again.name, "kubelet");
    }
}
