//! A second opinion on two trees, by a program that others wrote.

use std::{ffi::OsString, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};

/// What `rsync` would still have to do to make `b` like `a`, contents compared; empty when the
/// trees are equal. File times are compared to the nanosecond.
pub fn differences(a: &Path, b: &Path) -> Result<String> {
    let output = Command::new("rsync")
        .args(["-naHAXc", "--modify-window=-1", "--delete", "-i"])
        .args([with_slash(a), with_slash(b)])
        .env("LC_ALL", "C")
        .output()
        .context("running rsync")?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    ensure!(
        output.status.success(),
        "rsync ended with {}: {text}",
        output.status
    );
    Ok(text)
}

/// rsync reads a directory's content, not the directory, when its name ends in a slash.
fn with_slash(path: &Path) -> OsString {
    let mut name = path.as_os_str().to_owned();
    name.push("/");
    name
}
