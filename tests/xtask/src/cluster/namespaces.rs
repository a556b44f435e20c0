//! A machine: a process that does nothing, alone in namespaces for network, mounts and process
//! ids. Everything else of the machine enters them. When that process ends, the kernel ends the
//! others and drops their mounts, so nothing of a machine can be left over.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::{
    cgroups,
    layout::{HIDDEN, LOCAL_PATH, Layout, Machine},
    network::NAMESPACES,
    process::{Process, await_value, run, start},
};

/// The settings of the whole kernel that a kubelet insists on and would change. It gets to see
/// files with the values it wants instead: the host's settings are not the cluster's to change.
const KERNEL_SETTINGS: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// A machine that runs.
#[derive(Clone, Debug)]
pub(super) struct Running {
    /// Which.
    pub(super) machine: Machine,
    /// The process that holds its namespaces.
    pub(super) init: Process,
}

/// Starts `machine` in its network namespace, its mounts made.
pub(super) fn boot(layout: &Layout, machine: Machine) -> Result<Running> {
    let net = format!("--net={NAMESPACES}/{}", layout.namespace(machine));
    let pause = layout.program("pause").canonicalize()?;
    let arguments = [
        "nsenter",
        &net,
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        &pause.to_string_lossy(),
    ];
    let folder = layout.run_of(machine);
    let log = folder.join("log/init.log");
    let outer = start(&arguments, &[], &cgroups::procs(&layout.name)?, &log)?;
    let init = await_value(
        &format!("The start of {}", machine.name()),
        Duration::from_secs(10),
        || {
            let found = Process::all()
                .into_iter()
                .find(|process| process.parent == outer && process.name.starts_with("pause"));
            if found.is_none() && Process::of(outer).is_none() {
                bail!(
                    "{} could not be started: read {}",
                    machine.name(),
                    log.display()
                );
            }
            Ok(found)
        },
    )?;
    let running = Running { machine, init };
    make_mounts(layout, &running)
        .with_context(|| format!("The mounts of {} could not be made", machine.name()))?;
    // Last: what reads it may rely on the mounts.
    let init = &running.init;
    fs::write(
        folder.join("init"),
        format!("{} {}", init.pid, init.started),
    )?;
    Ok(running)
}

/// `machine`, when it runs.
pub(super) fn find(layout: &Layout, machine: Machine) -> Option<Running> {
    let noted = fs::read_to_string(layout.run_of(machine).join("init")).ok()?;
    let (pid, started) = noted.split_once(' ')?;
    let init = Process::of(pid.parse().ok()?)?;
    (init.started == started.parse::<u64>().ok()?).then_some(Running { machine, init })
}

impl Running {
    /// What to put before a command so that it runs inside.
    pub(super) fn enter(&self) -> Vec<String> {
        let pid = self.init.pid.to_string();
        ["nsenter", "-t", &pid, "--net", "--mount", "--pid", "--"]
            .map(str::to_owned)
            .into()
    }

    /// Every process inside, pods included.
    pub(super) fn processes(&self) -> Vec<Process> {
        let ours = self.init.namespace("pid");
        Process::all()
            .into_iter()
            .filter(|process| process.namespace("pid") == ours)
            .collect()
    }
}

/// Hides the host's variable folders behind empty ones, shows the cluster's own folders in them,
/// and shares all mounts among what runs inside.
fn make_mounts(layout: &Layout, running: &Running) -> Result<()> {
    const SCRIPT: &str = r#"
run=$1 data=$2 settings=$3; shift 3
mount -t tmpfs tmpfs /mnt
mkdir /mnt/run /mnt/data
mount --bind "$run" /mnt/run
mount --bind "$data" /mnt/data
for hidden; do mount -t tmpfs -o mode=755 tmpfs "$hidden"; done
mkdir -p "$run" "$data" /run/lock /run/netns
mount --move /mnt/run "$run"
mount --move /mnt/data "$data"
umount /mnt
cd "$settings"
find . -type f | while read -r setting; do
    # Not every kernel has all of them; what is not there needs no hiding.
    if [ -e "/proc/sys/$setting" ]; then mount --bind "$setting" "/proc/sys/$setting"; fi
done
"#;
    let settings = layout.run_of(running.machine).join("settings");
    for (setting, value) in KERNEL_SETTINGS {
        let file = settings.join(setting);
        fs::create_dir_all(file.parent().unwrap_or(&settings))?;
        fs::write(&file, format!("{value}\n"))?;
    }
    let mut command = running.enter();
    command.extend(["sh", "-ec", SCRIPT, "sh"].map(str::to_owned));
    command.extend(
        [&layout.run, &layout.data, &settings].map(|path| path.to_string_lossy().into_owned()),
    );
    command.extend(HIDDEN.map(str::to_owned));
    inside(&command)?;
    if let Some(volumes) = shown(layout, running.machine) {
        for (from, to) in volumes {
            fs::create_dir_all(&from)?;
            let mut command = running.enter();
            let script = r#"mkdir -p "$2" && mount --bind "$1" "$2""#;
            command.extend(["sh", "-ec", script, "sh"].map(str::to_owned));
            command.extend([&from, &to].map(|path| path.to_string_lossy().into_owned()));
            inside(&command)?;
        }
    }
    let mut command = running.enter();
    command.extend(["mount", "--make-rshared", "/"].map(str::to_owned));
    inside(&command)
}

/// What a node shows at the place where its software expects it.
fn shown(layout: &Layout, machine: Machine) -> Option<Vec<(PathBuf, PathBuf)>> {
    machine.pods()?;
    let local = layout.data_of(machine).join("local-path");
    Some(vec![(local, Path::new(LOCAL_PATH).into())])
}

fn inside(command: &[String]) -> Result<()> {
    let (program, arguments) = command.split_first().context("Nothing to run")?;
    run(program, arguments).map(|_output| ())
}
