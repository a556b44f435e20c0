//! `status`: how far a migration is; with `--watch`, every change until it ends.

use std::fmt::Write as _;

use livmig_engine::{
    document::Document,
    outcome::{ExitCode, Standing},
};

use crate::{
    cli::{
        flags::{cluster::ClusterFlags, values::Output},
        home::{DrivenBy, History, Home, MigrationHome},
        text::{output, summary, trouble::Trouble},
    },
    host::store::folder::StateRoot,
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
    match Home::find(&root, &args.migration, &args.cluster).await? {
        Home::Folder(home) => show(&home, args).await,
        Home::Cluster(home) => show(&*home, args).await,
    }
}

async fn show(home: &impl MigrationHome, args: &Args) -> Result<ExitCode, Trouble> {
    if !args.watch {
        let history = home.history().await?;
        let document = history.document();
        match args.output {
            Output::Json => output::json(&document)?,
            Output::Text => output::text(&format!(
                "{}{}",
                summary::text(&document),
                driven(home, &history)
            ))?,
        }
        return Ok(ExitCode::Done);
    }
    let watch = home.watch().await?;
    let mut shown = None;
    loop {
        // Read after the watch was set: what comes later wakes it.
        let history = home.history().await?;
        let document = history.document();
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
        let running = document.status.outcome == Standing::Running;
        if !running || home.driver() == DrivenBy::Nobody {
            if args.output == Output::Text {
                output::text(&driven(home, &history))?;
            }
            return Ok(ExitCode::Done);
        }
        home.changed(&watch, &history).await?;
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
fn driven(home: &impl MigrationHome, history: &History) -> String {
    let name = home.name();
    let has_ended = history
        .machine()
        .outcome()
        .is_some_and(|outcome| outcome.is_final());
    match (home.driver(), has_ended) {
        (DrivenBy::Process(pid), _) => format!("\ndriven by process {pid}\n"),
        (_, true) => format!("\nfinished; next: livmig-coord cleanup {name}\n"),
        (DrivenBy::Nobody, false) => format!(
            "\nno coordinator works on it; next: {}\n{}",
            history.ways_on(),
            home.by_hand(history.machine()).unwrap_or_default()
        ),
        (DrivenBy::Unknown, false) => {
            format!(
                "\nnext: if no coordinator works on it: {}\n",
                history.ways_on()
            )
        }
    }
}
