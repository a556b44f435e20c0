//! The part of `cargo xtask test` that needs a cluster: it makes one of its own, beside whatever
//! runs on this machine already, and takes it down again.

use std::{env, path::Path, process::Command};

use crate::{cargo::cargo, machine, stage::Stages};

/// Where the test's own cluster runs.
const FOLDER: &str = "/run/livmig-test";

/// Why there can be no cluster here; none when there can.
pub(crate) fn obstacle() -> Option<&'static str> {
    if !cfg!(target_os = "linux") {
        return Some("a cluster of one machine needs Linux");
    }
    if !machine::is_root() {
        return Some("a cluster of one machine needs root, for its namespaces and mounts");
    }
    if !machine::is_on_path("go") {
        return Some("Kubernetes is built with Go 1.26 or newer, which is not installed");
    }
    None
}

/// Judges the storage driver, makes the cluster, runs the example on it from start to clean-up
/// and the tests that need one, and takes the cluster down, which fails when anything of it is left.
pub(crate) fn run(root: &Path, target: &Path, stages: &mut Stages) {
    if let Some(reason) = obstacle() {
        stages.skip("cluster", reason);
        return;
    }
    stages.command("cluster: storage driver", &mut cluster(&["sanity"]));
    if stages.command("cluster: up", &mut cluster(&["up"])) {
        stages.command(
            "cluster: example, migrated while it writes",
            &mut cluster(&["example", "--size", "256Mi"]),
        );
        let mut tests = cargo(root);
        tests
            .args(["test", "--locked", "--package", "livmig-tests"])
            .args(["--features", "cluster", "--test", "cluster"])
            .env("LIVMIG_BIN_DIR", target.join("release"))
            .env("LIVMIG_SCRATCH", target.join("tmp"))
            .env("LIVMIG_KUBECONFIG", format!("{FOLDER}/kubeconfig"))
            .env("LIVMIG_KUBECTL", format!("{FOLDER}/bin/kubectl"))
            .env("RUST_BACKTRACE", "0");
        stages.tests("cluster: tests", &mut tests);
    }
    stages.command("cluster: down, nothing left", &mut cluster(&["down"]));
}

/// This program's own command for the cluster, on one that is the test's alone.
fn cluster(arguments: &[&str]) -> Command {
    let mut command = Command::new(env::current_exe().unwrap_or_else(|_| "xtask".into()));
    command
        .arg("cluster")
        .args(arguments)
        .env("LIVMIG_CLUSTER_DIR", FOLDER);
    command
}
