//! Control groups, in each hierarchy of version 1 or in the one of version 2.
//!
//! One a node for its pods (kubelets that share a root end each other's pods as orphans) and one
//! for the cluster's own processes.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::process::await_value;

const ROOT: &str = "/sys/fs/cgroup";

/// Makes the cgroup `name` in every hierarchy.
pub(super) fn make(name: &str) -> Result<()> {
    for hierarchy in hierarchies()? {
        let group = hierarchy.join(name);
        fs::create_dir_all(&group)
            .with_context(|| format!("The cgroup {} could not be made", group.display()))?;
        // Beside version 1 the second version hands nothing down: its controllers are few there.
        if hierarchy == Path::new(ROOT) {
            delegate(&hierarchy)?;
        }
        // Without these a cpuset of version 1 takes no process.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let ours = group.join(file);
            if !is_v2(&hierarchy) && ours.exists() {
                fs::write(&ours, fs::read(hierarchy.join(file))?)?;
            }
        }
    }
    Ok(())
}

/// The `cgroup.procs` to join the cgroup `name` by, in each hierarchy that has it.
pub(super) fn procs(name: &str) -> Result<Vec<PathBuf>> {
    Ok(hierarchies()?
        .into_iter()
        .map(|hierarchy| hierarchy.join(name).join("cgroup.procs"))
        .filter(|procs| procs.exists())
        .collect())
}

/// Every folder of the cgroup `name`, the innermost first.
pub(super) fn folders(name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for hierarchy in hierarchies().unwrap_or_default() {
        collect(&hierarchy.join(name), &mut found);
    }
    found
}

/// Lets frozen processes of the cgroup `name` go on: while frozen they cannot even be killed.
pub(super) fn thaw(name: &str) {
    for folder in folders(name) {
        // Each hierarchy has one of the two or neither.
        let _ = fs::write(folder.join("freezer.state"), "THAWED");
        let _ = fs::write(folder.join("cgroup.freeze"), "0");
    }
}

/// Removes the cgroup `name` once its last process is gone.
pub(super) fn remove(name: &str) -> Result<()> {
    // A process leaves its cgroup a moment after it can no longer be seen.
    await_value(
        &format!("The end of the cgroup {name}"),
        Duration::from_secs(10),
        || {
            let left = folders(name);
            for folder in &left {
                let _busy = fs::remove_dir(folder);
            }
            Ok(left.is_empty().then_some(()))
        },
    )
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), found);
        }
    }
    found.push(folder.to_owned());
}

/// The roots of the hierarchies that hold processes here.
fn hierarchies() -> Result<Vec<PathBuf>> {
    let root = Path::new(ROOT);
    if is_v2(root) {
        return Ok(vec![root.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(root).context("There are no cgroups below /sys/fs/cgroup")? {
        let entry = entry?;
        // Links such as cpu -> cpu,cpuacct name a hierarchy a second time.
        if entry.file_type()?.is_dir() && entry.path().join("cgroup.procs").exists() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn is_v2(hierarchy: &Path) -> bool {
    hierarchy.join("cgroup.controllers").exists()
}

/// Hands every controller down to the children of `hierarchy`.
fn delegate(hierarchy: &Path) -> Result<()> {
    let controllers = fs::read_to_string(hierarchy.join("cgroup.controllers"))?;
    for controller in controllers.split_whitespace() {
        // Some cannot be handed down; the kubelet says so itself when it misses one.
        let _ = fs::write(
            hierarchy.join("cgroup.subtree_control"),
            format!("+{controller}"),
        );
    }
    Ok(())
}
