//! `logs`: everything that was written down about a migration.

use std::{fmt::Write as _, fs, io};

use livmig_engine::{
    outcome::ExitCode,
    record::{Decision, Event, Record},
};

use super::{find::find, log, out, report::Trouble};
use crate::store::{folder::StateRoot, journal};

/// Print everything that was logged for a migration
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The migration's name, or the PATH it migrates
    migration: String,
}

/// Files below a migration's folder, each with what it holds.
const FILES: [(&str, &str); 4] = [
    (log::NAME, "coordinator"),
    ("commands.log", "stop and start commands"),
    ("source/log", "source mover"),
    ("destination/log", "destination mover"),
];

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<ExitCode, Trouble> {
    let root = StateRoot::from_environment()?;
    let folder = find(&root, &args.migration)?;
    let loaded = journal::read(&folder.journal())?;
    let mut text = format!("==> journal ({})\n", folder.journal().display());
    for record in &loaded.records {
        let _ = writeln!(text, "{}", line(record));
    }
    if loaded.torn > 0 {
        let _ = writeln!(
            text,
            "(the last line was cut off by a crash and is left out)"
        );
    }
    for (name, what) in FILES {
        let path = folder.path().join(name);
        match fs::read(&path) {
            Ok(bytes) if bytes.is_empty() => {}
            Ok(bytes) => {
                let _ = write!(
                    text,
                    "\n==> {what} ({})\n{}",
                    path.display(),
                    String::from_utf8_lossy(&bytes)
                );
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(Trouble::new(
                    ExitCode::Failed,
                    format!("Could not read {}: {error}", path.display()),
                ));
            }
        }
    }
    out::text(&text)?;
    Ok(ExitCode::Done)
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
