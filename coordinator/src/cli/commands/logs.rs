//! `logs`: everything that was written down about a migration.

use std::fmt::Write as _;

use livmig_engine::{
    outcome::ExitCode,
    record::{Decision, Event, Record},
};

use crate::{
    cli::{
        flags::cluster::ClusterFlags,
        home::{Home, MigrationHome, Section},
        text::{output, trouble::Trouble},
    },
    host::store::folder::StateRoot,
};

/// Print everything that was logged for a migration
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The migration's name, the PATH it migrates, or the workload's KIND/NAME
    migration: String,
    #[command(flatten)]
    cluster: ClusterFlags,
}

/// Runs the command.
pub(crate) async fn run(args: &Args) -> Result<ExitCode, Trouble> {
    let root = StateRoot::from_environment()?;
    match Home::find(&root, &args.migration, &args.cluster).await? {
        Home::Folder(home) => print(&home).await,
        Home::Cluster(home) => print(&*home).await,
    }
}

async fn print(home: &impl MigrationHome) -> Result<ExitCode, Trouble> {
    let sections = home.logs().await?;
    let texts: Vec<String> = sections.iter().map(section).collect();
    output::text(&texts.join("\n"))?;
    Ok(ExitCode::Done)
}

fn section(section: &Section) -> String {
    match section {
        Section::Text { title, text } => format!("==> {title}\n{text}"),
        Section::Journal {
            place,
            records,
            torn,
        } => {
            let place = place
                .as_ref()
                .map_or_else(String::new, |place| format!(" ({})", place.display()));
            let mut text = format!("==> journal{place}\n");
            for record in records {
                let _ = writeln!(text, "{}", line(record));
            }
            if *torn {
                let _ = writeln!(
                    text,
                    "(the last line was cut off by a crash and is left out)"
                );
            }
            text
        }
    }
}

/// A record for people.
fn line(record: &Record) -> String {
    let what = match &record.event {
        Event::Planned { .. } => "planned".to_owned(),
        Event::Adopted => "taken over by another coordinator".to_owned(),
        Event::Intent { step } => format!("{step}: begun"),
        Event::Outcome { step, .. } => format!("{step}: done"),
        Event::Failure { step, failure } => format!("{step}: failed: {failure}"),
        Event::Probed { step, found } => format!(
            "{step}: looked at: {}",
            match found {
                livmig_engine::result::Probe::Done { .. } => "done",
                livmig_engine::result::Probe::NotDone => "not done",
            }
        ),
        Event::Abandoned { step } => format!("{step}: cut off"),
        Event::Requested { request } => format!("asked for: {request:?}"),
        Event::Decided { decision } => format!("decided: {}", decided(decision)),
        Event::Commit { proof, .. } => format!("COMMIT: {}", proof.evidence),
    };
    format!("{}  epoch {}  {what}", record.at, record.epoch)
}

fn decided(decision: &Decision) -> String {
    match decision {
        Decision::Switch { prediction } => format!(
            "switch, expecting {:.2} s of downtime",
            prediction.total().expected
        ),
        Decision::Refuse { failure } => format!("refuse: {failure}"),
        Decision::RollBack { cause } => format!("roll back: {cause}"),
        Decision::Halt { step, failure } => format!("halt at {step}: {failure}"),
        _ => decision.word().to_owned(),
    }
}
