//! The command line. Flags are parsed here; each command does its work in a file of its own.

mod commands;
mod flags;
mod home;
mod terminal;
mod text;

use std::{ffi::OsString, io::Write as _};

use clap::{Parser, Subcommand};
use livmig_engine::outcome::ExitCode;

use self::{
    commands::{cleanup, demo, get, images, logs, migrate, migrate_dir, plan, resume, set, status},
    terminal::log,
    text::trouble::Trouble,
};

/// Move a running stateful workload to other storage, with seconds of downtime and without losing
/// one acknowledged write.
#[derive(Debug, Parser)]
#[command(name = "livmig-coord", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show a whole migration on this machine, under a workload that never stops writing
    Demo(demo::Args),
    /// Check whether a workload's claims can move to another class, and show how
    Plan(plan::Args),
    /// Migrate a workload's claims to another storage class
    Migrate(migrate::Args),
    /// Migrate a workload's directory to another one of this host
    MigrateDir(migrate_dir::Args),
    /// List migrations, or show one
    Get(get::Args),
    /// Show how far a migration is
    Status(status::Args),
    /// Print everything that was logged for a migration
    Logs(logs::Args),
    /// Change the limits of a migration's live passes, also of the one under way
    Set(set::Args),
    /// Go on with a migration that was interrupted, killed or halted
    Resume(resume::ResumeArgs),
    /// Undo a migration that has not passed the point of no return
    Rollback(resume::RollbackArgs),
    /// Forget a finished migration; on request, remove the old volume
    Cleanup(cleanup::Args),
    /// List the container images that a private registry must hold
    Images(images::Args),
    #[command(hide = true)]
    DemoWorkload(demo::WorkloadArgs),
}

/// Runs the command line and says how the program should exit. Everything that people must know
/// has been printed when this returns.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to standard output and is no error; a closed pipe is none either.
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::Usage
            } else {
                ExitCode::Done
            };
        }
    };
    log::init();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            return tell(&Trouble::new(
                ExitCode::Failed,
                format!("Could not start the runtime: {error}"),
            ));
        }
    };
    let ended = runtime.block_on(dispatch(cli.command));
    // Threads that wait for a terminal are left behind.
    runtime.shutdown_background();
    ended.unwrap_or_else(|trouble| tell(&trouble))
}

async fn dispatch(command: Command) -> Result<ExitCode, Trouble> {
    match command {
        Command::Demo(args) => demo::run(args).await,
        Command::Plan(args) => plan::run(args).await,
        Command::Migrate(args) => Box::pin(migrate::run(args)).await,
        Command::MigrateDir(args) => migrate_dir::run(args).await,
        Command::Get(args) => get::run(&args).await,
        Command::Status(args) => status::run(&args).await,
        Command::Logs(args) => logs::run(&args).await,
        Command::Set(args) => Box::pin(set::run(&args)).await,
        Command::Resume(args) => Box::pin(resume::resume(args)).await,
        Command::Rollback(args) => Box::pin(resume::rollback(args)).await,
        Command::Cleanup(args) => cleanup::run(&args).await,
        Command::Images(args) => images::run(&args),
        Command::DemoWorkload(args) => demo::workload(args).await,
    }
}

fn tell(trouble: &Trouble) -> ExitCode {
    // Nobody listens any more: the exit code still says it.
    let _ = write!(std::io::stderr(), "{trouble}");
    trouble.exit
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
