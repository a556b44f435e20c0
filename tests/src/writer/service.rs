//! The writer as a service: started and stopped by commands that may be run at any time, as often
//! as one likes.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use super::record::Writer;

/// Where a writer of one workload keeps what does not belong on its volume.
#[derive(Clone, Debug)]
pub struct Service {
    /// The volume, perhaps a link.
    pub volume: PathBuf,
    /// The directory of ledger and lock.
    pub home: PathBuf,
}

impl Service {
    /// The ledger of acknowledged records.
    pub fn ledger(&self) -> PathBuf {
        self.home.join("ledger")
    }

    /// Locked by the running writer, and holding its process id.
    fn lock(&self) -> PathBuf {
        self.home.join("lock")
    }

    /// Starts the writer, by the program `writer`, unless it runs; returns when it has
    /// acknowledged a record.
    pub fn start(&self, writer: &Path) -> Result<()> {
        if self.running()?.is_some() {
            return Ok(());
        }
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.home.join("stderr"))?;
        let mut child = Command::new(writer)
            .arg("run")
            .args([&self.volume, &self.home])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            // What signals us does not mean the service.
            .process_group(0)
            .spawn()?;
        let mut ready = String::new();
        let stdout = child.stdout.take().context("no stdout")?;
        BufReader::new(stdout).read_line(&mut ready)?;
        ensure!(
            ready == "ready\n",
            "the writer did not start: {}",
            fs::read_to_string(self.home.join("stderr")).unwrap_or_default()
        );
        Ok(())
    }

    /// Stops the writer, if it runs; returns when its process is gone.
    pub fn stop(&self) -> Result<()> {
        let Some(pid) = self.running()? else {
            return Ok(());
        };
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            other => other?,
        };
        // Still the holder of the lock: the id has not been given to somebody else.
        if self.running()? == Some(pid) {
            pidfd_send_signal(&pidfd, Signal::TERM)?;
            poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None)?;
        }
        Ok(())
    }

    /// The writer's process, if it runs.
    pub fn running(&self) -> Result<Option<Pid>> {
        let file = match File::open(self.lock()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => {
                let text = fs::read_to_string(self.lock())?;
                Ok(text.trim().parse().ok().and_then(Pid::from_raw))
            }
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }

    /// The body of the writer's process: writes until it is killed.
    pub fn run(&self) -> Result<()> {
        let mut lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.lock())?;
        lock.lock()?;
        lock.set_len(0)?;
        write!(lock, "{}", std::process::id())?;
        let mut writer = Writer::open(&self.volume, &self.ledger())?;
        writer.write()?;
        let mut stdout = std::io::stdout();
        writeln!(stdout, "ready")?;
        stdout.flush()?;
        loop {
            writer.write()?;
        }
    }
}
