//! `cargo xtask test`: says what it will do, does all of it, and counts.

use std::{env, path::Path, process::ExitCode};

use anyhow::Result;

use crate::{
    cargo::{cargo, root},
    foreign::{self, Foreign},
    images, machine, on_cluster,
    rules::{self, workspace::Workspace},
    stage::Stages,
};

/// Runs every stage. Fails when anything failed.
pub(crate) fn run(options: &foreign::Options) -> Result<ExitCode> {
    let root = root()?;
    let foreign = Foreign::of(options, |name| env::var(name).ok())?;
    let has_deny = machine::has_cargo_deny();
    announce(has_deny, foreign.as_ref());
    let mut stages = Stages::default();

    stages.command("format", cargo(&root).args(["fmt", "--all", "--check"]));
    let workspace = Workspace::read(&root)?;
    check_rules(&workspace, &mut stages);
    if has_deny {
        let mut deny = cargo(&root);
        stages.command(
            "cargo deny",
            deny.args([
                "deny",
                "--all-features",
                "check",
                "bans",
                "licenses",
                "sources",
            ]),
        );
    } else {
        stages.skip(
            "cargo deny",
            "cargo-deny is not installed; the rules of deny.toml were checked by this program",
        );
    }
    let mut clippy = cargo(&root);
    clippy.args(["clippy", "--workspace", "--all-targets", "--locked", "--"]);
    stages.command("lints", clippy.args(["-D", "warnings"]));

    let mut build = cargo(&root);
    build.args(["build", "--release", "--workspace", "--bins", "--locked"]);
    stages.command("release build", &mut build);
    stages.check("images", || {
        images::build(&root)?;
        Ok(Vec::new())
    });
    run_tests(&root, &workspace.target, &mut stages);
    on_cluster::run(&root, &workspace.target, foreign.as_ref(), &mut stages);

    let mut doc = cargo(&root);
    doc.args([
        "doc",
        "--workspace",
        "--no-deps",
        "--document-private-items",
    ]);
    stages.command("documentation", doc.env("RUSTDOCFLAGS", "-D warnings"));
    Ok(close(&stages))
}

/// Checks the house rules and nothing else.
pub(crate) fn run_rules() -> Result<ExitCode> {
    let mut stages = Stages::default();
    check_rules(&Workspace::read(&root()?)?, &mut stages);
    Ok(close(&stages))
}

fn check_rules(workspace: &Workspace, stages: &mut Stages) {
    for (name, check) in rules::ALL {
        stages.check(name, || check(workspace));
    }
}

/// Every test of every crate; those of whole binaries run the release build.
fn run_tests(root: &Path, target: &Path, stages: &mut Stages) {
    let mut tests = cargo(root);
    tests
        .args(["test", "--workspace", "--no-fail-fast", "--locked"])
        .env("LIVMIG_BIN_DIR", target.join("release"))
        .env("LIVMIG_IMAGES_DIR", target.join("images"))
        .env("LIVMIG_SCRATCH", target.join("tmp"))
        // A failure explains itself; where in the tests it was noticed, its name says.
        .env("RUST_BACKTRACE", "0");
    stages.tests("tests", &mut tests);
}

/// Says what will run, what is missing, and what that means; installs what it may.
fn announce(has_deny: bool, foreign: Option<&Foreign>) {
    println!(
        "Will run: format, house rules, supply chain, lints, release build, images, tests of every \
         crate (unit, property, simulator, documentation examples), whole migrations with the \
         release binaries, a real Kubernetes cluster with a migration on it, documentation."
    );
    if let Some(foreign) = foreign {
        println!(
            "The cluster is that of {}: its nodes must hold or be able to pull the images, and \
             what only a cluster of this program has is skipped.",
            foreign.kubeconfig.display()
        );
    } else if let Some(reason) = on_cluster::obstacle() {
        println!("No cluster: {reason}.");
    }
    if !machine::is_root() {
        println!("Not root: tests of owners, devices and small file systems will be skipped.");
    }
    if !has_deny {
        println!(
            "Missing: cargo-deny (optional). The rules of deny.toml are checked by this program \
             alone."
        );
    }
    let missing = machine::missing();
    for missing in &missing {
        println!(
            "Missing: {} ({}), Debian package {}.",
            missing.program, missing.purpose, missing.package
        );
    }
    if missing.is_empty() {
        return;
    }
    if !machine::can_install() {
        println!("Tests that need what is missing will be skipped.");
        return;
    }
    println!("Installing what is missing with apt-get.");
    if !machine::install(&missing) {
        println!("apt-get could not; tests that need what is missing will be skipped.");
    }
}

/// The summary, and the closing line alone at the end.
fn close(stages: &Stages) -> ExitCode {
    println!();
    for (name, reason) in &stages.skips {
        println!("skipped: {name}: {reason}");
    }
    for failure in &stages.failures {
        println!("FAILED: {failure}");
    }
    println!("{}", stages.tally.line());
    if stages.tally.failed == 0 && stages.failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
