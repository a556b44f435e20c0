//! The demonstration's stop and start commands. Both may be repeated at any time; exit code 0
//! means *stopped* and *ready*.
//!
//! Two locks tell how the workload is, and the kernel gives both back however it dies. It holds
//! one (handed to it as its standard input) as long as it runs, and the other (its standard
//! output) until it has acknowledged its first write.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use super::layout::Layout;
use crate::host::process::ProcessIdentity;

/// How long the workload may take to finish its last write before it is killed.
const STOP_GRACE: Duration = Duration::from_secs(30);

/// Stops the workload and waits until it has ended.
pub async fn stop(layout: &Layout) -> io::Result<()> {
    let running = open_lock(&layout.running())?;
    if try_lock(&running)? {
        return Ok(());
    }
    wait_until_started(layout)?;
    if try_lock(&running)? {
        return Ok(());
    }
    let process: ProcessIdentity = serde_json::from_slice(&fs::read(layout.running())?)?;
    process.end(STOP_GRACE).await?;
    running.lock()
}

/// Starts the workload, unless it runs, and waits until it is ready.
pub fn start(layout: &Layout) -> io::Result<()> {
    let running = open_lock(&layout.running())?;
    if try_lock(&running)? {
        let starting = open_lock(&layout.starting())?;
        starting.lock()?;
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(layout.log())?;
        Command::new(std::env::current_exe()?)
            .args(["demo-workload", "run", "--folder"])
            .arg(layout.folder())
            .current_dir("/")
            .stdin(running)
            .stdout(starting)
            .stderr(Stdio::from(log))
            .process_group(0)
            .spawn()?;
    }
    wait_until_started(layout)?;
    if try_lock(&open_lock(&layout.running())?)? {
        let log = fs::read_to_string(layout.log()).unwrap_or_default();
        return Err(io::Error::other(format!(
            "the workload ended at its start: {}",
            log.lines().last().unwrap_or("no output")
        )));
    }
    Ok(())
}

/// Waits until no start is under way: the workload is ready, or dead.
fn wait_until_started(layout: &Layout) -> io::Result<()> {
    open_lock(&layout.starting())?.lock_shared()
}

fn try_lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}
