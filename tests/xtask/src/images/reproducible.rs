//! Whether the images depend on where and when they are built: they are built once more, from a
//! copy of the sources in another folder and from nothing else, and compared.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::{Images, build_into};
use crate::rules::workspace::target_directory;

/// Builds the workspace at `root` once more, elsewhere. Fails unless every archive is equal to
/// that in `images`.
pub(super) fn check(root: &Path, images: &Images) -> Result<()> {
    // Not as long as the first: a path that gets into a program would move what follows it.
    let target = target_directory(root)?;
    let elsewhere = target.join("images/built-once-more-elsewhere");
    remove(&elsewhere)?;
    let copy = elsewhere.join("sources");
    copy_sources(
        root,
        &copy,
        &[root.join(".git"), root.join("target"), target],
    )?;
    let again = build_into(&copy, &elsewhere.join("images"))?;
    let differences = differences(&read(&images.sums)?, &read(&again.sums)?);
    if !differences.is_empty() {
        bail!(
            "Built again, these are not the same: {}. Both lie side by side for comparison, below \
             {} and {}",
            differences.join(", "),
            images.sums.parent().unwrap_or(root).display(),
            elsewhere.display()
        );
    }
    remove(&elsewhere)
}

/// The files whose checksums differ, or which only one of two builds made.
fn differences(sums: &str, others: &str) -> Vec<String> {
    let all = sums.lines().chain(others.lines());
    let only_in_one = all.filter(|line| {
        let is_in = |sums: &str| sums.lines().any(|other| other == *line);
        is_in(sums) != is_in(others)
    });
    let mut files: Vec<String> = only_in_one
        .map(|line| line.split_once("  ").map_or(line, |(_, file)| file))
        .map(str::to_owned)
        .collect();
    files.sort();
    files.dedup();
    files
}

/// Copies the folder `from`, but not what lies at the paths in `without`.
fn copy_sources(from: &Path, to: &Path, without: &[PathBuf]) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        if without.contains(&path) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            copy_sources(&path, &to.join(name), without)?;
        } else {
            fs::copy(&path, to.join(name))
                .with_context(|| format!("copying {}", path.display()))?;
        }
    }
    Ok(())
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", folder.display()))
        }
        _ => Ok(()),
    }
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named_once() {
        let sums = "11  a.tar\n22  b.tar\n33  c.tar\n";
        assert!(differences(sums, sums).is_empty());
        assert_eq!(
            differences(sums, "11  a.tar\n23  b.tar\n44  d.tar\n"),
            ["b.tar", "c.tar", "d.tar"]
        );
    }

    #[test]
    fn sources_are_copied_and_builds_are_not() {
        let root = tempfile::tempdir().unwrap();
        for folder in [".git", "target", "mover/target"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
            fs::write(root.path().join(folder).join("file"), "").unwrap();
        }
        let copy = tempfile::tempdir().unwrap();
        copy_sources(
            root.path(),
            copy.path(),
            &[".git", "target"].map(|name| root.path().join(name)),
        )
        .unwrap();
        assert!(copy.path().join("mover/target/file").exists());
        assert!(!copy.path().join("target").exists());
        assert!(!copy.path().join(".git").exists());
    }
}
