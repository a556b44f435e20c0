//! `status`: how far a migration is; with `--watch`, every change until it ends.

mod in_cluster;

use std::fmt::Write as _;
use std::io;

use livmig_engine::{
    document::Document,
    outcome::{ExitCode, Standing},
};
use rustix::fs::inotify;

use crate::cli::{
    flags::{cluster::ClusterFlags, values::Output},
    home::Home,
    terminal::drive::{load, ways_on},
    text::{output, summary, trouble::Trouble},
};
use crate::host::{
    readiness::Readiness,
    settings::Settings,
    store::{
        folder::{MigrationFolder, StateRoot},
        journal,
    },
    symlink::{LinkState, VolumeLink},
};

/// Show how far a migration is
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The migration's name, the PATH it migrates, or the workload's KIND/NAME
    migration: String,
    /// Show every change until the migration ends
    #[arg(short, long)]
    watch: bool,
    /// What to print; with --watch, json is one document a line
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    cluster: ClusterFlags,
}

/// Runs the command.
pub(crate) async fn run(args: &Args) -> Result<ExitCode, Trouble> {
    let root = StateRoot::from_environment()?;
    let folder = match Home::find(&root, &args.migration, &args.cluster).await? {
        Home::Folder(folder) => folder,
        Home::Cluster(found) => return in_cluster::run(&found, args).await,
    };
    if !args.watch {
        let document = load(&folder)?;
        match args.output {
            Output::Json => output::json(&document)?,
            Output::Text => output::text(&format!(
                "{}{}",
                summary::text(&document),
                driven(&folder, &document)
            ))?,
        }
        return Ok(ExitCode::Done);
    }
    let watching = |source: io::Error| {
        Trouble::new(
            ExitCode::Failed,
            format!("Could not watch {}: {source}", folder.journal().display()),
        )
    };
    let watch = watch(&folder).map_err(watching)?;
    let mut shown = None;
    loop {
        // Read after the watch was set: what comes later wakes it.
        let document = load(&folder)?;
        let now = match args.output {
            Output::Json => serde_json::to_string(&document.status).unwrap_or_default(),
            Output::Text => line(&document),
        };
        if shown.as_ref() != Some(&now) {
            match args.output {
                Output::Json => output::json(&document)?,
                Output::Text => {
                    output::text(&format!("{}  {now}\n", document.status.updated_at))?;
                }
            }
            shown = Some(now);
        }
        if document.status.outcome != Standing::Running || folder.holder().is_none() {
            if args.output == Output::Text {
                output::text(&driven(&folder, &document))?;
            }
            return Ok(ExitCode::Done);
        }
        watch.drain().await.map_err(watching)?;
    }
}

/// One moment in a line, without the time.
fn line(document: &Document) -> String {
    let status = &document.status;
    let mut line = status.phase.to_owned();
    if let Some(pass) = status.passes.last() {
        let _ = write!(
            line,
            ", {} passes, the last {:.2} s",
            pass.number, pass.seconds
        );
    }
    match (status.downtime_seconds, status.predicted_downtime_seconds) {
        (Some(seconds), _) => {
            let _ = write!(line, ", downtime {seconds:.2} s");
        }
        (None, Some(total)) => {
            let _ = write!(line, ", predicted downtime {:.2} s", total.expected);
        }
        (None, None) => {}
    }
    if let Some(reason) = &status.reason {
        let _ = write!(line, ", {reason}");
    }
    line
}

/// Who works on it, and what to do when nobody does.
fn driven(folder: &MigrationFolder, document: &Document) -> String {
    let name = &document.metadata.name;
    match (document.status.outcome, folder.holder()) {
        (_, Some(holder)) => format!("\ndriven by process {}\n", holder.pid),
        (standing, None) if !standing.is_final() => {
            format!(
                "\nno coordinator works on it; next: {}\n{}",
                next(folder),
                by_hand(folder, document).unwrap_or_default()
            )
        }
        _ => format!("\nfinished; next: livmig-coord cleanup {name}\n"),
    }
}

/// The commands with which the migration goes on.
fn next(folder: &MigrationFolder) -> String {
    let loaded = journal::read(&folder.journal()).unwrap_or_default();
    ways_on(folder.name(), &loaded.records)
}

/// The commands with which a person without livmig would lift a fence.
fn by_hand(folder: &MigrationFolder, document: &Document) -> Option<String> {
    let target = document.spec.target.host()?;
    let settings = Settings::load(folder.path()).ok()?;
    let link = VolumeLink::new(
        target.path.clone(),
        settings.link_text,
        target.destination.clone(),
        document.spec.uid,
    );
    (link.state().ok()? == LinkState::Fenced).then(|| {
        format!(
            "PATH leads nowhere on purpose, so that nothing writes to the source; by hand, \
             without livmig: {}, then: {}\n",
            link.command(LinkState::Source),
            settings
                .start_command
                .as_ref()
                .unwrap_or(&target.start_command)
        )
    })
}

fn watch(folder: &MigrationFolder) -> io::Result<Readiness> {
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
    inotify::add_watch(&watch, folder.journal(), inotify::WatchFlags::MODIFY)?;
    Readiness::new(watch)
}
