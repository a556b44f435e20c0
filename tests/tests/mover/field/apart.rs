//! Ends that are not apart, as no mount of this process tells: it shows when one is met in the other.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Result, ensure};
use livmig_tests::{compare, mounts::Mount, require, scratch::Scratch, skip, snapshot::Snapshot};

use super::filled;
use crate::sync::try_sync;

/// A layer that was renamed after the overlay was mounted is not where the mount says.
#[test]
fn a_renamed_layer_of_the_source_is_not_emptied() -> Result<()> {
    require!(skip::root());
    let scratch = Scratch::new()?;
    let (lower, upper) = (scratch.dir("lower")?, scratch.dir("upper")?);
    filled(&upper.join("in"))?;
    filled(&upper.join("beside"))?;
    let overlay = match Mount::overlay(scratch.path(), "overlay", &lower, &upper) {
        Ok(overlay) => overlay,
        Err(error) => {
            require!(Err::<(), _>(format!("needs overlayfs ({error:#})")));
            return Ok(());
        }
    };
    let renamed = scratch.path().join("renamed");
    fs::rename(&upper, &renamed)?;
    let source = overlay.path().join("in");
    let before = Snapshot::of(&source)?;
    for flags in [&["--adopt"][..], &[]] {
        let finished = try_sync(&source, &renamed, flags)?;
        ensure!(!finished.status.success(), "{finished:?}");
        compare::expect_unchanged(&before, &source)?;
    }
    // And the layer itself, which is the whole source.
    let whole = try_sync(overlay.path(), &renamed, &["--adopt"])?;
    ensure!(!whole.status.success(), "{whole:?}");
    compare::expect_unchanged(&before, &source)?;

    // The other way round: the source lies in the layer that is written.
    let source = renamed.join("in");
    let finished = try_sync(&source, overlay.path(), &["--adopt"])?;
    ensure!(!finished.status.success(), "{finished:?}");
    compare::expect_unchanged(&before, &source)
}

/// A bind mount that another namespace made shows in none of this process's mounts.
#[test]
fn a_bind_mount_of_another_namespace_is_met() -> Result<()> {
    require!(skip::root());
    require!(skip::program("unshare"));
    let scratch = Scratch::new()?;
    let (tree, shown) = (scratch.dir("tree")?, scratch.dir("shown")?);
    filled(&tree.join("in"))?;
    filled(&tree.join("beside"))?;
    let script = "mount --bind \"$1\" \"$2\" && echo ready && exec sleep 600";
    let mut other = Command::new("unshare")
        .args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            script,
            "sh",
        ])
        .args([&tree, &shown])
        .stdout(Stdio::piped())
        .spawn()?;
    let ready = other.stdout.take().map(|out| {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).map(|_| line)
    });
    let tried = (|| -> Result<()> {
        ensure!(
            matches!(ready, Some(Ok(ref line)) if line == "ready\n"),
            "{ready:?}"
        );
        let alias = Path::new("/proc")
            .join(other.id().to_string())
            .join("root")
            .join(shown.strip_prefix("/")?);
        let before = Snapshot::of(&tree.join("in"))?;
        // The source lies in the destination: it is not removed.
        let finished = try_sync(&tree.join("in"), &alias, &["--adopt"])?;
        ensure!(!finished.status.success(), "{finished:?}");
        compare::expect_unchanged(&before, &tree.join("in"))?;
        // The destination lies in the source: it is not copied into itself.
        let inner = alias.join("in/sub");
        let finished = try_sync(&tree, &inner, &["--adopt"])?;
        ensure!(!finished.status.success(), "{finished:?}");
        ensure!(
            !inner.join("in/sub/in").exists(),
            "it was copied into itself"
        );
        Ok(())
    })();
    other.kill()?;
    other.wait()?;
    tried
}
