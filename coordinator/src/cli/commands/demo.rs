//! `demo`: a whole migration on this machine, by the same path as `migrate-dir`, and an
//! independent look at the result.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use livmig_engine::{
    outcome::{ExitCode, Outcome},
    request::Request,
    spec::{OnOverrun, Options},
};
use livmig_proto::size;

use super::migrate_dir::begin;
use crate::cli::{
    flags::values::{Output, Verify, duration},
    home::find::find,
    terminal::drive::{Driven, TerminalRun, drive},
    text::{
        advice::MadeBy,
        amounts::bytes,
        output, summary,
        trouble::{self, Trouble},
    },
};
use crate::{
    demo::{
        check::{self, Findings},
        control,
        layout::Layout,
        stage, writer,
    },
    driver::Start,
    host::{
        platform::HostPlatform,
        registration::{HostRequest, Planned, plan},
        store::{folder::StateRoot, journal::FileJournal},
        symlink::quote,
    },
};

/// Show a whole migration on this machine, under a workload that never stops writing
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to make the demonstration's folder [default: a fresh one below TMPDIR or /tmp]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// How much data to make
    #[arg(long, value_name = "SIZE", default_value = "512Mi", value_parser = size::parse)]
    size: u64,
    /// How many small files it is in, beside one large file and one of every odd thing
    #[arg(long, value_name = "N", default_value_t = 2000)]
    files: u64,
    /// Writes that the workload makes in a second, at most
    #[arg(long, value_name = "N", default_value_t = 200)]
    rate: u32,
    /// The longest downtime to accept
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    max_downtime: Duration,
    /// How the destination is proven
    #[arg(long, value_enum, default_value_t)]
    verify: Verify,
    /// Keep the demonstration's folder and the migration's state
    #[arg(long)]
    keep: bool,
    /// What to print at the end
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// The mover's program [default: `LIVMIG_MOVER`, else livmig-mover beside this program]
    #[arg(long, value_name = "PATH")]
    mover: Option<PathBuf>,
}

/// The parts of a demonstration one by one: what its stop and start commands call
#[derive(Debug, clap::Args)]
pub(crate) struct WorkloadArgs {
    #[arg(value_enum)]
    action: WorkloadAction,
    /// The demonstration's folder
    #[arg(long)]
    folder: PathBuf,
    /// For `stage`: how much data to make
    #[arg(long, default_value = "512Mi", value_parser = size::parse)]
    size: u64,
    /// For `stage`: how many small files it is in
    #[arg(long, default_value_t = 2000)]
    files: u64,
    /// For `stage`: writes in a second, at most
    #[arg(long, default_value_t = 200)]
    rate: u32,
}

/// What the hidden command does.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum WorkloadAction {
    /// Make the volume and the link to it.
    Stage,
    /// Be the workload.
    Run,
    /// Stop it.
    Stop,
    /// Start it.
    Start,
    /// Look for everything acknowledged, on the volume that the link leads to.
    Check,
}

/// Runs the hidden command.
pub(crate) async fn workload(args: WorkloadArgs) -> Result<ExitCode, Trouble> {
    let failed = |error: io::Error| Trouble::new(ExitCode::Failed, error.to_string());
    if let WorkloadAction::Stage = args.action {
        let layout = stage::claim(Some(&args.folder)).map_err(failed)?;
        let stop = AtomicBool::new(false);
        stage::set(&layout, args.size, args.files, args.rate, &stop).map_err(failed)?;
        return Ok(ExitCode::Done);
    }
    let layout = Layout::new(args.folder.canonicalize().map_err(failed)?);
    match args.action {
        WorkloadAction::Stage => {}
        WorkloadAction::Run => writer::run(&layout).await.map_err(failed)?,
        WorkloadAction::Stop => control::stop(&layout).await.map_err(failed)?,
        WorkloadAction::Start => control::start(&layout).map_err(failed)?,
        WorkloadAction::Check => {
            let findings = check::check(&layout).map_err(failed)?;
            output::json(&findings)?;
            if let Some(wrong) = findings.wrong.first() {
                return Err(Trouble::new(ExitCode::Failed, wrong));
            }
        }
    }
    Ok(ExitCode::Done)
}

