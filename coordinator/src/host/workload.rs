//! The workload, as two commands of the user: one that stops it, one that starts it. Exit code 0
//! means *stopped* and *ready*; both may be run again at any time.
//!
//! A command runs through `sh -c` in a process group of its own (a Ctrl-C at the terminal is not
//! for it), with its output in the migration's log: a start command may leave a daemon behind
//! that keeps its output open for ever.
//!
//! A coordinator may die while a command runs. The command is therefore written down before it
//! may begin (the shell waits for a word on its standard input, and gives up when none comes), so
//! that a later coordinator waits for it before it runs another: a stop that is still under way
//! must not hit a workload that was just started again.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, Command},
};

use super::{process::ProcessIdentity, store::file::replace_durably};

/// How long a command that is told to end may take before it is killed.
const END_GRACE: Duration = Duration::from_secs(5);

/// Bytes of a command's last output that an error shows at most.
const TAIL_MAX: u64 = 2048;

/// Runs the command given as its first argument, once it is allowed to.
const GATE: &str = r#"read -r word && [ "$word" = go ] && exec sh -c "$0" </dev/null"#;

/// Which of the two commands.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// Stop the workload.
    Stop,
    /// Start the workload.
    Start,
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Stop => "stop",
            Self::Start => "start",
        })
    }
}

/// The two commands and where their traces lie.
#[derive(Clone, Debug)]
pub struct Workload {
    stop: UserCommand,
    start: UserCommand,
    log: PathBuf,
    record: PathBuf,
}

/// A command line of the user and how long it may take.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UserCommand {
    /// For `sh -c`.
    pub line: String,
    /// When it is given up.
    pub limit: Duration,
}

/// Why a command did not do what exit code 0 promises.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    /// It ended with another exit code, or by a signal.
    #[error("The {action} command failed ({status}): {line}{}", shown(.output))]
    Failed {
        /// Which.
        action: Action,
        /// The command.
        line: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of its output.
        output: String,
    },
    /// It did not end in time and was killed, with its process group.
    #[error(
        "The {action} command did not end within {} s and was killed: {line}{}",
        .limit.as_secs_f64(), shown(.output)
    )]
    TimedOut {
        /// Which.
        action: Action,
        /// The command.
        line: String,
        /// What it was given.
        limit: Duration,
        /// The end of its output.
        output: String,
    },
    /// It could not even be run.
    #[error("Could not run the {action} command: {line}")]
    Io {
        /// Which.
        action: Action,
        /// The command.
        line: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// What a later coordinator must know about a command that was let go.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct RunningCommand {
    action: Action,
    process: ProcessIdentity,
}

/// A command under way.
struct Going {
    child: Child,
    process: ProcessIdentity,
    cut_off: CommandCutOff,
    /// Where its output begins in the log.
    log_start: u64,
}

impl Workload {
    /// The workload of the migration whose state lies in `folder`.
    pub fn new(folder: &Path, stop: UserCommand, start: UserCommand) -> Self {
        Self {
            stop,
            start,
            log: folder.join("commands.log"),
            record: folder.join("command.json"),
        }
    }

    /// Where the commands' output lies.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Stops the workload.
    pub async fn stop(&self) -> Result<(), WorkloadError> {
        self.run(Action::Stop).await
    }

    /// Starts the workload and waits until it is ready.
    pub async fn start(&self) -> Result<(), WorkloadError> {
        self.run(Action::Start).await
    }

