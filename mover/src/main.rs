//! The data mover's program.

use std::process::ExitCode;

use clap::Parser as _;
use livmig_mover::cli::{Cli, Exit, report};

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_max_level(level())
        .with_writer(std::io::stderr)
        .with_target(false)
        .init();
    match Cli::parse().run() {
        Ok(exit) => exit.into(),
        Err(error) => {
            report(&error);
            Exit::Failed.into()
        }
    }
}

/// How much is told: `LIVMIG_LOG` is error, warn, info, debug or trace.
fn level() -> tracing::Level {
    std::env::var("LIVMIG_LOG")
        .ok()
        .and_then(|level| level.parse().ok())
        .unwrap_or(tracing::Level::WARN)
}
