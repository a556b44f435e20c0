//! Processes: commands that must succeed, pieces that outlive this program, and who runs.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs::{self, File},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// How often something is looked at that announces itself by no event.
const LOOK: Duration = Duration::from_millis(20);

/// A process of this machine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Process {
    /// Its id on the host.
    pub(super) pid: i32,
    /// Its parent's.
    pub(super) parent: i32,
    /// When it started, in clock ticks since boot: with the id it names one process for ever.
    pub(super) started: u64,
    /// The last part of its first argument.
    pub(super) name: String,
}

impl Process {
    /// The process with the id `pid`, when it still runs.
    pub(super) fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may hold anything; what follows the last one is numbers.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        if matches!(fields.first(), Some(&("Z" | "X"))) {
            return None;
        }
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let first = arguments.split(|byte| *byte == 0).next()?;
        let first = String::from_utf8_lossy(first);
        Some(Self {
            pid,
            parent: i32::try_from(number(1)?).ok()?,
            started: number(19)?,
            name: first.rsplit('/').next().unwrap_or_default().to_owned(),
        })
    }

    /// Every process of this machine that can be read.
    pub(super) fn all() -> Vec<Self> {
        fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| Self::of(entry.file_name().to_str()?.parse().ok()?))
            .collect()
    }

    /// The namespace of `kind` (`pid`, `net`, …) that it is in, as the kernel names it.
    pub(super) fn namespace(&self, kind: &str) -> Option<PathBuf> {
        fs::read_link(format!("/proc/{}/ns/{kind}", self.pid)).ok()
    }

    /// Its resident memory in KiB.
    pub(super) fn resident(&self) -> u64 {
        fs::read_to_string(format!("/proc/{}/status", self.pid))
            .ok()
            .and_then(|status| {
                let line = status
                    .lines()
                    .find_map(|line| line.strip_prefix("VmRSS:"))?;
                line.split_whitespace().next()?.parse().ok()
            })
            .unwrap_or(0)
    }

    /// Ends it at once, and no other that got its id meanwhile.
    pub(super) fn kill(&self) {
        let Some(fd) = self.hold() else { return };
        let _already_gone = pidfd_send_signal(fd, Signal::KILL);
    }

    /// A descriptor of exactly this process, when it still runs.
    fn hold(&self) -> Option<OwnedFd> {
        let fd = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        // Between reading and opening, the id could have gone to another.
        (Self::of(self.pid)?.started == self.started).then_some(fd)
    }
}

/// Waits until `look` gives a value, at most `limit`. For what announces itself by no event.
pub(super) fn await_value<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let started = Instant::now();
    loop {
        if let Some(value) = look()? {
            return Ok(value);
        }
        if started.elapsed() > limit {
            bail!("{what} did not happen within {limit:?}");
        }
        thread::sleep(LOOK);
    }
}

/// Runs `command`; its output when it succeeds, an error with what it said otherwise.
pub(super) fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_owned();
    let output = command
        .env("PATH", search_path())
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{} could not be started", program.display()))?;
    if !output.status.success() {
        let arguments: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
        bail!(
            "`{} {}` ended with {}: {}",
            program.display(),
            arguments.join(" "),
            output.status,
            last_lines(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The end of what a program said: its beginning may be long and is seldom the reason.
fn last_lines(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<&str> = text.trim().lines().collect();
    let skipped = lines.len().saturating_sub(12);
    lines.get(skipped..).unwrap_or_default().join("\n")
}

/// Where programs are looked for: administrators' are not on every root's path.
fn search_path() -> OsString {
    let mut path = env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    path
}

/// Runs `program` with `arguments`; see [`output`].
pub(super) fn run<A: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    arguments: impl IntoIterator<Item = A>,
) -> Result<String> {
    output(Command::new(program).args(arguments))
}

/// Starts `arguments` so that it outlives this program, its output going to `log`, as a member
/// of the cgroups whose `cgroup.procs` are `cgroups`. The id of the process.
///
/// It moves into the cgroups before it becomes what it shall be: whoever runs us may end its own
/// cgroup with everything in it.
pub(super) fn start(
    arguments: &[impl AsRef<OsStr>],
    variables: &[(&str, &str)],
    cgroups: &[PathBuf],
    log: &Path,
) -> Result<i32> {
    const MOVE: &str = r#"n=$1; shift; while [ "$n" -gt 0 ]; do echo $$ >"$1"; shift; n=$((n-1)); done; exec "$@""#;
    let log = File::options()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("The log {} could not be opened", log.display()))?;
    let child = Command::new("setsid")
        .args(["sh", "-ec", MOVE, "sh", &cgroups.len().to_string()])
        .args(cgroups)
        .args(arguments)
        // Nothing of the caller's environment: a proxy or a kubeconfig of theirs is not meant
        // for the cluster.
        .env_clear()
        .env("PATH", search_path())
        .env("HOME", "/")
        .envs(variables.iter().copied())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("setsid could not be started")?;
    i32::try_from(child.id()).context("A process id is out of range")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_itself_until_it_ends() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let this = Process::of(pid).unwrap();
        assert_eq!(Process::of(pid).unwrap().started, this.started);
        assert!(this.hold().is_some());
        let other = Process {
            started: this.started + 1,
            ..this
        };
        assert!(other.hold().is_none());
    }

    #[test]
    fn what_failed_says_why() {
        let error = run("sh", ["-c", "echo because >&2; exit 3"]).unwrap_err();
        assert!(format!("{error:#}").contains("because"));
    }
}
