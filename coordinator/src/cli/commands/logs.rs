//! `logs`: everything that was written down about a migration.

use std::{fmt::Write as _, fs, io};

use ::kube::api::LogParams;
use k8s_openapi::api::core::v1::Pod;
use livmig_engine::{
    outcome::ExitCode,
    record::{Decision, Event, Record, spec_of},
};
use livmig_proto::control::Side;

use crate::cli::{
    flags::cluster::ClusterFlags,
    home::{Home, InCluster},
    terminal::log,
    text::{output, trouble::Trouble},
};
use crate::{
    host::store::{
        folder::{MigrationFolder, StateRoot},
        journal,
    },
    kube::api::{cluster::call, names::Names},
};

/// Print everything that was logged for a migration
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The migration's name, the PATH it migrates, or the workload's KIND/NAME
    migration: String,
    #[command(flatten)]
    cluster: ClusterFlags,
}

/// Files below a migration's folder, each with what it holds.
const FILES: [(&str, &str); 4] = [
    (log::NAME, "coordinator"),
    ("commands.log", "stop and start commands"),
    ("source/log", "source mover"),
    ("destination/log", "destination mover"),
];

/// Runs the command.
pub(crate) async fn run(args: &Args) -> Result<ExitCode, Trouble> {
    let root = StateRoot::from_environment()?;
    match Home::find(&root, &args.migration, &args.cluster).await? {
        Home::Folder(folder) => on_host(&folder),
        Home::Cluster(found) => in_cluster(&root, &found).await,
    }
}

/// The journal, what coordinators on this machine have logged, and what the movers that are there
/// still say.
async fn in_cluster(root: &StateRoot, found: &InCluster) -> Result<ExitCode, Trouble> {
    let mut text = String::from("==> journal\n");
    for record in &found.records {
        let _ = writeln!(text, "{}", line(record));
    }
    let own = root
        .path()
        .join("clusters")
        .join(found.name.as_str())
        .join(log::NAME);
    if let Ok(bytes) = fs::read(&own) {
        let _ = write!(
            text,
            "\n==> coordinator ({})\n{}",
            own.display(),
            String::from_utf8_lossy(&bytes)
        );
    }
    let volumes = spec_of(&found.records).map_or(0, |spec| spec.target.volumes().len());
    let names = Names::new(&found.name);
    let pods = found.cluster.api::<Pod>();
    for index in 0..volumes {
        for side in [Side::Source, Side::Destination] {
            let pod = names.mover(index, side);
            // A mover that is gone says nothing any more.
            if let Ok(said) = call(
                format!("read the log of {pod}"),
                pods.logs(&pod, &LogParams::default()),
            )
            .await
            {
                let _ = write!(text, "\n==> {side} mover (pod {pod})\n{said}");
            }
        }
    }
    output::text(&text)?;
    Ok(ExitCode::Done)
}

fn on_host(folder: &MigrationFolder) -> Result<ExitCode, Trouble> {
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
    output::text(&text)?;
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
