//! `example`: the example of `deploy/example` on this cluster, from start to clean-up, with a
//! judge at every step. One JSON document on standard output; everything else is said on standard
//! error.

use std::{path::Path, process::ExitCode};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{
    layout::Layout,
    testapp::{self, Trial, fill::Fill, restart, size::Mebibytes},
};

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Random data in the volume beside the repository
    #[arg(long, default_value = "1Gi", value_name = "SIZE")]
    size: Mebibytes,
    #[command(flatten)]
    run: testapp::RunOptions,
}

/// Runs the example. The code is 0 when every judge agreed.
pub(super) fn run(layout: &Layout, sources: &Path, options: &Options) -> Result<ExitCode> {
    let fill = Fill::of_large_files(options.size);
    let steps = |trial: &mut Trial<'_>| {
        trial.app.start()?;
        let on_source =
            restart::several(&trial.app).context("timing plain restarts on the source class")?;
        trial.migrate(&on_source)
    };
    let document = |migrations: Vec<Value>| migrations.into_iter().next().unwrap_or_default();
    testapp::run(layout, sources, &options.run, fill, 1, steps, document)
}
