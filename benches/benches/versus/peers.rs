//! Who copies: livmig, and what people would run otherwise.

use std::{
    fmt, fs,
    net::{TcpListener, TcpStream},
    path::Path,
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use livmig_tests::{
    bins,
    run::{LIMIT, Running},
    skip,
};
use rustix::process::Signal;

use crate::measure::{Cost, measure};

/// A program, and the way it is run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Peer {
    /// `livmig-mover sync`, both ends in one process, on the loopback.
    Livmig,
    /// The same with `--verify wire`: nothing is read back, as by the others.
    LivmigUnread,
    /// `rsync -aHAX` to its own daemon on the loopback, without encryption.
    RsyncDaemon,
    /// The same, and files are changed in place.
    RsyncDaemonInPlace,
    /// `rsync -aHAX` over ssh on the loopback.
    RsyncSsh,
    /// `cp -a`.
    Cp,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Livmig => "livmig",
            Self::LivmigUnread => "livmig --verify wire",
            Self::RsyncDaemon => "rsync daemon",
            Self::RsyncDaemonInPlace => "rsync daemon --inplace",
            Self::RsyncSsh => "rsync over ssh",
            Self::Cp => "cp -a",
        })
    }
}

impl Peer {
    /// Why it cannot be run here; none when it can.
    pub(crate) fn missing(self) -> Option<String> {
        let programs: &[&str] = match self {
            Self::Livmig | Self::LivmigUnread => {
                return bins::mover().err().map(|error| error.to_string());
            }
            Self::RsyncDaemon | Self::RsyncDaemonInPlace => &["rsync"],
            Self::RsyncSsh => &["rsync", "ssh", "sshd", "ssh-keygen"],
            Self::Cp => &["cp"],
        };
        // sshd ends at once without it; a service would make it.
        let folder = (self == Self::RsyncSsh && !Path::new(SSHD_FOLDER).is_dir())
            .then(|| format!("needs the folder {SSHD_FOLDER}"));
        programs
            .iter()
            .find_map(|program| skip::program(program).err())
            .or(folder)
    }

    /// Makes `to` equal to `from`, with what it needs below `scratch`.
    pub(crate) fn copy(self, from: &Path, to: &Path, scratch: &Path) -> Result<Cost> {
        match self {
            Self::Livmig => livmig(from, to, "readback"),
            Self::LivmigUnread => livmig(from, to, "wire"),
            Self::Cp => measure(
                || {
                    let mut command = Command::new("cp");
                    command.arg("-a").arg("--").arg(from.join(".")).arg(to);
                    Running::start(&mut command)?.wait(LIMIT)?.expect(0)?;
                    Ok(None)
                },
                || Ok(()),
            ),
            Self::RsyncDaemon => daemon(from, to, scratch, &[]),
            Self::RsyncDaemonInPlace => daemon(from, to, scratch, &["--inplace"]),
            Self::RsyncSsh => ssh(from, to, scratch),
        }
    }
}

fn livmig(from: &Path, to: &Path, verify: &str) -> Result<Cost> {
    measure(
        || {
            let mut command = bins::mover()?;
            command.args(["sync", "--json", "--verify", verify]);
            command.arg(from).arg(to);
            let said = Running::start(&mut command)?
                .wait(LIMIT)?
                .expect(0)?
                .json()?;
            Ok(said
                .pointer("/bytesSent")
                .and_then(serde_json::Value::as_u64))
        },
        || Ok(()),
    )
}

/// Where sshd separates its privileges.
const SSHD_FOLDER: &str = "/run/sshd";

/// What every rsync here is asked for: all that livmig carries, and nothing that it does not.
const RSYNC: [&str; 4] = ["-aHAX", "--numeric-ids", "--delete", "--stats"];

fn daemon(from: &Path, to: &Path, scratch: &Path, flags: &[&str]) -> Result<Cost> {
    let port = free_port()?;
    let config = scratch.join("rsyncd.conf");
    let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
    fs::write(
        &config,
        format!(
            "[to]\npath = {}\nread only = no\nuse chroot = no\nuid = {}\ngid = {}\n",
            to.display(),
            uid.as_raw(),
            gid.as_raw()
        ),
    )?;
    let mut command = Command::new("rsync");
    command
        .args(["--daemon", "--no-detach", "--address=127.0.0.1"])
        .arg(format!("--port={port}"))
        .arg(format!("--config={}", config.display()));
    let service = Running::start(&mut command)?;
    await_port(port)?;
    measure(
        || {
            let mut command = Command::new("rsync");
            command.args(RSYNC).args(flags).arg(with_slash(from));
            command.arg(format!("rsync://127.0.0.1:{port}/to/"));
            stats(command)
        },
        || end(service),
    )
}

fn ssh(from: &Path, to: &Path, scratch: &Path) -> Result<Cost> {
    let port = free_port()?;
    let at = |name: &str| scratch.join(name);
    for key in ["host_key", "user_key"] {
        if !at(key).exists() {
            let mut command = Command::new("ssh-keygen");
            command
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(at(key));
            Running::start(&mut command)?.wait(LIMIT)?.expect(0)?;
        }
    }
    let config = format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\n\
         StrictModes no\nUsePAM no\nPidFile none\nPasswordAuthentication no\n\
         PermitRootLogin prohibit-password\n",
        at("host_key").display(),
        at("user_key.pub").display(),
    );
    fs::write(at("sshd_config"), config)?;
    // It insists on being called by its whole name, to start itself again.
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let program = std::env::split_paths(&folders)
        .map(|folder| folder.join("sshd"))
        .find(|program| program.is_file())
        .context("sshd is gone")?;
    let mut command = Command::new(program);
    command.args(["-D", "-e", "-f"]).arg(at("sshd_config"));
    let service = Running::start(&mut command)?;
    await_port(port)?;
    measure(
        || {
            let shell = format!(
                "ssh -F none -p {port} -i {} -o StrictHostKeyChecking=no \
                 -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR",
                at("user_key").display()
            );
            let mut command = Command::new("rsync");
            command
                .args(RSYNC)
                .args(["-e", &shell])
                .arg(with_slash(from));
            command.arg(format!("127.0.0.1:{}/", to.display()));
            stats(command)
        },
        || end(service),
    )
}

/// Runs an rsync; what it says it has sent, both ways.
fn stats(mut command: Command) -> Result<Option<u64>> {
    command.env("LC_ALL", "C");
    let said = Running::start(&mut command)?.wait(LIMIT)?.expect(0)?.stdout;
    Ok(sent(&said))
}

fn sent(said: &str) -> Option<u64> {
    let line = said
        .lines()
        .find_map(|line| line.strip_prefix("Total bytes sent: "))?;
    line.replace(',', "").trim().parse().ok()
}

fn end(service: Running) -> Result<()> {
    service.signal(Signal::TERM)?;
    service.wait(LIMIT).map(|_| ())
}

/// A port that nobody listens on.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Waits until somebody listens: nothing tells but another attempt.
fn await_port(port: u16) -> Result<()> {
    for _ in 0..500 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    ensure!(false, "nothing listens on port {port}");
    Ok(())
}

/// rsync reads a directory's content, not the directory, when its name ends in a slash.
fn with_slash(path: &Path) -> String {
    format!("{}/", path.display())
}
