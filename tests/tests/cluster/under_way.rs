//! What may befall a pass that runs: other limits, and the loss of its connections.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use livmig_tests::{
    require,
    run::{Finished, LIMIT, Running, run},
    skip::{self, own_cluster},
};
use serde_json::Value;

use crate::fixture::{Intent, NEW, Namespace, Workload, with_namespace};

/// Bytes that are copied, at least.
const BYTES: u32 = 20_000_000;

/// The port where a destination mover listens for data.
const DATA: u16 = 7401;

/// Starts the workload and has more written to its volume.
fn start(namespace: &Namespace, workload: &Workload) -> Result<()> {
    namespace.start(workload)?;
    let write = format!("head -c {BYTES} /dev/urandom > /data/more && sync /data/more");
    let exec = ["exec", "app-0", "--", "sh", "-c", &write];
    namespace.kubectl(&exec)?.expect(0).map(|_| ())
}

/// Starts the migration with the `bandwidth` and waits until its first pass is under way.
fn begin(namespace: &Namespace, workload: &Workload, bandwidth: &str) -> Result<Running> {
    let mut migration = namespace.migration(workload, NEW)?;
    let migration = Running::start(migration.args(["--bandwidth", bandwidth]))?;
    namespace.await_intent(Intent::LivePass)?;
    Ok(migration)
}

/// The first pass of a migration that is told to have completed.
fn first_pass(told: &Value) -> Result<&Value> {
    let status = &told["status"];
    ensure!(status["outcome"] == "completed", "{status}");
    let first = status["passes"].get(0).context("no pass")?;
    let sent = first["bytesSent"].as_f64().unwrap_or_default();
    ensure!(
        first["complete"] == true && sent >= f64::from(BYTES),
        "{first}"
    );
    Ok(first)
}

#[test]
fn a_bandwidth_is_changed_under_way() -> Result<()> {
    with_namespace("limits", |namespace| {
        let workload = Workload::stateful_set();
        start(namespace, &workload)?;
        // Five minutes for the first pass alone.
        let migration = begin(namespace, &workload, "64Ki")?;
        let set = |flags: &[&str]| {
            let words = [&["set", workload.reference()], flags].concat();
            run(&mut namespace.coord(&words)?)
        };
        set(&["--bandwidth", "1"])?.expect(2)?.says(&["64Ki"])?;
        let changed = set(&["--bandwidth", "none"])?.expect(0)?;
        ensure!(changed.stdout.contains("unlimited"), "{changed:?}");

        let told = migration.wait(LIMIT)?.expect(0)?.json()?;
        let took = first_pass(&told)?["seconds"].as_f64().context("seconds")?;
        ensure!(took < f64::from(BYTES / (64 << 10) / 2), "{told}");
        set(&["--bandwidth", "none"])?.expect(3)?.says(&["ended"])?;
        namespace.expect_completed(&workload, NEW)
    })
}

/// The network namespace of the source mover's pod, found by the pod's address.
fn source_network(namespace: &Namespace) -> Result<PathBuf> {
    let pods = namespace.list(&["pod", "-l", "livmig.io/role=source"])?;
    let address = pods[0]["status"]["podIP"].as_str().context("an address")?;
    for process in fs::read_dir("/proc")? {
        let process = process?.path();
        let words = fs::read(process.join("cmdline")).unwrap_or_default();
        if !words.split(|byte| *byte == 0).any(|word| word == b"source") {
            continue;
        }
        let network = process.join("ns/net");
        let said = within(&network, &["ip", "-o", "address"])?.stdout;
        if said.contains(&format!(" {address}/")) {
            return Ok(network);
        }
    }
    bail!("no process has the address {address}")
}

fn within(network: &Path, words: &[&str]) -> Result<Finished> {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net={}", network.display()))
        .args(words);
    run(&mut command)
}

#[test]
fn a_pass_goes_on_when_its_connections_are_lost() -> Result<()> {
    require!(own_cluster().map(|_| ()));
    for program in ["nsenter", "ss", "ip"] {
        require!(skip::program(program));
    }
    with_namespace("lost", |namespace| {
        let workload = Workload::stateful_set();
        start(namespace, &workload)?;
        // Some seconds of a pass.
        let mut migration = begin(namespace, &workload, "4Mi")?;
        let network = source_network(namespace)?;
        let to_data = format!("dport = :{DATA}");
        let sockets = ["-t", "-H", "state", "established", &to_data];
        let mut destroyed = false;
        // Nothing tells when lanes are open beside the first connection.
        while !destroyed && migration.is_running()? {
            let words = [["ss"].as_slice(), &sockets].concat();
            if within(&network, &words)?.stdout.lines().count() > 1 {
                let words = [["ss", "-K"].as_slice(), &sockets].concat();
                within(&network, &words)?.expect(0)?;
                destroyed = true;
            }
        }
        let told = migration.wait(LIMIT)?.expect(0)?.json()?;
        let first = first_pass(&told)?;
        require!(
            destroyed
                .then_some(())
                .ok_or("needs movers that find TCP the faster")
        );
        ensure!(first["connectionsLost"].as_u64() >= Some(1), "{told}");
        namespace.expect_completed(&workload, NEW)
    })
}
