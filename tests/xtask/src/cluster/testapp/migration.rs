//! livmig-coord: built, with the mover's image on the nodes, and run.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    super::{layout::Layout, load, process::output},
    app::{App, DESTINATION, NAME},
};
use crate::{
    cargo::{cargo, root},
    images,
    rules::workspace::target_directory,
};

/// livmig-coord.
pub(in crate::cluster) struct Program(PathBuf);

/// A migration that has ended, one way or another.
pub(in crate::cluster) struct Finished {
    /// How livmig-coord ended.
    pub(in crate::cluster) status: ExitStatus,
    /// What it printed.
    pub(in crate::cluster) document: Value,
}

impl Finished {
    /// Whether it says that the workload is on its new volume.
    pub(in crate::cluster) fn completed(&self) -> bool {
        let outcome = self.document.pointer("/status/outcome");
        self.status.success() && outcome == Some(&"completed".into())
    }
}

impl Program {
    /// The one at `file`.
    pub(in crate::cluster) fn at(file: &Path) -> Result<Self> {
        let found = file.canonicalize();
        Ok(Self(found.with_context(|| {
            format!("There is no livmig-coord at {}", file.display())
        })?))
    }

    /// Builds it, and gives the nodes the mover's image of the same sources.
    pub(in crate::cluster) fn build(layout: &Layout) -> Result<Self> {
        let root = root()?;
        let images = images::build(&root)?;
        let archives: Vec<PathBuf> = images
            .built
            .into_iter()
            .map(|image| image.archive)
            .collect();
        load(layout, &archives)?;
        let status = cargo(&root)
            .args(["build", "--locked", "--release", "--workspace", "--bins"])
            .status()
            .context("starting cargo")?;
        ensure!(
            status.success(),
            "livmig-coord could not be built; the compiler says why above"
        );
        Self::at(&target_directory(&root)?.join("release/livmig-coord"))
    }

    /// Migrates the app's volume while it writes.
    pub(in crate::cluster) fn migrate(&self, app: &App<'_>) -> Result<Finished> {
        let workload = format!("statefulset/{NAME}");
        let mut command = self.command(app, &["migrate", &workload]);
        command.args(["--to-class", DESTINATION, "--yes", "-o", "json"]);
        eprintln!("{command:?}");
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("livmig-coord could not be started")?;
        let output = child.wait_with_output()?;
        let document = serde_json::from_slice(&output.stdout).with_context(|| {
            format!(
                "livmig-coord ended with {} and printed no document",
                output.status
            )
        })?;
        Ok(Finished {
            status: output.status,
            document,
        })
    }

    /// Removes what the migration of `document` has left, the old volume too.
    pub(in crate::cluster) fn clean_up(&self, app: &App<'_>, document: &Value) -> Result<()> {
        let name = document
            .pointer("/metadata/name")
            .and_then(Value::as_str)
            .context("the document has no name")?;
        let mut command = self.command(app, &["cleanup", name]);
        command.args(["--delete-old-volumes", "--confirm", name]);
        eprintln!("{command:?}");
        output(&mut command).map(|_said| ())
    }

    fn command(&self, app: &App<'_>, words: &[&str]) -> Command {
        let mut command = Command::new(&self.0);
        command
            .args(words)
            .args(["-n", app.namespace(), "--kubeconfig"])
            .arg(app.layout.kubeconfig())
            // The API is on this machine, whatever proxy leads elsewhere.
            .env("NO_PROXY", "*")
            .env("no_proxy", "*");
        command
    }
}
