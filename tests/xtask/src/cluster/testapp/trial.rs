//! A run of the app from a namespace of its own to its removal, with a migration in it.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use serde_json::Value;

use super::{
    super::{answer, layout::Layout, up},
    app::App,
    document,
    fill::Fill,
    judge, leave,
    migration::{Finished, Program},
    restart,
};

/// How to run it.
#[derive(clap::Args)]
pub(in crate::cluster) struct RunOptions {
    /// Leave the namespace as it is at the end
    #[arg(long)]
    keep: bool,
    /// A livmig-coord to run, instead of building it and the mover's image, which the nodes then
    /// must have
    #[arg(long, value_name = "FILE")]
    coord: Option<PathBuf>,
}

/// What the steps of a run have.
pub(in crate::cluster) struct Trial<'a> {
    /// The app, not started yet.
    pub(in crate::cluster) app: App<'a>,
    program: &'a Program,
    problems: Vec<String>,
}

/// Runs `steps` on a cluster that runs, `rounds` times, each with an app of its own, and prints the
/// document that all of them come to. The code is 0 when every judge agreed; a round in which one
/// did not is the last.
pub(in crate::cluster) fn run<T>(
    layout: &Layout,
    sources: &Path,
    options: &RunOptions,
    fill: Fill,
    rounds: u32,
    steps: impl Fn(&mut Trial<'_>) -> Result<T>,
    document: impl FnOnce(Vec<T>) -> Value,
) -> Result<ExitCode> {
    let mut answer = answer::keep_stdout_for_it()?;
    up::run(layout, sources)?;
    let program = match &options.coord {
        Some(file) => Program::at(file)?,
        None => Program::build(layout)?,
    };
    let mut came_to = Vec::new();
    let mut all_agreed = true;
    for _ in 0..rounds {
        let mut trial = Trial {
            app: App::create(layout, fill)?,
            program: &program,
            problems: Vec::new(),
        };
        eprintln!("Namespace {}.", trial.app.namespace());
        match steps(&mut trial) {
            Ok(value) => came_to.push(value),
            Err(error) => trial.problems.push(format!("{error:#}")),
        }
        all_agreed = trial.end(options.keep)?;
        if !all_agreed {
            break;
        }
    }
    if !came_to.is_empty() {
        writeln!(answer, "{:#}", document(came_to))?;
    }
    Ok(if all_agreed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl Trial<'_> {
    /// Migrates the app, judges that, times plain restarts afterwards and cleans up. The migration's
    /// document, with the restarts on both classes: `on_source` were timed before. What a judge
    /// finds makes the run fail.
    pub(in crate::cluster) fn migrate(&mut self, on_source: &[f64]) -> Result<Value> {
        let Self {
            app,
            program,
            problems,
        } = self;
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
            match restart::several(app) {
                Ok(seconds) => on_destination = seconds,
                Err(error) => {
                    problems.push(format!("a plain restart after the migration: {error:#}"));
                }
            }
        }
        document::add_restarts(&mut document, on_source, &on_destination)?;
        eprint!("{}", document::summary(&document));
        if problems.is_empty() {
            program.clean_up(app, &document)?;
            problems.extend(before.judge_cleaned_up(app)?);
        }
        Ok(document)
    }

    /// Says what went wrong and removes the app, unless it is to be kept. Whether every judge agreed.
    fn end(self, keep: bool) -> Result<bool> {
        let Self { app, problems, .. } = self;
        for problem in &problems {
            eprintln!("FAILED: {problem}");
        }
        if !problems.is_empty() {
            leave::say_what_is_there(&app);
        }
        if keep {
            leave::say_how_to_remove(&app);
        } else {
            leave::remove(&app)?;
        }
        Ok(problems.is_empty())
    }
}
