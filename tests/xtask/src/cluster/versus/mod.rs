//! `versus`: livmig beside `rsync -aHAX`, from the same volume to the same class in one run. One
//! JSON document on standard output; everything else is said on standard error.
//!
//! A stop of the app takes a second or a tenth of one, by what it is doing, and so does a restart.
//! Hence several rounds, each with a fresh app, and the medians of all.
//!
//! Both start with a source that was just read as a whole, on the node where it is mounted, and
//! while the app writes. rsync comes first: after the migration the app is on the other class.

mod figures;
mod rsync;

use std::{fs, path::Path, process::ExitCode};

use anyhow::{Context as _, Result};

use self::figures::{Figures, Round};
use super::{
    layout::Layout,
    testapp::{self, Trial, fill::Fill, restart, size::Mebibytes},
};

/// What to compare.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Random data in the volume, eight elevenths of it in one file
    #[arg(long, default_value = "1056Mi", value_name = "SIZE")]
    size: Mebibytes,
    /// Small files that have the rest of it
    #[arg(long, default_value_t = 40_000, value_name = "NUMBER",
        value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    files: u32,
    /// Rounds of which to take the medians
    #[arg(long, default_value_t = 5, value_name = "NUMBER",
        value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    #[command(flatten)]
    run: testapp::RunOptions,
}

/// Compares. The code is 0 when every judge of the data agreed; durations are reported, not judged.
pub(super) fn run(layout: &Layout, sources: &Path, options: &Options) -> Result<ExitCode> {
    let fill = Fill::mixed(options.size, options.files);
    let document = |rounds: Vec<Round>| {
        let figures = Figures::new(rounds);
        eprint!("{figures}");
        figures.document(fill)
    };
    let (run, rounds) = (&options.run, options.rounds);
    testapp::run(layout, sources, run, fill, rounds, round, document)
}

/// One round, with an app that was not started yet.
fn round(trial: &mut Trial<'_>) -> Result<Round> {
    trial.app.start()?;
    let restarts =
        restart::several(&trial.app).context("timing plain restarts on the source class")?;
    trial.app.read_all()?;
    let mut load = vec![load_average()?];
    let rsync = rsync::measure(&trial.app).context("copying with rsync")?;
    trial.app.check().context("after the copies by rsync")?;
    trial.app.read_all()?;
    load.push(load_average()?);
    let migration = trial.migrate(&restarts)?;
    load.push(load_average()?);
    Ok(Round {
        rsync,
        migration,
        load,
    })
}

/// The machine's load average over the last minute.
fn load_average() -> Result<f64> {
    let said = fs::read_to_string("/proc/loadavg")?;
    let first = said.split_whitespace().next().unwrap_or_default();
    first.parse().context("/proc/loadavg holds no number")
}
