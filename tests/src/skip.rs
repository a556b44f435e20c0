//! Skips: a test that cannot run here says which and why, on stdout and in the file named by
//! `LIVMIG_SKIPS`, where `cargo xtask test` counts it.

use std::{
    env,
    fs::OpenOptions,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

/// Names the file that skips are appended to.
pub const SKIPS: &str = "LIVMIG_SKIPS";

/// How much of a test did not run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Extent {
    /// All of it; its `ok` counts for nothing.
    Whole,
    /// A part; the rest ran and was checked.
    Part,
}

/// Leaves the test (as `Ok(())`) with a printed reason when `$need`, a `Result<(), String>`, is
/// not met on this machine.
#[macro_export]
macro_rules! require {
    ($need:expr) => {
        if let Err(reason) = $need {
            fn here() {}
            $crate::skip::note(
                $crate::skip::Extent::Whole,
                $crate::skip::name_of(here),
                &reason,
            );
            return Ok(());
        }
    };
}

/// Prints that a part of the test cannot run on this machine, and goes on.
#[macro_export]
macro_rules! skip_part {
    ($reason:expr) => {{
        fn here() {}
        $crate::skip::note(
            $crate::skip::Extent::Part,
            $crate::skip::name_of(here),
            &$reason,
        );
    }};
}

/// The path of the function that holds `_here`, for the macros.
pub fn name_of<T>(_here: T) -> &'static str {
    let name = std::any::type_name::<T>();
    name.strip_suffix("::here").unwrap_or(name)
}

/// Notes that `extent` of `test` did not run, because of `reason`.
pub fn note(extent: Extent, test: &str, reason: &str) {
    let word = match extent {
        Extent::Whole => "test",
        Extent::Part => "part",
    };
    println!("skipped: {test}: {reason}");
    let Some(path) = env::var_os(SKIPS) else {
        return;
    };
    let line = format!("{word}\t{test}\t{}\n", reason.replace(['\n', '\t'], " "));
    // One write of one line: appends of several test processes do not mix.
    let written = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .and_then(|mut file| file.write_all(line.as_bytes()));
    if let Err(error) = written {
        eprintln!("could not note a skip of {test}: {error}");
    }
}

/// Needs the right to own, mount and make anything.
pub fn root() -> Result<(), String> {
    if rustix::process::geteuid().is_root() {
        Ok(())
    } else {
        Err("needs root".into())
    }
}

/// Needs `program` on the path.
pub fn program(program: &str) -> Result<(), String> {
    // Every program used here answers --version or fails at once; only its absence matters.
    match Command::new(program).arg("--version").output() {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("needs {program} ({error})")),
    }
}

/// Needs a cluster that `cargo xtask cluster` made, for its delays, its classes or its nodes. The
/// cluster's run folder.
pub fn own_cluster() -> Result<PathBuf, String> {
    let kubeconfig = env::var_os("LIVMIG_KUBECONFIG").map(PathBuf::from);
    kubeconfig
        .as_deref()
        .and_then(run_folder)
        .map(Path::to_owned)
        .ok_or_else(|| "needs a cluster of `cargo xtask cluster`".into())
}

/// The folder of the cluster of `kubeconfig`, if that is one of ours.
fn run_folder(kubeconfig: &Path) -> Option<&Path> {
    let folder = kubeconfig.parent()?;
    folder.join("delays").is_dir().then_some(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_of_ours_is_known_by_its_delays() {
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        assert_eq!(run_folder(&kubeconfig), None);
        std::fs::create_dir(folder.path().join("delays")).unwrap();
        assert_eq!(run_folder(&kubeconfig), Some(folder.path()));
    }
}
