//! The data mover's program.

use std::{io, process::ExitCode, thread};

use clap::Parser as _;
use livmig_mover::cli::{Cli, Exit, report};
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};

/// The exit code of whoever was ended by SIGTERM, as shells tell it.
const TERMINATED: i32 = 128 + 15;

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_max_level(level())
        .with_writer(std::io::stderr)
        .with_target(false)
        .init();
    let cli = Cli::parse();
    if let Err(error) = end_when_asked() {
        tracing::warn!(%error, "SIGTERM cannot be watched");
    }
    match cli.run() {
        Ok(exit) => exit.into(),
        Err(error) => {
            report(&error);
            Exit::Failed.into()
        }
    }
}

/// Ends the process on SIGTERM, whatever it is doing: what it was doing may be cut off anywhere. As
/// the first process of a container it would not be ended by the signal itself, and a pod that is
/// evicted would hold its volume until it is killed.
fn end_when_asked() -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let context = runtime.enter();
    let mut terminate = signal(SignalKind::terminate())?;
    drop(context);
    thread::Builder::new()
        .name("livmig-term".to_owned())
        .spawn(move || {
            if runtime.block_on(terminate.recv()).is_some() {
                std::process::exit(TERMINATED);
            }
        })
        .map(|_| ())
}

/// How much is told: `LIVMIG_LOG` is error, warn, info, debug or trace.
fn level() -> tracing::Level {
    std::env::var("LIVMIG_LOG")
        .ok()
        .and_then(|level| level.parse().ok())
        .unwrap_or(tracing::Level::WARN)
}
