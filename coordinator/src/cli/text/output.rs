//! Standard output: data, and nothing else.

use std::io::{self, Write as _};

use serde::Serialize;

use super::{stdout, trouble::Trouble};
use livmig_engine::outcome::ExitCode;

/// Prints text. A reader that has gone away (`| head`) has seen enough.
pub(crate) fn text(text: &str) -> Result<(), Trouble> {
    match write(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(unwritten(&error)),
        _ => Ok(()),
    }
}

/// Prints a document, which is lost without a reader.
pub(crate) fn whole(document: &str) -> Result<(), Trouble> {
    if stdout::is_missing() {
        return Err(unwritten(&rustix::io::Errno::BADF.into()));
    }
    write(document).map_err(|error| unwritten(&error))
}

/// Prints one document in one line, which is lost without a reader.
pub(crate) fn json(document: &impl Serialize) -> Result<(), Trouble> {
    let mut line = serde_json::to_string(document).map_err(|error| {
        Trouble::new(
            ExitCode::Failed,
            format!("Could not encode the document: {error}"),
        )
    })?;
    line.push('\n');
    whole(&line)
}

fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

fn unwritten(error: &io::Error) -> Trouble {
    Trouble::new(
        ExitCode::Failed,
        format!("Could not write to standard output: {error}"),
    )
}
