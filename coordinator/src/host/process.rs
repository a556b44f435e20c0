//! Processes told apart for good: a pid alone may be given to another process later.

use std::{
    ffi::OsStr,
    fs::{self, DirEntry},
    io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::PathBuf,
    time::Duration,
};

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use super::readiness::Readiness;

/// One process of one boot of this machine. Two processes never share it, not even when the
/// kernel gives a pid out a second time.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessIdentity {
    /// The process id.
    pub pid: u32,
    /// When it started, in clock ticks since the boot.
    pub started: u64,
    /// The kernel's boot id.
    pub boot: String,
}

impl ProcessIdentity {
    /// The identity of the process that has this pid now; `None` when there is none, or only
    /// its exit status is left.
    pub fn of(pid: u32) -> io::Result<Option<Self>> {
        let stat = match fs::read(PathBuf::from(format!("/proc/{pid}/stat"))) {
            Ok(stat) => stat,
            Err(error) if is_gone(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some((state, started)) = state_and_start(&stat) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("/proc/{pid}/stat has an unknown format"),
            ));
        };
        if matches!(state, b'Z' | b'X' | b'x') {
            return Ok(None);
        }
        let boot = boot_id()?;
        Ok(Some(Self { pid, started, boot }))
    }

    /// Whether this very process still runs.
    pub fn is_alive(&self) -> io::Result<bool> {
        Ok(Self::of(self.pid)?.as_ref() == Some(self))
    }

    /// A handle on this very process; `None` when it has ended.
    pub fn open(&self) -> io::Result<Option<OwnedFd>> {
        let Some(pid) = raw_pid(self.pid) else {
            return Ok(None);
        };
        let handle = match pidfd_open(pid, PidfdFlags::NONBLOCK) {
            Ok(handle) => handle,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        // Looked up after the handle was taken: the pid cannot change hands any more.
        Ok(self.is_alive()?.then_some(handle))
    }

    /// Waits until this process has ended; whether it did so in time.
    pub async fn wait(&self, limit: Duration) -> io::Result<bool> {
        match self.open()? {
            None => Ok(true),
            Some(handle) => wait_exit(handle, limit).await,
        }
    }

    /// Ends this process: asks first (SIGTERM), insists after `grace` (SIGKILL).
    pub async fn end(&self, grace: Duration) -> io::Result<()> {
        for signal in [Signal::TERM, Signal::KILL] {
            let Some(handle) = self.open()? else {
                return Ok(());
            };
            match pidfd_send_signal(&handle, signal) {
                Ok(()) => {}
                Err(rustix::io::Errno::SRCH) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
            if wait_exit(handle, grace).await? {
                return Ok(());
            }
        }
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("process {} does not end", self.pid),
        ))
    }

    /// Kills this process and everything in the process group that it leads, without waiting.
    pub fn kill_group(&self) -> io::Result<()> {
        let (Some(pid), true) = (raw_pid(self.pid), self.is_alive()?) else {
            return Ok(());
        };
        match kill_process_group(pid, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Ends this process and everything in the process group that it leads.
    pub async fn end_group(&self, grace: Duration) -> io::Result<()> {
        let Some(pid) = raw_pid(self.pid) else {
            return Ok(());
        };
        for signal in [Signal::TERM, Signal::KILL] {
            let Some(handle) = self.open()? else {
                return Ok(());
            };
            match kill_process_group(pid, signal) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(errno) => return Err(errno.into()),
            }
            if wait_exit(handle, grace).await? {
                // The leader is gone; what it left in its group would go on unseen.
                let _ = kill_process_group(pid, Signal::KILL);
                return Ok(());
            }
        }
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("process {} does not end", self.pid),
        ))
    }
}

/// The processes that there are, while they are listed.
pub fn ids() -> io::Result<impl Iterator<Item = io::Result<u32>>> {
    let id = |entry: DirEntry| entry.file_name().to_str()?.parse().ok();
    let entries = fs::read_dir("/proc")?;
    Ok(entries.filter_map(move |entry| entry.map(id).transpose()))
}

/// Processes that have `argument` among their arguments, as far as this user may look.
pub fn with_argument(argument: &OsStr) -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    for pid in ids()? {
        let pid = pid?;
        match fs::read(format!("/proc/{pid}/cmdline")) {
            Ok(line) => {
                let wanted = argument.as_bytes();
                if line.split(|byte| *byte == 0).any(|word| word == wanted) {
                    found.push(pid);
                }
            }
            Err(error) if is_gone(&error) || error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// The kernel's boot id.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim()
        .to_owned())
}

/// Whether an error from /proc says that the process is no more.
pub fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

fn raw_pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// Waits until the process behind a pidfd has ended; whether it did so in time.
async fn wait_exit(handle: OwnedFd, limit: Duration) -> io::Result<bool> {
    let ended = Readiness::new(handle)?;
    match tokio::time::timeout(limit, ended.readable()).await {
        Ok(ready) => ready.map(|()| true),
        Err(_) => Ok(false),
    }
}

/// State letter and start time of a line of /proc/PID/stat. The command's name stands in
/// parentheses and may itself hold parentheses and blanks: count from the last one.
fn state_and_start(stat: &[u8]) -> Option<(u8, u64)> {
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(name_end + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    // The state is field 3, the start time field 22.
    let started = fields.nth(18)?.parse().ok()?;
    Some((state, started))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat =
            b"4711 (a) b (c)) S 1 4711 4711 0 -1 4194304 99 0 0 0 0 0 0 0 20 0 1 0 12345 9 9";
        assert_eq!(state_and_start(stat), Some((b'S', 12345)));
        assert_eq!(state_and_start(b"4711 (a"), None);
    }

    #[test]
    fn this_process_is_alive_and_another_start_time_is_another_process() {
        let mut own = ProcessIdentity::of(std::process::id()).unwrap().unwrap();
        assert!(own.is_alive().unwrap());
        own.started += 1;
        assert!(!own.is_alive().unwrap());
        assert!(own.open().unwrap().is_none());
    }

    #[tokio::test]
    async fn a_process_is_ended_and_a_zombie_counts_as_ended() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let identity = ProcessIdentity::of(child.id()).unwrap().unwrap();
        assert!(!identity.wait(Duration::ZERO).await.unwrap());
        identity.end(Duration::from_mins(1)).await.unwrap();
        assert_eq!(ProcessIdentity::of(child.id()).unwrap(), None);
        child.wait().unwrap();
        identity.end(Duration::from_mins(1)).await.unwrap();
    }
}
