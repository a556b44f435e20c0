//! The repository's own commands. `cargo xtask test` runs everything that can run here.

mod cargo;
mod cluster;
mod foreign;
mod images;
mod machine;
mod mutations;
mod on_cluster;
mod rules;
mod skips;
mod stage;
mod tally;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "The repository's own commands", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check, build and test everything that can run on this machine
    Test(foreign::Options),
    /// Check the house rules alone: file sizes, modules, pure crates, words, supply chain
    Rules,
    /// Turn off one rule of the mover at a time: some test must notice each
    Mutations {
        /// Only rules whose name holds this
        #[arg(default_value = "")]
        only: String,
    },
    /// Build the container images and the air-gap bundle, below target/images
    Images(images::Options),
    /// A real Kubernetes cluster on this machine
    #[command(subcommand)]
    Cluster(cluster::Command),
}

fn main() -> anyhow::Result<ExitCode> {
    match Args::parse().command {
        Command::Test(options) => test::run(&options),
        Command::Rules => test::run_rules(),
        Command::Mutations { only } => mutations::run(&only),
        Command::Images(options) => images::run(&options),
        Command::Cluster(command) => cluster::run(&command),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::Args;

    #[test]
    fn the_command_line_has_no_contradictions() {
        Args::command().debug_assert();
    }
}
