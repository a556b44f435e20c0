//! The built images as others see them: containerd loads the bundle as a node does and runs what
//! is in it, and skopeo reads it as podman and docker's readers do.

use std::{
    env,
    os::{fd::AsFd as _, unix::net::UnixDatagram},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use livmig_tests::{
    bins, require,
    run::{Finished, LIMIT, Running, run},
    scratch::Scratch,
    skip,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::Signal,
};
use serde_json::Value;

/// Exit code of a program that was not told what to do.
const USAGE: i32 = 2;

/// Names the directory that holds the built images.
const IMAGES_DIR: &str = "LIVMIG_IMAGES_DIR";

/// The bundle, built by `cargo xtask images`.
fn bundle() -> Result<PathBuf> {
    let dir = env::var_os(IMAGES_DIR).map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/images"),
        PathBuf::from,
    );
    let listing = dir.read_dir().with_context(|| {
        format!(
            "{} is not built: run `cargo xtask images`, or `cargo xtask test`, which builds it",
            dir.display()
        )
    })?;
    let found = listing
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| {
            let name = path.file_name().map(|name| name.to_string_lossy());
            name.is_some_and(|name| name.starts_with("livmig-airgap-"))
        });
    found.with_context(|| format!("no bundle in {}: run `cargo xtask images`", dir.display()))
}

/// What `livmig-coord images` says there must be.
fn references() -> Result<Vec<String>> {
    let listed = run(bins::coord()?.args(["images", "-o", "json"]))?.expect(0)?;
    let document = listed.json()?;
    let items = document.get("items").and_then(Value::as_array);
    let references = items.context("no items")?.iter().map(|item| {
        let reference = item.get("reference").and_then(Value::as_str);
        Ok(reference.context("no reference")?.to_owned())
    });
    references.collect()
}

/// The parts of `registry/name:version`.
fn name_and_version(reference: &str) -> Result<(&str, &str)> {
    let last = reference.rsplit('/').next().unwrap_or(reference);
    last.split_once(':').context("a reference without a tag")
}

/// A container runtime of this test's own.
struct Containerd {
    daemon: Running,
    socket: PathBuf,
    scratch: Scratch,
}

impl Containerd {
    /// Starts it and waits until it says that it is ready.
    fn start() -> Result<Self> {
        // Paths of sockets are short, so not below the build tree.
        let scratch = Scratch::public()?;
        let at = |name: &str| scratch.path().join(name);
        let config = format!(
            "version = 2\nroot = '{0}/root'\nstate = '{0}/state'\n\
             disabled_plugins = ['io.containerd.grpc.v1.cri']\n\
             [grpc]\naddress = '{0}/containerd.sock'\n\
             [ttrpc]\naddress = '{0}/ttrpc.sock'\n",
            scratch.path().display()
        );
        std::fs::write(at("config.toml"), config)?;
        let ready = UnixDatagram::bind(at("notify"))?;
        // Its mounts end with it, however it ends.
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "containerd", "--config"])
            .arg(at("config.toml"))
            .env("NOTIFY_SOCKET", at("notify"));
        let mut daemon = Running::start(&mut command)?;
        wait_until_ready(&mut daemon, &ready)?;
        Ok(Self {
            daemon,
            socket: at("containerd.sock"),
            scratch,
        })
    }

    fn ctr(&self, arguments: &[&str]) -> Result<Finished> {
        let mut ctr = Command::new("ctr");
        ctr.arg("--address").arg(&self.socket);
        run(ctr.args(["--namespace", "livmig"]).args(arguments))
    }

    /// Runs a container to its end: `[image, id, …]`, and perhaps another command.
    fn run(&self, what: &[&str]) -> Result<Finished> {
        let runc = self.scratch.path().join("runc");
        let fifos = self.scratch.path().join("fifos");
        let mut arguments = vec!["run", "--rm", "--read-only"];
        for (flag, folder) in [("--runc-root", &runc), ("--fifo-dir", &fifos)] {
            arguments.extend([flag, folder.to_str().context("a path that is text")?]);
        }
        arguments.extend(what);
        self.ctr(&arguments)
    }

    /// Ends it and sees it end.
    fn stop(self) -> Result<()> {
        self.daemon.signal(Signal::TERM)?;
        self.daemon.wait(LIMIT)?.expect(0)?;
        drop(self.scratch);
        Ok(())
    }
}

/// Waits for `READY=1`, as systemd does; the end of the daemon is an error.
fn wait_until_ready(daemon: &mut Running, ready: &UnixDatagram) -> Result<()> {
    let limit = Timespec::try_from(LIMIT)?;
    let mut message = [0; 4096];
    loop {
        let pidfd = daemon.pidfd();
        let mut fds = [
            PollFd::from_borrowed_fd(ready.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(pidfd, PollFlags::IN),
        ];
        ensure!(poll(&mut fds, Some(&limit))? > 0, "containerd says nothing");
        let [told, _] = &fds;
        if told.revents().contains(PollFlags::IN) {
            let length = ready.recv(&mut message)?;
            let said = String::from_utf8_lossy(message.get(..length).unwrap_or_default());
            if said.lines().any(|line| line == "READY=1") {
                return Ok(());
            }
        } else {
            ensure!(
                daemon.is_running()?,
                "containerd ended: {}",
                daemon.stderr()?
            );
        }
    }
}

#[test]
fn containerd_loads_the_bundle_and_runs_what_is_in_it() -> Result<()> {
    require!(skip::root());
    require!(skip::program("containerd"));
    require!(skip::program("runc"));
    let bundle = bundle()?;
    let node = Containerd::start()?;
    let path = bundle.to_str().context("a path that is text")?;
    node.ctr(&["images", "import", path])?.expect(0)?;

    let listed = node.ctr(&["images", "ls", "-q"])?.expect(0)?.stdout;
    let mut loaded: Vec<&str> = listed.lines().collect();
    let mut expected = references()?;
    loaded.sort_unstable();
    expected.sort();
    assert_eq!(loaded, expected);
    for reference in &expected {
        let (name, version) = name_and_version(reference)?;
        // What the image itself says: its entrypoint, as its user, on a root that is read-only.
        let entered = node.run(&[reference, name])?.expect(USAGE)?;
        entered.says(&["Usage:", name])?;
        let program = format!("/{name}");
        let ran = node.run(&[reference, name, &program, "--version"])?;
        assert_eq!(ran.expect(0)?.stdout, format!("{name} {version}\n"));
    }
    node.stop()
}

#[test]
fn others_read_the_bundle_both_ways() -> Result<()> {
    require!(skip::program("skopeo"));
    let bundle = bundle()?;
    for reference in references()? {
        let (name, _) = name_and_version(&reference)?;
        for transport in ["oci-archive", "docker-archive"] {
            let from = format!("{transport}:{}:{reference}", bundle.display());
            let inspected = run(Command::new("skopeo").args(["inspect", "--config", &from]))?;
            let config: Value = inspected.expect(0)?.json()?;
            assert_eq!(config["os"], "linux", "{from}");
            let run = &config["config"];
            assert_eq!(run["Entrypoint"][0], format!("/{name}"), "{from}");
            assert_eq!(run["User"], "65532:65532", "{from}");
        }
    }
    Ok(())
}
