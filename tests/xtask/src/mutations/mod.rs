//! `cargo xtask mutations`: turns off one rule of the mover at a time, and fails unless some test
//! notices each. It builds in a copy of the tree, so that the tree itself is never wrong.

mod rules;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use self::rules::{Mutation, RULES};
use crate::{
    cargo::{cargo, root},
    rules::workspace::target_directory,
};

/// The tests that are to notice.
const TESTS: [&str; 2] = ["field::", "worlds::"];

/// Tries every rule whose name holds `only`. Fails when one is turned off and nothing fails.
pub(crate) fn run(only: &str) -> Result<ExitCode> {
    let bench = Bench::new(&root()?)?;
    ensure!(
        bench.tests_pass()?,
        "the tests fail before any rule is turned off"
    );
    let mut unnoticed = Vec::new();
    for rule in RULES.iter().filter(|rule| rule.name.contains(only)) {
        println!("== without the rule: {}", rule.name);
        if bench.is_noticed(rule)? {
            println!("== noticed: {}", rule.name);
        } else {
            println!("== NOT NOTICED: {}", rule.name);
            unnoticed.push(rule.name);
        }
    }
    for rule in &unnoticed {
        println!("NOT NOTICED: {rule}");
    }
    println!("{} rules, {} not noticed", RULES.len(), unnoticed.len());
    Ok(if unnoticed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// A copy of the tree, and where it is built.
struct Bench {
    root: PathBuf,
    tree: PathBuf,
    build: PathBuf,
    scratch: PathBuf,
}

impl Bench {
    fn new(root: &Path) -> Result<Self> {
        let target = target_directory(root)?;
        let place = target.join("mutations");
        let tree = place.join("tree");
        if tree.exists() {
            fs::remove_dir_all(&tree)?;
        }
        copy(root, &tree, &[target.clone(), root.join(".git")])?;
        let bench = Self {
            root: root.to_owned(),
            tree,
            build: place.join("build"),
            scratch: target.join("tmp"),
        };
        bench.build(&[
            "build",
            "-p",
            "livmig-mover",
            "-p",
            "livmig-tests",
            "--bins",
        ])?;
        Ok(bench)
    }

    fn is_noticed(&self, rule: &Mutation) -> Result<bool> {
        let path = self.tree.join(rule.file);
        let text = fs::read_to_string(&path)?;
        let changed = without(&text, rule)
            .with_context(|| format!("the list of rules is behind {}", rule.file))?;
        fs::write(&path, changed)?;
        let built = self.build(&["build", "-p", "livmig-mover", "--bins"]);
        let noticed = built.and_then(|()| self.tests_pass().map(|pass| !pass));
        fs::write(&path, text)?;
        noticed.with_context(|| format!("without the rule: {}", rule.name))
    }

    fn build(&self, arguments: &[&str]) -> Result<()> {
        let status = cargo(&self.tree)
            .args(arguments)
            .args(["--quiet", "--locked"])
            .env("CARGO_TARGET_DIR", &self.build)
            // What is no longer called is told, and is no reason to stop.
            .env("RUSTFLAGS", "-Awarnings")
            .status()?;
        ensure!(status.success(), "the build failed");
        Ok(())
    }

    /// Whether all tests pass with what is built now.
    fn tests_pass(&self) -> Result<bool> {
        let mut tests: Command = cargo(&self.root);
        let output = tests
            .args(["test", "--quiet", "--locked", "-p", "livmig-tests"])
            .args(["--test", "mover", "--"])
            .args(TESTS)
            .env("LIVMIG_BIN_DIR", self.build.join("debug"))
            .env("LIVMIG_SCRATCH", &self.scratch)
            .env("RUST_BACKTRACE", "0")
            .stderr(Stdio::inherit())
            .output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        for line in said.lines().filter(|line| is_telling(line)) {
            println!("  {line}");
        }
        Ok(output.status.success())
    }
}

/// Whether a line says what failed, or how many did.
fn is_telling(line: &str) -> bool {
    let is_test = |name: &str| TESTS.iter().any(|tests| name.starts_with(tests));
    line.starts_with("test result:")
        || line.starts_with("seed ")
        || line.strip_prefix("    ").is_some_and(is_test)
}

/// `text` with the rule turned off; its place must be there exactly once.
fn without(text: &str, rule: &Mutation) -> Result<String> {
    let places = text.matches(rule.text).count();
    ensure!(
        places == 1,
        "the text of the rule is there {places} times: {}",
        rule.name
    );
    Ok(text.replacen(rule.text, rule.without, 1))
}

fn copy(from: &Path, to: &Path, but: &[PathBuf]) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if but.contains(&path) {
            continue;
        }
        if kind.is_dir() {
            copy(&path, &to.join(entry.file_name()), but)?;
        } else if kind.is_file() {
            fs::copy(&path, to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A rule that moved must move here too, and this is quicker than finding out by building.
    #[test]
    fn every_rule_is_where_the_list_says() -> Result<()> {
        let root = root()?;
        for rule in RULES {
            let text = fs::read_to_string(root.join(rule.file))?;
            assert_ne!(without(&text, rule)?, text, "{}", rule.name);
        }
        Ok(())
    }
}
