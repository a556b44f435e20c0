//! The coordinator's own log: a file in the migration's folder, once there is one.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::OnceLock,
};

use crate::cli::home::COORDINATOR_LOG;

static LOG: OnceLock<File> = OnceLock::new();

/// Sends what is logged to the file, as soon as [`open`] has named one.
pub(crate) fn init() {
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_target(false)
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(|| LogSink)
        .finish();
    // Set twice only by tests; the first one stays.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Logs below `folder` from here on.
pub(crate) fn open(folder: &Path) -> io::Result<()> {
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(folder.join(COORDINATOR_LOG))?;
    // One program drives one migration; the first file stays.
    let _ = LOG.set(file);
    Ok(())
}

struct LogSink;

impl Write for LogSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match LOG.get() {
            Some(mut file) => file.write(bytes),
            None => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
