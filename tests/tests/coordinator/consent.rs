//! What a migration would leave out: refused before the workload is stopped, unless somebody has
//! said by its reason that it may be.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use livmig_tests::{
    bins,
    journal::{Journals, is_intent},
    mounts::{self, Mount},
    require,
    run::{Finished, run},
    scratch::Scratch,
    skip,
    writer::service::Service,
};
use serde_json::{Value, json};

use super::{
    host::{Host, writer},
    migrate::text,
};

/// Unmounts what a script has mounted there: two runs of it at once mount twice.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let mut umount = Command::new("umount");
        umount.arg("--lazy").arg(&self.0);
        while umount.output().is_ok_and(|done| done.status.success()) {}
    }
}

/// A line for `sh` that mounts a file system at `at`, once, with a file in it.
fn mounting(at: &Path) -> String {
    let at = at.display();
    format!(
        "{{ test -e '{at}/inside' || {{ mount -t tmpfs tmpfs '{at}' && echo in > '{at}/inside'; }}; }}"
    )
}

/// The one entry of what a document says is left out.
fn left_out(document: &Value) -> Result<&Value> {
    let left = document
        .pointer("/status/volumes/0/leftOut")
        .and_then(Value::as_array)
        .with_context(|| format!("nothing is left out in {document:#}"))?;
    ensure!(left.len() == 1, "{left:?}");
    left.first().context("one")
}

/// Whether the workload was asked to stop.
fn was_asked_to_stop(host: &Host) -> Result<bool> {
    let records = Journals::watch(&host.state_home)?.records()?;
    Ok(records.iter().any(|record| is_intent(record, "quiesce")))
}

fn expect_refused(finished: &Finished, reason: &str, paths: &[&str]) -> Result<()> {
    let document = finished.json()?;
    assert_eq!(text(&document, "/status/outcome")?, "refused");
    let left = left_out(&document)?;
    assert_eq!(left["reason"], reason);
    assert_eq!(left["gravity"], "grave");
    assert_eq!(left["consented"], false);
    assert_eq!(left["paths"], json!(paths));
    assert_eq!(left["total"], paths.len());
    finished.says(paths)?;
    finished.says(&["state: nothing was changed", "next:", "--leave-out", reason])
}

#[test]
fn what_is_mounted_below_is_refused_and_left_out_with_consent() -> Result<()> {
    require!(skip::root());
    let host = Host::start()?;
    let writer = host.service.running()?;
    let (folder, file) = (host.old.join("a mount"), host.old.join("bound"));
    fs::create_dir(&folder)?;
    fs::write(&file, "below")?;
    let other = host.scratch.path().join("other");
    fs::write(&other, "other")?;
    let _tmpfs = Mount::tmpfs_over(&folder)?;
    let _bound = Mount::bind(&other, &file)?;
    fs::write(folder.join("inside"), "inside")?;

    let finished = host.migrate(3)?;
    expect_refused(&finished, "mount", &["a mount", "bound"])?;
    ensure!(!host.new.exists());
    host.expect_untouched(writer)?;

    let finished = run(host.migrate_dir()?.args(["--leave-out", "mount"]))?.expect(0)?;
    let document = finished.json()?;
    assert_eq!(document["spec"]["options"]["leaveOut"], json!(["mount"]));
    assert_eq!(left_out(&document)?["consented"], true);
    assert_eq!(document["status"]["volumes"][0]["notCarried"]["mount"], 2);
    let first = Journals::watch(&host.state_home)?.records()?;
    assert_eq!(
        first[0]["event"]["spec"]["options"]["leaveOut"],
        json!(["mount"])
    );
    ensure!(!host.new.join("a mount/inside").exists());
    assert_eq!(fs::read_to_string(folder.join("inside"))?, "inside");
    host.expect_running_on(&host.new)
}

/// The movers' program, which mounts something at `at` before it begins.
fn mover_that_mounts(host: &Host, at: &Path) -> Result<PathBuf> {
    let script = host.scratch.path().join("mover.sh");
    let real = bins::path("livmig-mover")?;
    fs::write(
        &script,
        format!(
            "#!/bin/sh\n{}\nexec '{}' \"$@\"\n",
            mounting(at),
            real.display()
        ),
    )?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    Ok(script)
}

