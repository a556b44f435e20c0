//! Programs under test: started, watched, bounded in time, measured.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::fs::FileExt as _,
    },
    process::{Child, Command, ExitStatus, Stdio},
    sync::{PoisonError, RwLock},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

/// Nothing under test takes this long unless it hangs.
pub const LIMIT: Duration = Duration::from_mins(5);

/// How often a program's memory is looked at. The kernel keeps the high-water mark itself, so
/// only growth in the very last interval of a life can be missed.
const SAMPLE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 5_000_000,
};

/// A program that has ended.
#[derive(Debug)]
pub struct Finished {
    /// What was run, for messages.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it said.
    pub stderr: String,
    /// The most memory it had resident at once, in bytes.
    pub peak_rss: u64,
}

impl Finished {
    /// This run, if it ended with exit code `code`.
    pub fn expect(self, code: i32) -> Result<Self> {
        ensure!(
            self.status.code() == Some(code),
            "{} was to exit with {code}, but: {}\n--- stdout\n{}\n--- stderr\n{}",
            self.command,
            self.status,
            self.stdout,
            self.stderr
        );
        Ok(self)
    }

    /// The JSON document on stdout.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_str(&self.stdout)
            .with_context(|| format!("{} printed no JSON: {:?}", self.command, self.stdout))
    }

    /// Fails unless stderr holds every one of `words`, in upper or lower case.
    pub fn says(&self, words: &[&str]) -> Result<()> {
        let said = self.stderr.to_lowercase();
        for word in words {
            ensure!(
                said.contains(&word.to_lowercase()),
                "{} was to say {word:?}, but said: {}",
                self.command,
                self.stderr
            );
        }
        Ok(())
    }
}

/// Runs `command` to its end, at most [`LIMIT`].
pub fn run(command: &mut Command) -> Result<Finished> {
    Running::start(command)?.wait(LIMIT)
}

/// A program that runs. Dropped, it is killed.
#[derive(Debug)]
pub struct Running {
    command: String,
    child: Child,
    pidfd: OwnedFd,
    stdout: File,
    stderr: File,
}

/// Held by each thread that starts a child.
static STARTING: RwLock<()> = RwLock::new(());

/// Starts `command`, for [`await_started`] to wait for.
pub fn spawn(command: &mut Command) -> io::Result<Child> {
    let _starting = STARTING.read().unwrap_or_else(PoisonError::into_inner);
    command.spawn()
}

/// Waits until every child that is being started by another thread runs its own program. Up to then
/// it holds what was open here when it came to be, for writing too, also if it was closed since.
pub fn await_started() {
    drop(STARTING.write().unwrap_or_else(PoisonError::into_inner));
}

impl Running {
    /// Starts `command` with no input; its output is kept.
    pub fn start(command: &mut Command) -> Result<Self> {
        Self::spawn(command, false)
    }

    /// Starts `command`, whose stdout the caller reads as it comes, with [`Self::take_stdout`].
    pub fn start_piped(command: &mut Command) -> Result<Self> {
        Self::spawn(command, true)
    }

    fn spawn(command: &mut Command, piped: bool) -> Result<Self> {
        let text = format!("{command:?}");
        // Files, not pipes: a child that outlives the program and holds its output open must
        // not keep us waiting.
        let (stdout, stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
        command
            .stdin(Stdio::null())
            .stdout(if piped {
                Stdio::piped()
            } else {
                stdout.try_clone()?.into()
            })
            .stderr(stderr.try_clone()?);
        let child = spawn(command).with_context(|| format!("starting {text}"))?;
        Ok(Self {
            command: text,
            pidfd: pidfd_open(pid_of(&child)?, PidfdFlags::empty())?,
            child,
            stdout,
            stderr,
        })
    }

    /// Its stdout, once, if it was started with [`Self::start_piped`].
    pub fn take_stdout(&mut self) -> Result<impl Read + use<>> {
        self.child.stdout.take().context("stdout is not piped")
    }

    /// What it has printed so far, unless it was started with [`Self::start_piped`].
    pub fn stdout(&self) -> Result<String> {
        text(&self.stdout)
    }

    /// What it has said on stderr so far.
    pub fn stderr(&self) -> Result<String> {
        text(&self.stderr)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Readable once it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Sends it a signal; a process that has ended takes none.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Waits for its end. When `limit` passes first it is killed, and that is an error.
    pub fn wait(mut self, limit: Duration) -> Result<Finished> {
        let deadline = Instant::now() + limit;
        let mut peak_rss = 0;
        while !self.ended_within_sample()? {
            peak_rss = high_water(self.child.id()).unwrap_or(0).max(peak_rss);
            if Instant::now() > deadline {
                self.signal(Signal::KILL)?;
                let finished = self.finish(peak_rss)?;
                bail!(
                    "{} did not end within {limit:?}\n--- stdout\n{}\n--- stderr\n{}",
                    finished.command,
                    finished.stdout,
                    finished.stderr
                );
            }
        }
        self.finish(peak_rss)
    }

    fn ended_within_sample(&self) -> Result<bool> {
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        match poll(&mut fds, Some(&SAMPLE)) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn finish(&mut self, peak_rss: u64) -> Result<Finished> {
        let status = self.child.wait()?;
        Ok(Finished {
            command: std::mem::take(&mut self.command),
            status,
            stdout: text(&self.stdout)?,
            stderr: text(&self.stderr)?,
            peak_rss,
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pid_of(child: &Child) -> Result<Pid> {
    i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| anyhow!("{} is no process id", child.id()))
}

/// All that `file` holds, wherever its shared offset stands.
fn text(file: &File) -> Result<String> {
    let mut bytes = vec![0; usize::try_from(file.metadata()?.len())?];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The resident high-water mark of a process in bytes; none once it has ended.
pub fn high_water(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_and_exit_code_are_kept() {
        let finished = run(&mut shell("echo out; echo err >&2; exit 3")).unwrap();
        assert_eq!(finished.stdout, "out\n");
        assert_eq!(finished.status.code(), Some(3));
        finished.says(&["err"]).unwrap();
        finished.says(&["other"]).unwrap_err();
        finished.expect(0).unwrap_err();
    }

    #[test]
    fn a_program_that_hangs_is_killed() {
        let error = Running::start(&mut shell("echo before; exec sleep 1000"))
            .unwrap()
            .wait(Duration::from_millis(200))
            .unwrap_err();
        let text = error.to_string();
        assert!(text.contains("did not end") && text.contains("before"));
    }

    #[test]
    fn memory_is_measured() {
        let finished =
            run(Command::new("dd").args(["if=/dev/zero", "of=/dev/null", "bs=64M", "count=20"]))
                .unwrap();
        assert!(finished.peak_rss > 60 << 20, "{}", finished.peak_rss);
    }
}
