//! `cargo xtask cluster`: a real Kubernetes cluster on this machine, in namespaces of its own.

mod answer;
mod cache;
mod cgroups;
mod control;
mod down;
mod example;
mod images;
mod kubectl;
mod layout;
mod namespaces;
mod network;
mod node;
mod packages;
mod piece;
mod pki;
mod process;
mod programs;
mod sanity;
mod status;
mod storage;
mod testapp;
mod up;
mod versus;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::Subcommand;

use layout::{Layout, Machine};
use namespaces::Running;
use piece::Piece;

/// What to do with the cluster.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Build and start it: two nodes, three kinds of storage, no way out
    Up,
    /// End it and remove everything it made
    Down,
    /// Say what runs
    Status,
    /// Run kubectl as its administrator
    #[command(disable_help_flag = true)]
    Kubectl {
        /// What to give kubectl
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Start a piece again that has ended, as it was: `start node-a kubelet`
    Start {
        /// The machine
        #[arg(value_parser = machine)]
        machine: Machine,
        /// The piece, as `status` names it
        piece: String,
    },
    /// Judge the CSI test driver by its own tests and by csi-sanity; needs no cluster
    Sanity,
    /// The example of deploy/example from start to clean-up; prints one JSON document
    Example(example::Options),
    /// livmig beside `rsync -aHAX` on the same data; prints one JSON document
    Versus(versus::Options),
    /// Import image archives (OCI) on both nodes, for pods that do not pull
    Load {
        /// The archives
        #[arg(required = true)]
        archives: Vec<PathBuf>,
    },
}

/// Does it.
pub(crate) fn run(command: &Command) -> Result<ExitCode> {
    let layout = Layout::of_environment()?;
    match command {
        Command::Up => up::run(&layout, &sources()?)?,
        Command::Down => down::run(&layout)?,
        Command::Status => status::run(&layout)?,
        Command::Kubectl { arguments } => return kubectl::become_it(&layout, arguments),
        Command::Start { machine, piece } => start(&layout, *machine, piece)?,
        Command::Sanity => sanity::run(&layout, &sources()?)?,
        Command::Example(options) => return example::run(&layout, &sources()?, options),
        Command::Versus(options) => return versus::run(&layout, &sources()?, options),
        Command::Load { archives } => load(&layout, archives)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The folder of the Go module.
fn sources() -> Result<PathBuf> {
    Ok(crate::cargo::root()?.join("tests/cluster"))
}

/// The machine called `name`.
fn machine(name: &str) -> Result<Machine, String> {
    Machine::ALL
        .into_iter()
        .find(|machine| machine.name() == name)
        .ok_or_else(|| {
            format!(
                "the machines are {}",
                Machine::ALL.map(Machine::name).join(", ")
            )
        })
}

/// `machine`, which must run.
fn running(layout: &Layout, machine: Machine) -> Result<Running> {
    namespaces::find(layout, machine).with_context(|| {
        format!(
            "{} does not run: start the cluster with `cargo xtask cluster up`",
            machine.name()
        )
    })
}

fn start(layout: &Layout, machine: Machine, piece: &str) -> Result<()> {
    let running = running(layout, machine)?;
    if running.processes().iter().any(|found| found.name == piece) {
        println!("{piece} on {} already runs.", machine.name());
        return Ok(());
    }
    Piece::again(layout, machine, piece)?.start(layout, &running)
}

fn load(layout: &Layout, archives: &[PathBuf]) -> Result<()> {
    for node in Machine::NODES {
        let running = running(layout, node)?;
        for archive in archives {
            let archive = archive
                .canonicalize()
                .with_context(|| format!("{} cannot be read", archive.display()))?;
            node::import(layout, &running, &archive)?;
        }
    }
    Ok(())
}
