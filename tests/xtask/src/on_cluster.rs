//! The part of `cargo xtask test` that needs a cluster: it makes one of its own, beside whatever
//! runs on this machine already, and takes it down again, or uses the one that it is given.

use std::{env, path::Path, process::Command};

use crate::{
    cargo::cargo,
    foreign::{self, Foreign},
    machine,
    stage::Stages,
};

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

/// Runs what needs a cluster: on the `foreign` one, or on one of the test's own.
pub(crate) fn run(root: &Path, target: &Path, foreign: Option<&Foreign>, stages: &mut Stages) {
    match foreign {
        Some(foreign) => run_there(root, target, foreign, stages),
        None => run_here(root, target, stages),
    }
}

/// Judges the storage driver, makes the cluster, runs the example on it from start to clean-up
/// and the tests that need one, and takes the cluster down, which fails when anything of it is left.
fn run_here(root: &Path, target: &Path, stages: &mut Stages) {
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
        let folder = Path::new(FOLDER);
        let kubectl = folder.join("bin/kubectl");
        let mut tests = tests(root, target, &folder.join("kubeconfig"), &kubectl);
        for name in foreign::VARIABLES {
            tests.env_remove(name);
        }
        stages.tests("cluster: tests", &mut tests);
    }
    stages.command("cluster: down, nothing left", &mut cluster(&["down"]));
}

/// Runs the tests alone, in namespaces that they make and remove.
fn run_there(root: &Path, target: &Path, foreign: &Foreign, stages: &mut Stages) {
    let reason =
        "the cluster of --kubeconfig is not one of this program, which alone has that driver";
    stages.skip("cluster: storage driver", reason);
    let reason = "it runs on a cluster of this program alone; elsewhere deploy/example/README.md \
                  says how";
    stages.skip("cluster: example, migrated while it writes", reason);
    if stages.check("cluster: there, with both classes", || foreign.problems()) {
        let mut tests = tests(root, target, &foreign.kubeconfig, &foreign.kubectl);
        tests.envs(foreign.variables());
        stages.tests("cluster: tests", &mut tests);
    }
}

/// The tests that need a cluster, with the release binaries.
fn tests(root: &Path, target: &Path, kubeconfig: &Path, kubectl: &Path) -> Command {
    let mut tests = cargo(root);
    tests
        .args(["test", "--locked", "--package", "livmig-tests"])
        .args(["--features", "cluster", "--test", "cluster"])
        .env("LIVMIG_BIN_DIR", target.join("release"))
        .env("LIVMIG_SCRATCH", target.join("tmp"))
        .env("LIVMIG_KUBECONFIG", kubeconfig)
        .env("LIVMIG_KUBECTL", kubectl)
        .env("RUST_BACKTRACE", "0");
    tests
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
