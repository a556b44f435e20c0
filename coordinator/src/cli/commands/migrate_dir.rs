//! `migrate-dir`: a workload's directory to another one of this host.

use std::{path::PathBuf, time::Duration};

use livmig_engine::{
    left_out::LeftOutDocument,
    outcome::ExitCode,
    spec::{HostTarget, MigrationSpec},
};
use livmig_proto::control::{LeftOut, Reason};

use crate::cli::{
    flags::{
        options::OptionArgs,
        values::{Output, duration},
    },
    terminal::{
        confirm::{self, confirmed},
        drive::{TerminalRun, conclude, drive},
    },
    text::{advice::MadeBy, output, summary::consent, trouble::Trouble},
};
use crate::{
    driver::Start,
    host::{
        platform::HostPlatform,
        preflight::Refusal,
        registration::{HostRequest, PlanError, Planned, plan, register},
        store::{folder::StateRoot, journal::FileJournal},
    },
    movers::failure::chain,
};

/// Migrate a workload's directory to another one of this host
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The symbolic link by which the workload opens its directory; it is swapped by one atomic
    /// rename
    path: PathBuf,
    /// The directory to move to; created when it does not exist
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Stops the workload, for `sh -c`; exit code 0 means stopped, also when it was stopped already
    #[arg(long, value_name = "CMD")]
    stop_cmd: String,
    /// Starts the workload, for `sh -c`; exit code 0 means ready, also when it was running already
    #[arg(long, value_name = "CMD")]
    start_cmd: String,
    #[command(flatten)]
    options: OptionArgs,
    /// Do not ask for confirmation
    #[arg(short, long)]
    yes: bool,
    /// What to print at the end
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// The mover's program [default: `LIVMIG_MOVER`, else livmig-mover beside this program]
    #[arg(long, value_name = "PATH")]
    mover: Option<PathBuf>,
    /// How long the stop command may take
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    stop_timeout: Duration,
    /// How long the start command may take
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    start_timeout: Duration,
}

/// Runs the command.
pub(crate) async fn run(args: Args) -> Result<ExitCode, Trouble> {
    let root = StateRoot::from_environment()?;
    if !args.yes {
        confirm::expect_terminal()?;
    }
    for (flag, command) in [
        ("--stop-cmd", &args.stop_cmd),
        ("--start-cmd", &args.start_cmd),
    ] {
        if command.trim().is_empty() {
            return Err(Trouble::new(ExitCode::Usage, format!("{flag} is empty"))
                .with_state("nothing was changed; the workload runs as before"));
        }
    }
    let (yes, output) = (args.yes, args.output);
    let request = request(args);
    let planned = match plan(&request, &root) {
        Ok(planned) => planned,
        Err(error) => {
            let left_out = mounted(&error, &request);
            let trouble = Trouble::from(error);
            if output == Output::Json && trouble.exit == ExitCode::Refused {
                // The refusal says more than that its document is lost.
                let _ = output::json(&refused(&request, &trouble, left_out.as_ref()));
            }
            return Err(trouble);
        }
    };
    if !yes && !confirmed(&shown(&planned.spec, &planned.target))? {
        return Err(Trouble::new(ExitCode::Interrupted, "Not confirmed")
            .with_state("nothing was changed; the workload runs as before"));
    }
    let driven = drive(begin(&planned, &root)?).await?;
    conclude(&driven, output)
}

/// Registers a planned migration, ready to be driven.
pub(crate) fn begin(
    planned: &Planned,
    root: &StateRoot,
) -> Result<TerminalRun<HostPlatform, FileJournal>, Trouble> {
    let registered = register(planned, root)?;
    let folder = registered.folder;
    let platform = HostPlatform::new(
        &planned.spec,
        &planned.target,
        &planned.settings,
        folder.path(),
    )
    .map_err(|error| Trouble::new(ExitCode::Failed, chain(&error)))?;
    Ok(TerminalRun {
        name: folder.name().clone(),
        journal: FileJournal::new(&folder, registered.lock),
        folder: folder.path().to_owned(),
        made_by: MadeBy::MigrateDir,
        registration: Some(registered.registration),
        platform,
        start: Start::New(Box::new(planned.spec.clone())),
    })
}

fn request(args: Args) -> HostRequest {
    HostRequest {
        path: args.path,
        to: args.to,
        stop_command: args.stop_cmd,
        start_command: args.start_cmd,
        stop_limit: args.stop_timeout,
        start_limit: args.start_timeout,
        options: args.options.options(confirm::on_overrun()),
        mover: args.mover,
    }
}

/// What will be done, for a person to agree to.
fn shown(spec: &MigrationSpec, target: &HostTarget) -> String {
    format!(
        "migration    {}\nPATH         {}\nsource       {}\ndestination  {}{}\nstop with    {}\n\
         start with   {}\nbudget       {:.0} s of downtime, otherwise {}\n{}",
        spec.name,
        target.path.display(),
        target.source.display(),
        target.destination.display(),
        if spec.options.adopt {
            " (taken over: what the source lacks is deleted there)"
        } else {
            ""
        },
        target.stop_command,
        target.start_command,
        spec.options.max_downtime.as_secs_f64(),
        spec.options.on_overrun,
        consent(&spec.options.leave_out)
    )
}

/// What is mounted below the source, told as a pass would, where the checks refuse that.
fn mounted(error: &PlanError, request: &HostRequest) -> Option<LeftOutDocument> {
    let PlanError::Refused(Refusal::MountInside { points, .. }) = error else {
        return None;
    };
    let source = request.path.canonicalize().ok()?;
    let mut left = LeftOut::new(Reason::Mount);
    for point in points {
        let below = point.strip_prefix(&source).unwrap_or(point);
        left.add(below.display().to_string(), String::new());
    }
    Some(LeftOutDocument::new(&left, &request.options.leave_out))
}

/// The document of a request that the checks refused: nothing is stored of it.
fn refused(
    request: &HostRequest,
    trouble: &Trouble,
    left_out: Option<&LeftOutDocument>,
) -> serde_json::Value {
    let volumes: Vec<serde_json::Value> = left_out
        .into_iter()
        .map(|left| {
            serde_json::json!({
                "claim": request.path,
                "destination": request.to,
                "notCarried": {left.reason.name(): left.total},
                "leftOut": [left],
            })
        })
        .collect();
    serde_json::json!({
        "apiVersion": livmig_engine::document::API_VERSION,
        "kind": "Migration",
        "metadata": {},
        "spec": {"target": {
            "platform": "host",
            "path": request.path,
            "destination": request.to,
            "stopCommand": request.stop_command,
            "startCommand": request.start_command,
        }, "options": {"leaveOut": request.options.leave_out}},
        "status": {
            "phase": "Planned",
            "outcome": "refused",
            "reason": trouble.error,
            "hint": trouble.next,
            "workload": trouble.state,
            "passes": [],
            "volumes": volumes,
        },
    })
}
