//! `set`: changes the limits of a migration, also of one that runs.

use livmig_engine::{machine::Machine, outcome::ExitCode};
use livmig_proto::control::{IoPriority, Limits};

use crate::{
    cli::{
        flags::{cluster::ClusterFlags, limits::Limit},
        home::{Home, MigrationHome},
        text::{output, trouble::Trouble},
    },
    host::store::folder::StateRoot,
};

/// Change the limits of a migration's live passes, also of the one under way
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The migration's name, the PATH it migrates, or the workload's KIND/NAME
    migration: String,
    /// Bytes a second that live passes send at most, as in 50M or 64Mi; or none
    #[arg(long, value_name = "SIZE", required_unless_present = "io_priority")]
    bandwidth: Option<Limit>,
    /// How the reads of live passes yield to the workload: idle, best-effort or none
    #[arg(long, value_name = "CLASS")]
    io_priority: Option<IoPriority>,
    #[command(flatten)]
    cluster: ClusterFlags,
}

/// Runs the command.
pub(crate) async fn run(args: &Args) -> Result<ExitCode, Trouble> {
    let root = StateRoot::from_environment()?;
    match Home::find(&root, &args.migration, &args.cluster).await? {
        Home::Folder(home) => set(&home, args).await,
        Home::Cluster(home) => set(&*home, args).await,
    }
}

async fn set(home: &impl MigrationHome, args: &Args) -> Result<ExitCode, Trouble> {
    let history = home.history().await?;
    let machine = history.machine();
    refuse_ended(machine, &args.migration)?;
    let planned = machine.spec().options.load;
    let before = home.limits(machine).await.map_err(|why| unread(&why))?;
    let load = args.over(before.unwrap_or(planned));
    home.set_limits(machine, load).await?;
    output::text(&format!(
        "{}: live passes send {}, and read with priority {}\na coordinator that runs heeds it \
         within seconds; the final pass is not limited\n",
        home.name(),
        Limit(load.bandwidth),
        load.io_priority,
    ))?;
    Ok(ExitCode::Done)
}

impl Args {
    /// What was wanted `before`, changed.
    fn over(&self, before: Limits) -> Limits {
        Limits {
            bandwidth: self.bandwidth.map_or(before.bandwidth, |limit| limit.0),
            io_priority: self.io_priority.unwrap_or(before.io_priority),
        }
    }
}

fn unread(why: &str) -> Trouble {
    Trouble::new(
        ExitCode::Failed,
        format!("Could not read the limits that hold now: {why}"),
    )
    .with_state("the limits are as before")
}

/// Fails where no pass will run any more.
fn refuse_ended(machine: &Machine, asked: &str) -> Result<(), Trouble> {
    if machine.outcome().is_some_and(|outcome| outcome.is_final()) {
        return Err(Trouble::new(
            ExitCode::Refused,
            format!("The migration {asked} has ended, no pass will run"),
        )
        .with_state("nothing was changed")
        .with_next(format!("livmig-coord status {asked}")));
    }
    Ok(())
}
