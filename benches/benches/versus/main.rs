//! livmig beside what people would run otherwise: whole processes, one after the other, on the same
//! data in the same run.
//!
//! Quick by default; `LIVMIG_BENCH=full` runs the sizes that the README's table has. The table goes to
//! standard output and, with everything that was measured, to `target/versus.json`. What a row says
//! is a ratio: figures move with the machine, ratios much less. Every copy is compared with its
//! source when all is measured; a fast wrong copy ends the run.

mod data;
mod measure;
mod peers;
mod rows;
mod session;
mod table;

use std::process::ExitCode;

use anyhow::{Context as _, Result};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    // `cargo bench NAME` runs the rows whose name contains it; cargo's own flags are not ours.
    let wanted = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'))
        .unwrap_or_default();
    let full = std::env::var("LIVMIG_BENCH").is_ok_and(|value| value == "full");
    let scale = if full { rows::FULL } else { rows::QUICK };
    let measured = rows::run(&scale, &wanted)?;
    print!("{}", table::markdown(&measured));
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/versus.json");
    std::fs::write(file, format!("{:#}\n", table::json(&measured, scale.name)))
        .with_context(|| format!("could not write {file}"))
}
