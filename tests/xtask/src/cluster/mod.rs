//! `cargo xtask cluster`: a real Kubernetes cluster on this machine, in namespaces of its own.

mod cache;
mod cgroups;
mod control;
mod down;
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
mod status;
mod storage;
mod up;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::Subcommand;

use layout::{Layout, Machine};

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
        Command::Up => up::run(&layout, &crate::cargo::root()?.join("tests/cluster"))?,
        Command::Down => down::run(&layout)?,
        Command::Status => status::run(&layout)?,
        Command::Kubectl { arguments } => return kubectl::become_it(&layout, arguments),
        Command::Load { archives } => load(&layout, archives)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn load(layout: &Layout, archives: &[PathBuf]) -> Result<()> {
    for node in Machine::NODES {
        let running = namespaces::find(layout, node).with_context(|| {
            format!(
                "{} does not run: start the cluster with `cargo xtask cluster up`",
                node.name()
            )
        })?;
        for archive in archives {
            let archive = archive
                .canonicalize()
                .with_context(|| format!("{} cannot be read", archive.display()))?;
            node::import(layout, &running, &archive)?;
        }
    }
    Ok(())
}
