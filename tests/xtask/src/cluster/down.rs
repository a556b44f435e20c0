//! `down`: removes a cluster, also one that died half-way, and checks that nothing is left.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{
    cgroups,
    layout::{Layout, Machine},
    network,
    process::{Process, await_value, run as execute},
};

/// How long the kernel may take to be done with what was ended.
const LIMIT: Duration = Duration::from_secs(20);

/// Removes the cluster and says how long it took.
pub(super) fn run(layout: &Layout) -> Result<()> {
    if !crate::machine::is_root() {
        bail!("Only root can remove a cluster: run `sudo -E cargo xtask cluster down`");
    }
    let _alone = layout.lock()?;
    if !is_anything_there(layout) {
        println!("There is no cluster.");
        return Ok(());
    }
    let started = Instant::now();
    remove(layout)?;
    println!("The cluster is gone after {:.1?}.", started.elapsed());
    Ok(())
}

/// Whether anything of a cluster is there.
pub(super) fn is_anything_there(layout: &Layout) -> bool {
    !leftovers(layout).is_empty()
}

/// Removes everything that a cluster made.
pub(super) fn remove(layout: &Layout) -> Result<()> {
    for cgroup in cgroup_names(layout) {
        cgroups::thaw(&cgroup);
    }
    end_processes(layout)?;
    network::remove(layout)?;
    await_value("The release of the loop devices", LIMIT, || {
        Ok(loop_devices(layout).is_empty().then_some(()))
    })
    .or_else(|_still_there| detach(layout))?;
    // Nothing mounts here on the host; if something did, removing would reach into it.
    for mount in mounts(layout).into_iter().rev() {
        execute("umount", [mount])?;
    }
    for cgroup in cgroup_names(layout) {
        cgroups::remove(&cgroup)?;
    }
    for folder in [&layout.data, &layout.run] {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error)
                    .with_context(|| format!("{} could not be removed", folder.display()));
            }
            _ => {}
        }
    }
    let left = leftovers(layout);
    if !left.is_empty() {
        bail!(
            "The cluster was removed, but this is left of it: {}",
            left.join(", ")
        );
    }
    Ok(())
}

/// Everything of a cluster that is there.
fn leftovers(layout: &Layout) -> Vec<String> {
    let mut found = Vec::new();
    for process in processes(layout) {
        found.push(format!("process {} ({})", process.pid, process.name));
    }
    for namespace in network::namespaces(layout).unwrap_or_default() {
        found.push(format!("network namespace {namespace}"));
    }
    if network::link_exists(layout) {
        found.push(format!("network interface {}", layout.name));
    }
    for device in loop_devices(layout) {
        found.push(format!("loop device {device}"));
    }
    for mount in mounts(layout) {
        found.push(format!("mount {mount}"));
    }
    for cgroup in cgroup_names(layout) {
        let folders = cgroups::folders(&cgroup);
        found.extend(
            folders
                .iter()
                .map(|folder| format!("cgroup {}", folder.display())),
        );
    }
    for folder in [&layout.data, &layout.run] {
        if folder.exists() {
            found.push(format!("folder {}", folder.display()));
        }
    }
    found
}

/// Ends every process of the cluster and waits until the last is gone.
fn end_processes(layout: &Layout) -> Result<()> {
    await_value("The end of the cluster's processes", LIMIT, || {
        let alive = processes(layout);
        for process in &alive {
            process.kill();
        }
        Ok(alive.is_empty().then_some(()))
    })
}

/// The processes in the cluster's cgroups: its own, and every container's. They were moved there
/// before they became what they are, so not even a half-made cluster has others.
fn processes(layout: &Layout) -> Vec<Process> {
    let mut pids: Vec<i32> = cgroup_names(layout)
        .iter()
        .flat_map(|cgroup| cgroups::folders(cgroup))
        .filter_map(|folder| fs::read_to_string(folder.join("cgroup.procs")).ok())
        .flat_map(|text| {
            text.lines()
                .filter_map(|line| line.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect();
    pids.sort_unstable();
    pids.dedup();
    pids.into_iter().filter_map(Process::of).collect()
}

fn cgroup_names(layout: &Layout) -> [String; 3] {
    [
        layout.name.clone(),
        layout.namespace(Machine::NodeA),
        layout.namespace(Machine::NodeB),
    ]
}

/// The loop devices that are backed by the cluster's volumes.
fn loop_devices(layout: &Layout) -> Vec<String> {
    let Ok(devices) = fs::read_dir("/sys/block") else {
        return Vec::new();
    };
    devices
        .flatten()
        .filter(|device| {
            fs::read_to_string(device.path().join("loop/backing_file"))
                .is_ok_and(|file| Path::new(file.trim()).starts_with(&layout.data))
        })
        .map(|device| device.file_name().to_string_lossy().into_owned())
        .collect()
}

fn detach(layout: &Layout) -> Result<()> {
    for device in loop_devices(layout) {
        execute("losetup", ["--detach", &format!("/dev/{device}")])?;
    }
    Ok(())
}

/// Where something is mounted below the cluster's folders on the host, outer ones first.
fn mounts(layout: &Layout) -> Vec<String> {
    fs::read_to_string("/proc/self/mounts")
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .filter(|path| {
            [&layout.data, &layout.run]
                .iter()
                .any(|folder| Path::new(path).starts_with(folder))
        })
        .map(str::to_owned)
        .collect()
}