/// Runs the command.
pub(crate) async fn run(args: Args) -> Result<ExitCode, Trouble> {
    let root = StateRoot::from_environment()?;
    let layout = stage::claim(args.dir.as_deref()).map_err(|error| {
        Trouble::new(ExitCode::Usage, error.to_string())
            .with_next("livmig-coord demo --dir DIR, where DIR does not exist or is empty")
    })?;
    let ended = perform(&args, &layout, &root).await;
    // Whatever happened: nothing that this command started goes on writing.
    let stopped = control::stop(&layout).await;
    let folder = layout.folder().display();
    match (&ended, stopped) {
        (_, Err(error)) => say(&format!("the workload could not be stopped: {error}")),
        (Ok(_), Ok(())) if args.keep => say(&kept(&layout, &root)),
        (Err(trouble), Ok(())) if trouble.exit != ExitCode::Interrupted => {
            say(&kept(&layout, &root));
        }
        _ => {
            if let Err(error) = std::fs::remove_dir_all(layout.folder()) {
                say(&format!("could not remove {folder}: {error}"));
            }
        }
    }
    ended
}

/// What is kept for a look, and the commands that remove it.
fn kept(layout: &Layout, root: &StateRoot) -> String {
    let folder = quote(layout.folder().as_os_str());
    let link = layout.link();
    let registered = link.to_str().is_some_and(|path| find(root, path).is_ok());
    let forget = if registered {
        format!("livmig-coord cleanup {} && ", quote(link.as_os_str()))
    } else {
        String::new()
    };
    format!(
        "kept for a look: {folder}; the workload was stopped; once seen: {forget}rm -r {folder}"
    )
}

async fn perform(args: &Args, layout: &Layout, root: &StateRoot) -> Result<ExitCode, Trouble> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: io::Error| Trouble::new(ExitCode::Failed, format!("{what}: {error}"))
    };
    say(&format!(
        "demo: making {} of data in {}",
        bytes(args.size),
        layout.folder().display()
    ));
    let stop = Arc::new(AtomicBool::new(false));
    let mut making = {
        let (layout, stop) = (layout.clone(), Arc::clone(&stop));
        let (size, files, rate) = (args.size, args.files, args.rate);
        tokio::task::spawn_blocking(move || stage::set(&layout, size, files, rate, &stop))
    };
    tokio::select! {
        made = &mut making => made
            .map_err(|error| Trouble::new(ExitCode::Failed, error.to_string()))?
            .map_err(failed("Could not make the demonstration's data"))?,
        _ = tokio::signal::ctrl_c() => {
            stop.store(true, Ordering::Relaxed);
            // Whatever it came to: nothing may be made any more when the folder is removed.
            let _ = making.await;
            return Err(Trouble::new(
                ExitCode::Interrupted,
                "interrupted before the migration began",
            ));
        }
    }
    control::start(layout).map_err(failed("Could not start the demonstration's workload"))?;
    say("demo: the workload appends records, rewrites pages, creates, renames and deletes files");

    let planned = plan(&request(args, layout)?, root)?;
    let driven = drive(begin(&planned, root)?).await?;
    let driven = match driven.outcome {
        // A demonstration leaves nothing half done behind.
        Outcome::Interrupted => roll_back(&planned, root).await?,
        _ => driven,
    };
    if let Some(trouble) = trouble::of_outcome(&driven.outcome, &driven.document, MadeBy::Demo) {
        if trouble.exit == ExitCode::Interrupted || is_given_up(&driven.outcome) {
            forget(&planned, root)?;
            return Err(Trouble::new(
                ExitCode::Interrupted,
                "interrupted; the demonstration was rolled back and cleaned up",
            ));
        }
        return Err(trouble);
    }

    control::stop(layout)
        .await
        .map_err(failed("Could not stop the demonstration's workload"))?;
    let checking = layout.clone();
    let findings = tokio::task::spawn_blocking(move || check::check(&checking))
        .await
        .map_err(|error| Trouble::new(ExitCode::Failed, error.to_string()))?
        .map_err(failed("Could not look at the result"))?;
    show(args, layout, &driven, &findings)?;
    if !findings.moved(layout) {
        return Err(Trouble::new(
            ExitCode::Failed,
            format!(
                "The new volume {} is not right ({} writes were acknowledged on it): {}",
                findings.volume.display(),
                findings.acknowledged_after,
                findings.wrong.join("; ")
            ),
        )
        .with_state(format!(
            "the old data still lies in {}",
            layout.old().display()
        )));
    }
    if !args.keep {
        forget(&planned, root)?;
    }
    Ok(ExitCode::Done)
}

