//! `example`: the example of `deploy/example` on this cluster, from start to clean-up, with a
//! judge at every step. One JSON document on standard output; everything else is said on standard
//! error.

mod app;
mod document;
mod judge;
mod leave;
mod migration;
mod restart;
mod size;

use std::{
    fs::File,
    io::{Write as _, stdout},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};

use self::{
    app::App,
    migration::{Finished, Program},
    size::Mebibytes,
};
use super::{layout::Layout, up};

/// How many plain restarts are timed on each class.
const RESTARTS: usize = 3;

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Random data in the volume beside the repository
    #[arg(long, default_value = "1Gi", value_name = "SIZE")]
    size: Mebibytes,
    /// Leave the namespace as it is at the end
    #[arg(long)]
    keep: bool,
    /// A livmig-coord to run, instead of building it and the mover's image, which the nodes then
    /// must have
    #[arg(long, value_name = "FILE")]
    coord: Option<PathBuf>,
}

/// Runs the example. The code is 0 when every judge agreed.
pub(super) fn run(layout: &Layout, sources: &Path, options: &Options) -> Result<ExitCode> {
    let mut answer = keep_stdout_for_the_answer()?;
    up::run(layout, sources)?;
    let program = match &options.coord {
        Some(file) => Program::at(file)?,
        None => Program::build(layout)?,
    };
    let app = App::create(layout, options.size)?;
    eprintln!("Namespace {}.", app.namespace());
    let mut problems = Vec::new();
    match migrate(&app, &program, &mut problems) {
        Ok(document) => writeln!(answer, "{document:#}")?,
        Err(error) => problems.push(format!("{error:#}")),
    }
    for problem in &problems {
        eprintln!("FAILED: {problem}");
    }
    if !problems.is_empty() {
        leave::say_what_is_there(&app);
    }
    if options.keep {
        leave::say_how_to_remove(&app);
    } else {
        leave::remove(&app)?;
    }
    Ok(if problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The steps; the document, with what was measured around the migration. What a judge found is
/// added to `problems`.
fn migrate(
    app: &App<'_>,
    program: &Program,
    problems: &mut Vec<String>,
) -> Result<serde_json::Value> {
    app.start()?;
    let on_source = restarts(app).context("timing plain restarts on the source class")?;
    let before = judge::Before::look(app)?;
    let finished = program.migrate(app)?;
    problems.extend(judge::of_document(&finished));
    let completed = finished.completed();
    let Finished { mut document, .. } = finished;
    if completed {
        problems.extend(before.judge(app)?);
    }
    // What is wrong so far would only be found again.
    let mut on_destination = Vec::new();
    if problems.is_empty() {
        match restarts(app) {
            Ok(seconds) => on_destination = seconds,
            Err(error) => problems.push(format!("a plain restart after the migration: {error:#}")),
        }
    }
    document::add_restarts(&mut document, &on_source, &on_destination)?;
    eprint!("{}", document::summary(&document));
    if problems.is_empty() {
        program.clean_up(app, &document)?;
        problems.extend(before.judge_cleaned_up(app)?);
    }
    Ok(document)
}

/// The seconds of some plain restarts, each followed by a look at what the app has.
fn restarts(app: &App<'_>) -> Result<Vec<f64>> {
    let mut seconds = Vec::new();
    for _ in 0..RESTARTS {
        let took = restart::time(app)?.as_secs_f64();
        eprintln!("A plain restart took {took:.3} s.");
        seconds.push(took);
        app.check()?;
    }
    Ok(seconds)
}

/// Standard output as it was; from now on what is printed there goes to standard error, also from
/// programs that are started.
fn keep_stdout_for_the_answer() -> Result<File> {
    let kept = stdout().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdout(std::io::stderr())?;
    Ok(File::from(kept))
}