    async fn run(&self, action: Action) -> Result<(), WorkloadError> {
        let command = match action {
            Action::Stop => &self.stop,
            Action::Start => &self.start,
        };
        let failed = |source| WorkloadError::Io {
            action,
            line: command.line.clone(),
            source,
        };
        self.outlast_previous().await.map_err(failed)?;
        let Going {
            mut child,
            process,
            mut cut_off,
            log_start,
        } = self.let_go(action, command).await.map_err(failed)?;
        let ended = tokio::time::timeout(command.limit, child.wait()).await;
        cut_off.disarm();
        match ended {
            Ok(Ok(status)) => {
                self.forget().map_err(failed)?;
                if status.success() {
                    return Ok(());
                }
                Err(WorkloadError::Failed {
                    action,
                    line: command.line.clone(),
                    status,
                    output: tail(&self.log, log_start),
                })
            }
            Ok(Err(source)) => Err(failed(source)),
            Err(_) => {
                process.end_group(END_GRACE).await.map_err(failed)?;
                self.forget().map_err(failed)?;
                Err(WorkloadError::TimedOut {
                    action,
                    line: command.line.clone(),
                    limit: command.limit,
                    output: tail(&self.log, log_start),
                })
            }
        }
    }

    /// Starts the shell, writes it down, lets it begin.
    async fn let_go(&self, action: Action, command: &UserCommand) -> io::Result<Going> {
        let mut log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)?;
        writeln!(log, "--- {action}: {}", command.line)?;
        let log_start = log.seek(SeekFrom::End(0))?;
        let mut child = Command::new("sh")
            .args(["-c", GATE, &command.line])
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()?;
        let pid = child.id().ok_or(io::ErrorKind::NotFound)?;
        let process = ProcessIdentity::of(pid)?.ok_or(io::ErrorKind::NotFound)?;
        let cut_off = CommandCutOff::armed(&process);
        let running = RunningCommand { action, process };
        replace_durably(&self.record, &serde_json::to_vec(&running)?)?;
        if let Some(mut gate) = child.stdin.take() {
            gate.write_all(b"go\n").await?;
        }
        Ok(Going {
            child,
            process: running.process,
            cut_off,
            log_start,
        })
    }

    /// Waits for a command that an earlier coordinator let go; ends it when it takes too long.
    async fn outlast_previous(&self) -> io::Result<()> {
        let record = match fs::read(&self.record) {
            Ok(record) => record,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let running: RunningCommand = serde_json::from_slice(&record)?;
        let limit = match running.action {
            Action::Stop => self.stop.limit,
            Action::Start => self.start.limit,
        };
        if !running.process.wait(limit).await? {
            running.process.end_group(END_GRACE).await?;
        }
        self.forget()
    }

    fn forget(&self) -> io::Result<()> {
        match fs::remove_file(&self.record) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Kills a command's process group when the future that waits for it is dropped: a stop command
/// that went on by itself would stop the workload again after it was restarted.
struct CommandCutOff(Option<ProcessIdentity>);

impl CommandCutOff {
    fn armed(process: &ProcessIdentity) -> Self {
        Self(Some(process.clone()))
    }

    fn disarm(&mut self) {
        self.0 = None;
    }
}

impl Drop for CommandCutOff {
    fn drop(&mut self) {
        if let Some(process) = self.0.take()
            && let Err(error) = process.kill_group()
        {
            tracing::warn!(pid = process.pid, %error, "command not killed");
        }
    }
}

/// The last output of a command, for an error; what cannot be read is left out.
pub fn tail(log: &Path, start: u64) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(start.max(length.saturating_sub(TAIL_MAX))))?;
        let mut bytes = Vec::new();
        file.take(TAIL_MAX).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
    };
    read().unwrap_or_default()
}

