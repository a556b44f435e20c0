//! Standard output: data, and nothing else.

use std::io::{self, Write as _};

use serde::Serialize;

use super::report::Trouble;
use livmig_engine::outcome::ExitCode;

/// Prints text. A reader that has gone away (`| head`) is no failure.
pub(super) fn text(text: &str) -> Result<(), Trouble> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Trouble::new(
            ExitCode::Failed,
            format!("Could not write to standard output: {error}"),
        )),
        _ => Ok(()),
    }
}

/// Prints one document in one line.
pub(super) fn json(document: &impl Serialize) -> Result<(), Trouble> {
    let mut line = serde_json::to_string(document).map_err(|error| {
        Trouble::new(
            ExitCode::Failed,
            format!("Could not encode the document: {error}"),
        )
    })?;
    line.push('\n');
    text(&line)
}
