//! `sanity`: the CSI test driver before its judges, its own tests and csi-sanity, in mount and
//! process namespaces of their own, so that nothing is left over whatever happens.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use super::{cache::Cache, layout::Layout, packages, process::output, programs::Programs, storage};

/// Starts an instance for the controller (when it is one apart) and one for the node, then the
/// judge. The shell is the first process of its namespace: with it, the drivers end.
const SCRIPT: &str = r#"
folder=$1 driver=$2 sanity=$3; shift 3
mount --bind "$folder" "$folder"
node="$folder/node.sock" controller="$folder/node.sock"
if [ "$SCOPE" = network ]; then
    controller="$folder/controller.sock"
    "$driver" "$@" --volumes="$folder/volumes" --endpoint="$controller" >"$folder/controller.log" 2>&1 &
fi
"$driver" "$@" --volumes="$folder/volumes" --endpoint="$node" --node=node-a >"$folder/node.log" 2>&1 &
"$sanity" --csi.endpoint="$node" --csi.controllerendpoint="$controller" \
    --csi.mountdir="$folder/target" --csi.stagingdir="$folder/staging" \
    --csi.testvolumesize=419430400 --ginkgo.no-color
"#;

/// Fails when the driver fails one of the tests.
pub(super) fn run(layout: &Layout, sources: &Path) -> Result<()> {
    packages::ensure()?;
    let cache = Cache::open(&layout.cache)?;
    let programs = Programs::build(&cache, sources)?;
    drop(cache);
    let mut tests = Command::new("go");
    tests.args(["test", "-count=1", "./csidriver"]);
    print!("{}", output(tests.current_dir(sources))?);
    for (name, file_system, scope) in [
        (storage::OLD, "ext4", "network"),
        (storage::NEW, "xfs", "node"),
    ] {
        judge(&programs, name, file_system, scope)
            .with_context(|| format!("The driver {name} does not pass csi-sanity"))?;
    }
    Ok(())
}

fn judge(programs: &Programs, name: &str, file_system: &str, scope: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let said = folder.path().join("sanity.log");
    let status = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["sh", "-ec", SCRIPT, "sh"])
        .arg(folder.path())
        .arg(programs.path("csi-driver-old")?)
        .arg(programs.path("csi-sanity")?)
        .arg(format!("--name={name}"))
        .arg(format!("--file-system={file_system}"))
        .arg(format!("--scope={scope}"))
        .env("SCOPE", scope)
        .stdin(Stdio::null())
        .stdout(File::create(&said)?)
        .stderr(File::options().append(true).open(&said)?)
        .status()?;
    let said = fs::read_to_string(&said)?;
    if !status.success() {
        bail!("{status}\n{said}");
    }
    // The last line but its end counts what passed; a run of nothing would be no proof.
    let counts = said
        .lines()
        .find(|line| line.contains("Passed"))
        .context("csi-sanity printed no counts")?;
    println!("{name}: {counts}");
    Ok(())
}