fn shown(output: &str) -> String {
    output
        .lines()
        .fold(String::new(), |text, line| text + "\n  | " + line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(folder: &Path, stop: &str, start: &str) -> Workload {
        let command = |line: &str| UserCommand {
            line: line.to_owned(),
            limit: Duration::from_mins(1),
        };
        Workload::new(folder, command(stop), command(start))
    }

    #[tokio::test]
    async fn exit_codes_and_output_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let workload = workload(folder.path(), "echo stopped", "echo no luck >&2; exit 3");
        workload.stop().await.unwrap();
        let error = workload.start().await.unwrap_err().to_string();
        assert!(
            error.contains("start command failed (exit status: 3)"),
            "{error}"
        );
        assert!(error.ends_with("\n  | no luck"), "{error}");
        assert!(!folder.path().join("command.json").exists());
        let log = fs::read_to_string(workload.log()).unwrap();
        assert_eq!(
            log,
            "--- stop: echo stopped\nstopped\n--- start: echo no luck >&2; exit 3\nno luck\n"
        );
    }

    #[tokio::test]
    async fn a_daemon_that_keeps_the_output_open_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pid_file = folder.path().join("pid");
        let start = format!("sleep 600 & echo $! > {}", pid_file.display());
        workload(folder.path(), "true", &start)
            .start()
            .await
            .unwrap();
        let pid = fs::read_to_string(pid_file)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        let daemon = ProcessIdentity::of(pid).unwrap().unwrap();
        daemon.end(END_GRACE).await.unwrap();
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_killed_with_its_group() {
        let folder = tempfile::tempdir().unwrap();
        let pid_file = folder.path().join("pid");
        let line = format!(
            "sleep 600 & echo $! > {}; echo waiting; wait",
            pid_file.display()
        );
        let mut workload = workload(folder.path(), &line, "true");
        workload.stop.limit = Duration::from_millis(300);
        let error = workload.stop().await.unwrap_err();
        assert!(matches!(error, WorkloadError::TimedOut { .. }), "{error}");
        // The shell may have been killed before it wrote the pid; if not, its child is gone too.
        let pid = fs::read_to_string(pid_file).unwrap_or_default();
        if let Ok(pid) = pid.trim().parse()
            && let Some(child) = ProcessIdentity::of(pid).unwrap()
        {
            assert!(child.wait(END_GRACE).await.unwrap());
        }
    }

    #[tokio::test]
    async fn a_command_that_is_cut_off_dies() {
        let folder = tempfile::tempdir().unwrap();
        let running = folder.path().join("running");
        rustix::fs::mkfifoat(rustix::fs::CWD, &running, rustix::fs::Mode::from(0o600)).unwrap();
        let stop = format!("echo $$ > {}; exec sleep 600", running.display());
        let workload = workload(folder.path(), &stop, "true");
        let told = tokio::task::spawn_blocking(move || fs::read_to_string(running));
        let pid = tokio::select! {
            told = told => told.unwrap().unwrap().trim().parse().unwrap(),
            ended = workload.stop() => panic!("{ended:?}"),
        };
        if let Some(process) = ProcessIdentity::of(pid).unwrap() {
            assert!(process.wait(END_GRACE).await.unwrap());
        }
        workload.start().await.unwrap();
    }

    #[tokio::test]
    async fn a_command_of_a_dead_coordinator_is_outlasted() {
        let folder = tempfile::tempdir().unwrap();
        let order = folder.path().join("order");
        let go = folder.path().join("go");
        rustix::fs::mkfifoat(rustix::fs::CWD, &go, rustix::fs::Mode::from(0o600)).unwrap();
        let stop = format!("cat {}; echo stopped >> {}", go.display(), order.display());
        let start = format!("echo started >> {}", order.display());
        let workload = workload(folder.path(), &stop, &start);
        // A coordinator lets the stop go and is never heard of again.
        let mut abandoned = workload.let_go(Action::Stop, &workload.stop).await.unwrap();
        abandoned.cut_off.disarm();
        let next = {
            let workload = workload.clone();
            tokio::spawn(async move { workload.start().await })
        };
        tokio::task::spawn_blocking(move || fs::write(go, ""))
            .await
            .unwrap()
            .unwrap();
        abandoned.child.wait().await.unwrap();
        next.await.unwrap().unwrap();
        assert_eq!(fs::read_to_string(order).unwrap(), "stopped\nstarted\n");
    }

    #[tokio::test]
    async fn a_command_that_was_never_let_go_does_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let touched = folder.path().join("touched");
        let mut child = Command::new("sh")
            .args(["-c", GATE, &format!("touch {}", touched.display())])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdin.take());
        assert!(!child.wait().await.unwrap().success());
        assert!(!touched.exists());
    }
}
