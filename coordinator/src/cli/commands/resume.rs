//! `resume` and `rollback`: taking a migration over.

use livmig_engine::{
    outcome::{ExitCode, Outcome},
    request::Request,
};

use super::migrate;
use crate::cli::{
    flags::{cluster::ClusterFlags, values::Output},
    home::{History, Home, InCluster, MigrationHome as _, find::host_target},
    terminal::drive::{Driven, TerminalRun, conclude, drive},
    text::{advice::MadeBy, trouble::Trouble},
};
use crate::{
    driver::Start,
    host::{
        movers::find_program,
        platform::HostPlatform,
        settings::Settings,
        store::{
            folder::{MigrationFolder, StateRoot},
            journal::{self, FileJournal},
        },
    },
    movers::failure::chain,
};

/// Go on with a migration that was interrupted, killed or halted
#[derive(Debug, clap::Args)]
pub(crate) struct ResumeArgs {
    /// The migration's name, the PATH it migrates, or the workload's KIND/NAME
    migration: String,
    /// Start the workload by this command from now on, when the first one turned out to be wrong
    #[arg(long, value_name = "CMD")]
    start_cmd: Option<String>,
    /// What to print at the end
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    cluster: ClusterFlags,
}

/// Undo a migration that has not passed the point of no return
#[derive(Debug, clap::Args)]
pub(crate) struct RollbackArgs {
    /// The migration's name, the PATH it migrates, or the workload's KIND/NAME
    migration: String,
    /// Start the workload by this command from now on, when the first one turned out to be wrong
    #[arg(long, value_name = "CMD")]
    start_cmd: Option<String>,
    /// What to print at the end
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    cluster: ClusterFlags,
}

/// Runs `resume`.
pub(crate) async fn resume(args: ResumeArgs) -> Result<ExitCode, Trouble> {
    let driven = take_over(&args.migration, &args.cluster, args.start_cmd, None).await?;
    conclude(&driven, args.output)
}

/// Runs `rollback`.
pub(crate) async fn rollback(args: RollbackArgs) -> Result<ExitCode, Trouble> {
    let request = Some(Request::RollBack);
    let driven = take_over(&args.migration, &args.cluster, args.start_cmd, request).await?;
    let ended = conclude(&driven, args.output);
    match driven.outcome {
        // Undone is what was asked for.
        Outcome::RolledBack { .. } | Outcome::Failed { .. } | Outcome::Refused { .. } => {
            Ok(ExitCode::Done)
        }
        Outcome::Completed => Err(Trouble::new(
            ExitCode::Refused,
            "The migration has completed; there is nothing to roll back",
        )
        .with_state(driven.document.status.workload.clone())
        .with_next("to go back, migrate in the other direction")),
        Outcome::Halted { .. } | Outcome::Interrupted => ended,
    }
}

/// Runs the migration on. One that has ended is only told about.
async fn take_over(
    migration: &str,
    flags: &ClusterFlags,
    start_command: Option<String>,
    request: Option<Request>,
) -> Result<Driven, Trouble> {
    let root = StateRoot::from_environment()?;
    match Home::find(&root, migration, flags).await? {
        Home::Folder(folder) => on_host(folder, start_command, request).await,
        Home::Cluster(found) => in_cluster(*found, request).await,
    }
}

async fn in_cluster(found: InCluster, request: Option<Request>) -> Result<Driven, Trouble> {
    let history = found.history().await?;
    if let Some(outcome) = history.machine().outcome().filter(Outcome::is_final) {
        return Ok(Driven {
            outcome,
            document: history.document(),
            made_by: MadeBy::Migrate,
        });
    }
    migrate::take_over(&found.cluster, history.machine().spec(), request).await
}

async fn on_host(
    folder: MigrationFolder,
    start_command: Option<String>,
    request: Option<Request>,
) -> Result<Driven, Trouble> {
    let lock = folder.lock()?;
    let loaded = journal::read(&folder.journal())?;
    if loaded.records.is_empty() {
        return Err(Trouble::new(
            ExitCode::Failed,
            format!(
                "The journal {} does not say what is migrated: the coordinator died before it \
                 had begun",
                folder.journal().display()
            ),
        )
        .with_state("nothing was changed; the workload runs as before")
        .with_next("begin again with livmig-coord migrate-dir"));
    }
    let history = History::of(folder.name(), loaded.records)?;
    if let Some(outcome) = history.machine().outcome().filter(Outcome::is_final) {
        return Ok(Driven {
            outcome,
            document: history.document(),
            made_by: MadeBy::MigrateDir,
        });
    }
    let spec = history.machine().spec();
    let unusable = |error| {
        let path = Settings::path(folder.path());
        Trouble::new(
            ExitCode::Failed,
            format!("Could not use {}: {error}", path.display()),
        )
        .with_state("nothing was changed by this command")
    };
    let mut settings = Settings::load(folder.path()).map_err(unusable)?;
    if start_command.is_some() {
        settings.start_command = start_command;
        settings.store(folder.path()).map_err(unusable)?;
    }
    let target = host_target(spec)?;
    let platform = HostPlatform::new(spec, target, &with_program(settings), folder.path())
        .map_err(|error| {
            Trouble::new(ExitCode::Failed, chain(&error))
                .with_state("nothing was changed by this command")
        })?;
    drive(TerminalRun {
        name: folder.name().clone(),
        journal: FileJournal::new(&folder, lock),
        folder: folder.path().to_owned(),
        made_by: MadeBy::MigrateDir,
        registration: None,
        platform,
        start: Start::Resume { request },
    })
    .await
}

/// The settings with a mover's program that is there: the old one may have been replaced since.
fn with_program(settings: Settings) -> Settings {
    match find_program(Some(&settings.mover)).or_else(|_| find_program(None)) {
        Ok(mover) => Settings { mover, ..settings },
        // Not every way on needs a new mover; one that does will name what is missing.
        Err(_) => settings,
    }
}
