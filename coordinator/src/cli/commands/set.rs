//! `set`: changes the limits of a migration, also of one that runs.

use livmig_engine::{machine::Machine, outcome::ExitCode, record::Record, spec::MigrationSpec};
use livmig_proto::control::{IoPriority, Load};

use crate::cli::{
    flags::{
        cluster::{ClusterFlags, of_cluster},
        limits::Limit,
    },
    home::Home,
    text::{output, trouble::Trouble},
};
use crate::{
    host::{
        self,
        store::folder::{MigrationFolder, StateRoot},
    },
    kube::{self, api::names::Names, store::limits::ClusterLoad},
    movers::limits::Wanted as _,
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
    let home = Home::find(&root, &args.migration, &args.cluster).await?;
    let spec = running(&home.records()?, &args.migration)?;
    let load = match home {
        Home::Folder(folder) => on_host(&folder, args, spec.options.load)?,
        Home::Cluster(found) => {
            let wanted = ClusterLoad {
                cluster: found.cluster,
                names: Names::new(&spec.name),
                planned: spec.options.load,
            };
            let before = wanted.stored().await.map_err(|error| unread(&error))?;
            let load = args.over(before.unwrap_or(spec.options.load));
            kube::store::limits::store(&wanted.cluster, &spec, load)
                .await
                .map_err(|error| of_cluster(&error))?;
            load
        }
    };
    output::text(&format!(
        "{}: live passes send {}, and read with priority {}\na coordinator that runs heeds it \
         within seconds; the final pass is not limited\n",
        spec.name,
        Limit(load.bandwidth),
        load.io_priority,
    ))?;
    Ok(ExitCode::Done)
}

impl Args {
    /// What was wanted `before`, changed.
    fn over(&self, before: Load) -> Load {
        Load {
            bandwidth: self.bandwidth.map_or(before.bandwidth, |limit| limit.0),
            io_priority: self.io_priority.unwrap_or(before.io_priority),
        }
    }
}

fn on_host(folder: &MigrationFolder, args: &Args, planned: Load) -> Result<Load, Trouble> {
    let place = host::limits::path(folder.path());
    let before = host::limits::read(folder.path())
        .map_err(|error| unread(&format!("{}: {error}", place.display())))?;
    let load = args.over(before.unwrap_or(planned));
    host::limits::store(folder.path(), load).map_err(|error| {
        Trouble::new(
            ExitCode::Failed,
            format!("Could not write {}: {error}", place.display()),
        )
        .with_state("the limits are as before")
    })?;
    Ok(load)
}

fn unread(why: &str) -> Trouble {
    Trouble::new(
        ExitCode::Failed,
        format!("Could not read the limits that hold now: {why}"),
    )
    .with_state("the limits are as before")
}

/// What was planned, of a migration that has passes to come.
fn running(records: &[Record], asked: &str) -> Result<MigrationSpec, Trouble> {
    let machine =
        Machine::replay(records).map_err(|error| Trouble::because(ExitCode::Failed, &error))?;
    if machine.outcome().is_some_and(|outcome| outcome.is_final()) {
        return Err(Trouble::new(
            ExitCode::Refused,
            format!("The migration {asked} has ended, no pass will run"),
        )
        .with_state("nothing was changed")
        .with_next(format!("livmig-coord status {asked}")));
    }
    Ok(machine.spec().clone())
}
