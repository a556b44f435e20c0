//! kubectl on the cluster, as the administrator from the host.

use std::{
    ffi::OsString,
    io::Write as _,
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result, bail};

use super::{layout::Layout, process::output};

/// Runs kubectl with `arguments`; what it prints.
pub(super) fn run(layout: &Layout, arguments: &[&str]) -> Result<String> {
    output(command(layout).args(arguments))
}

/// The JSON that kubectl prints for `arguments` and `-o json`.
pub(super) fn json(layout: &Layout, arguments: &[&str]) -> Result<serde_json::Value> {
    let said = output(command(layout).args(arguments).args(["-o", "json"]))?;
    serde_json::from_str(&said).context("kubectl printed no JSON")
}

/// Creates the objects of the JSON document `objects`.
pub(super) fn create(layout: &Layout, objects: &serde_json::Value) -> Result<()> {
    let mut child = command(layout)
        .args(["create", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child
        .stdin
        .take()
        .context("kubectl takes no input")?
        .write_all(objects.to_string().as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!(
            "kubectl create ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

/// Becomes kubectl; returns only when that fails.
pub(super) fn become_it(layout: &Layout, arguments: &[OsString]) -> Result<ExitCode> {
    if !layout.kubeconfig().exists() {
        bail!("There is no cluster: start one with `cargo xtask cluster up`");
    }
    let error = command(layout).args(arguments).exec();
    Err(error).context("kubectl could not be started")
}

/// kubectl as the administrator, with no arguments yet.
pub(super) fn command(layout: &Layout) -> Command {
    let mut command = Command::new(layout.program("kubectl"));
    // The API is on this machine, whatever proxy leads elsewhere.
    command
        .env("KUBECONFIG", layout.kubeconfig())
        .env("NO_PROXY", "*")
        .env("no_proxy", "*");
    command
}