#[test]
fn what_a_live_pass_leaves_out_is_refused_and_the_advice_works() -> Result<()> {
    require!(skip::root());
    let host = Host::start()?;
    let writer = host.service.running()?;
    let folder = host.old.join("late");
    fs::create_dir(&folder)?;
    let _mounted = Mounted(folder.clone());
    let mover = mover_that_mounts(&host, &folder)?;

    let finished = run(host.migrate_dir()?.arg("--mover").arg(&mover))?.expect(3)?;
    expect_refused(&finished, "mount", &["late"])?;
    finished.says(&["mount (1) would be left out", "never asked to stop"])?;
    ensure!(!was_asked_to_stop(&host)?);
    let hint = finished.json()?["status"]["hint"]
        .as_str()
        .context("a hint")?
        .to_owned();
    ensure!(hint.contains("--adopt --leave-out mount"), "{hint}");
    // The same is told afterwards.
    let name = host.migration()?;
    let stored = run(host.coord()?.args(["get", &name, "-o", "json"]))?.expect(0)?;
    assert_eq!(left_out(&stored.json()?)?["paths"], json!(["late"]));
    let status = run(host.coord()?.args(["status", &name]))?.expect(0)?;
    ensure!(
        status.stdout.contains("\n  late") && status.stdout.contains("(refused)"),
        "{}",
        status.stdout
    );
    host.expect_untouched(writer)?;

    let advised = ["--adopt", "--leave-out", "mount"];
    run(host.migrate_dir()?.args(advised))?.expect(0)?;
    host.expect_running_on(&host.new)
}

#[test]
fn what_the_final_pass_is_first_to_leave_out_rolls_back() -> Result<()> {
    require!(skip::root());
    let host = Host::start()?;
    let folder = host.old.join("late");
    fs::create_dir(&folder)?;
    let _mounted = Mounted(folder.clone());
    let stop = format!("{} && {}", mounting(&folder), host.service_command("stop"));
    let finished = run(&mut host.migrate_dir_with(&stop, &host.service_command("start"))?)?;
    let finished = finished.expect(4)?;
    finished.says(&["rolled back", "mount (1)", "late", "--leave-out mount"])?;
    let document = finished.json()?;
    assert_eq!(document["status"]["outcome"], "rolledBack");
    assert_eq!(left_out(&document)?["paths"], json!(["late"]));
    host.expect_running_on(&host.old)
}

/// A workload on the root of a file system of its own, to be moved to the root of another.
fn on_roots(old: &Mount, new: &Mount) -> Result<Host> {
    let scratch = Scratch::new()?;
    let path = scratch.path().join("data");
    symlink(old.path(), &path)?;
    let host = Host {
        old: old.path().to_owned(),
        new: new.path().to_owned(),
        state_home: scratch.dir("state")?,
        service: Service {
            volume: path.clone(),
            home: scratch.dir("service")?,
        },
        path,
        scratch,
    };
    host.service.start(&writer())?;
    Ok(host)
}

#[test]
fn what_a_file_system_check_rescued_is_left_out_only_with_consent() -> Result<()> {
    require!(mounts::available("mkfs.ext4"));
    let images = Scratch::new()?;
    let old = Mount::ext4(images.path(), "old", 32 << 20, &[])?;
    let new = Mount::ext4(images.path(), "new", 32 << 20, &[])?;
    fs::write(old.path().join("lost+found/#12"), "rescued")?;
    let host = on_roots(&old, &new)?;
    let writer = host.service.running()?;

    let finished = host.migrate(3)?;
    expect_refused(&finished, "lost-found", &["lost+found"])?;
    ensure!(!was_asked_to_stop(&host)?);
    host.expect_untouched(writer)?;

    let advised = ["--adopt", "--leave-out", "lost-found"];
    let finished = run(host.migrate_dir()?.args(advised))?.expect(0)?;
    assert_eq!(left_out(&finished.json()?)?["consented"], true);
    host.expect_running_on(&host.new)
}

#[test]
fn a_reason_that_is_none_is_wrong_usage() -> Result<()> {
    let host = Host::start()?;
    let writer = host.service.running()?;
    let finished = run(host.migrate_dir()?.args(["--leave-out", "mount,sockets"]))?.expect(2)?;
    finished.says(&["sockets", "attributes-unsupported", "lost-found"])?;
    host.expect_untouched(writer)
}