fn request(args: &Args, layout: &Layout) -> Result<HostRequest, Trouble> {
    let program = std::env::current_exe()
        .map_err(|error| Trouble::new(ExitCode::Failed, error.to_string()))?;
    let command = |action: &str| {
        format!(
            "{} demo-workload {action} --folder {}",
            quote(program.as_os_str()),
            quote(layout.folder().as_os_str())
        )
    };
    Ok(HostRequest {
        path: layout.link(),
        to: layout.new_volume(),
        stop_command: command("stop"),
        start_command: command("start"),
        stop_limit: Duration::from_mins(1),
        start_limit: Duration::from_mins(1),
        options: Options {
            max_downtime: args.max_downtime,
            on_overrun: OnOverrun::Abort,
            verify: args.verify.into(),
            ..Options::default()
        },
        mover: args.mover.clone(),
    })
}

async fn roll_back(planned: &Planned, root: &StateRoot) -> Result<Driven, Trouble> {
    let folder = root.open(planned.spec.name.as_str())?;
    let lock = folder.lock()?;
    let platform = HostPlatform::new(
        &planned.spec,
        &planned.target,
        &planned.settings,
        folder.path(),
    )
    .map_err(|error| Trouble::because(ExitCode::Failed, &error))?;
    drive(TerminalRun {
        name: folder.name().clone(),
        journal: FileJournal::new(&folder, lock),
        folder: folder.path().to_owned(),
        made_by: MadeBy::Demo,
        registration: None,
        platform,
        start: Start::Resume {
            request: Some(Request::RollBack),
        },
    })
    .await
}

/// Whether it ended by the rollback that followed an interruption.
fn is_given_up(outcome: &Outcome) -> bool {
    use livmig_engine::record::Cause;

    matches!(
        outcome,
        Outcome::Failed {
            cause: Cause::Requested
        }
    )
}

fn forget(planned: &Planned, root: &StateRoot) -> Result<(), Trouble> {
    let folder = root.open(planned.spec.name.as_str())?;
    let lock = folder.lock()?;
    Ok(folder.remove(lock)?)
}

fn show(args: &Args, layout: &Layout, driven: &Driven, findings: &Findings) -> Result<(), Trouble> {
    match args.output {
        Output::Text => output::text(&format!(
            "{}{}",
            summary::text(&driven.document),
            found(args, layout, findings)
        )),
        Output::Json => {
            let mut document = serde_json::to_value(&driven.document)
                .map_err(|error| Trouble::new(ExitCode::Failed, error.to_string()))?;
            if let Some(status) = document
                .get_mut("status")
                .and_then(serde_json::Value::as_object_mut)
            {
                let findings = serde_json::to_value(findings)
                    .map_err(|error| Trouble::new(ExitCode::Failed, error.to_string()))?;
                status.insert("demo".to_owned(), findings);
            }
            output::json(&document)
        }
    }
}

fn found(args: &Args, layout: &Layout, findings: &Findings) -> String {
    let verdict = if findings.moved(layout) {
        "every acknowledged write is on the new volume"
    } else {
        "NOT everything is on the new volume"
    };
    format!(
        "\nchecked again by the demonstration itself, entry by entry: {verdict}\n  \
         writes acknowledged before the switch  {:>8}\n  \
         writes acknowledged after it           {:>8}\n  \
         pages with their last content          {:>8}\n  \
         files created, renamed and kept        {:>8}\n  \
         untouched entries, equal on both       {:>8}\n\n\
         the old data still lies in {}{}\n",
        findings.acknowledged_before,
        findings.acknowledged_after,
        findings.pages,
        findings.files,
        findings.untouched,
        layout.old().display(),
        if args.keep {
            ""
        } else {
            "\nthe demonstration now removes its folder and the migration's state (--keep keeps them)"
        }
    )
}

fn say(line: &str) {
    // Nobody listens any more: the work goes on.
    let _ = writeln!(io::stderr(), "{line}");
}
