//! Whole migrations that go well, and what is printed about them.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use livmig_tests::{
    journal::{Journals, is_intent},
    mounts::Mount,
    require,
    run::{LIMIT, Running, run},
    skip,
};
use serde_json::Value;

use super::host::Host;

/// The text at `pointer` of a document.
pub(crate) fn text<'a>(document: &'a Value, pointer: &str) -> Result<&'a str> {
    document
        .pointer(pointer)
        .and_then(Value::as_str)
        .with_context(|| format!("no text {pointer} in {document:#}"))
}

fn number(document: &Value, pointer: &str) -> Result<f64> {
    document
        .pointer(pointer)
        .and_then(Value::as_f64)
        .with_context(|| format!("no number {pointer} in {document:#}"))
}

/// What every document of a finished migration of one directory says.
pub(crate) fn expect_completed(document: &Value) -> Result<()> {
    assert_eq!(text(document, "/apiVersion")?, "livmig.io/v1alpha1");
    assert_eq!(text(document, "/kind")?, "Migration");
    assert_eq!(text(document, "/status/outcome")?, "completed");
    text(document, "/metadata/name")?;
    text(document, "/metadata/uid")?;
    let passes = document.pointer("/status/passes").and_then(Value::as_array);
    let kinds = passes
        .context("no passes")?
        .iter()
        .map(|pass| {
            for field in [
                "/number",
                "/entries",
                "/bytesScanned",
                "/bytesSent",
                "/seconds",
            ] {
                number(pass, field)?;
            }
            text(pass, "/kind")
        })
        .collect::<Result<Vec<_>>>()?;
    ensure!(kinds.last() == Some(&"final"), "{kinds:?}");
    ensure!(
        kinds.iter().filter(|kind| **kind == "live").count() >= 2,
        "{kinds:?}"
    );
    let (source, destination) = (
        text(document, "/status/volumes/0/verify/digestSource")?,
        text(document, "/status/volumes/0/verify/digestDestination")?,
    );
    ensure!(
        !source.is_empty() && source == destination,
        "{source} {destination}"
    );
    number(document, "/status/downtimeSeconds")?;
    for bound in ["low", "expected", "high"] {
        number(
            document,
            &format!("/status/predictedDowntimeSeconds/{bound}"),
        )?;
    }
    let terms = document
        .pointer("/status/downtimeTerms")
        .and_then(Value::as_object);
    ensure!(!terms.context("no terms")?.is_empty(), "{document:#}");
    Ok(())
}

#[test]
fn a_running_workload_moves() -> Result<()> {
    let host = Host::start()?;
    let before = host.service.running()?;
    let finished = host.migrate(0)?;
    expect_completed(&finished.json()?)?;
    assert_ne!(host.service.running()?, before, "it was never stopped");
    host.expect_running_on(&host.new)?;
    ensure!(host.old.join("log").exists(), "the old volume is gone");
    Ok(())
}

#[test]
fn a_destination_with_something_in_it_is_adopted_when_asked() -> Result<()> {
    let host = Host::start()?;
    fs::create_dir(&host.new)?;
    fs::write(host.new.join("foreign"), "foreign")?;
    run(host.migrate_dir()?.arg("--adopt"))?.expect(0)?;
    ensure!(!host.new.join("foreign").exists());
    host.expect_running_on(&host.new)
}

/// There and back again: the old volume is a destination like any other.
#[test]
fn a_chain_of_migrations() -> Result<()> {
    let mut host = Host::start()?;
    host.migrate(0)?;
    let third = host.scratch.path().join("third");
    let second = std::mem::replace(&mut host.new, third);
    host.migrate(0)?;
    host.expect_running_on(&host.new)?;
    ensure!(second.join("log").exists());
    Ok(())
}

#[test]
fn a_finished_migration_is_listed_and_cleaned_up() -> Result<()> {
    let host = Host::start()?;
    host.migrate(0)?;
    let name = host.migration()?;
    let get = |arguments: &[&str]| run(host.coord()?.arg("get").args(arguments))?.expect(0);

    assert!(get(&[])?.stdout.contains(&name));
    expect_completed(&get(&[&name, "-o", "json"])?.json()?)?;
    let list = get(&["-o", "json"])?.json()?;
    assert_eq!(text(&list, "/kind")?, "List");
    assert_eq!(text(&list, "/items/0/metadata/name")?, name);
    let status = run(host.coord()?.args(["status", &name]))?.expect(0)?;
    assert!(status.stdout.contains("ompleted"), "{}", status.stdout);

    // Old data goes only when its migration is named twice.
    run(host
        .coord()?
        .args(["cleanup", &name, "--delete-old-volumes"]))?
    .expect(2)?;
    ensure!(host.old.join("log").exists());
    run(host
        .coord()?
        .args(["cleanup", &name, "--delete-old-volumes", "--confirm", &name]))?
    .expect(0)?;
    ensure!(!host.old.exists(), "the old volume is still there");
    host.expect_running_on(&host.new)?;
    assert!(!get(&[])?.stdout.contains(&name));
    Ok(())
}

/// Whatever is at the old volume's path or in it that is not the old volume stays.
#[test]
fn clean_up_removes_the_old_volume_and_nothing_else() -> Result<()> {
    let host = Host::start()?;
    host.migrate(0)?;
    let name = host.migration()?;
    let clean_up = || -> Result<_> {
        let arguments = ["cleanup", &name, "--delete-old-volumes", "--confirm", &name];
        run(host.coord()?.args(arguments))
    };
    let aside = host.old.with_extension("aside");
    fs::rename(&host.old, &aside)?;
    fs::create_dir(&host.old)?;
    fs::write(host.old.join("another's"), "work")?;
    clean_up()?.expect(3)?.says(&["another one stands there"])?;
    ensure!(host.old.join("another's").exists());
    fs::remove_dir_all(&host.old)?;
    fs::rename(&aside, &host.old)?;

    if skip::root().is_ok() {
        let at = host.old.join("mounted");
        fs::create_dir(&at)?;
        let mount = Mount::tmpfs_over(&at)?;
        fs::write(at.join("another's"), "work")?;
        clean_up()?
            .expect(3)?
            .says(&["mounted inside the old volume", "umount"])?;
        ensure!(at.join("another's").exists() && host.old.join("log").exists());
        drop(mount);
    }
    clean_up()?.expect(0)?;
    ensure!(!host.old.exists(), "the old volume is still there");
    host.expect_running_on(&host.new)
}

#[test]
fn clean_up_alone_keeps_the_old_volume() -> Result<()> {
    let host = Host::start()?;
    host.migrate(0)?;
    let name = host.migration()?;
    run(host.coord()?.args(["cleanup", &name]))?.expect(0)?;
    ensure!(host.old.join("log").exists());
    host.expect_running_on(&host.new)
}

#[test]
fn a_migration_is_watched_to_its_end() -> Result<()> {
    let host = Host::start()?;
    let migration = Running::start(&mut host.migrate_dir()?)?;
    let mut journals = Journals::watch(&host.state_home)?;
    ensure!(journals.wait_for(&migration, |record| is_intent(record, "startMovers"))?);
    let name = host.migration()?;
    let watch = ["status", &name, "--watch", "-o", "json"];
    let watched = run(host.coord()?.args(watch))?.expect(0)?;
    migration.wait(LIMIT)?.expect(0)?;
    let documents = watched
        .stdout
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<Vec<Value>, _>>()?;
    ensure!(documents.len() > 3, "{} documents", documents.len());
    expect_completed(documents.last().context("no document")?)?;
    // What was said while it ran is kept.
    let logs = run(host.coord()?.args(["logs", &name]))?.expect(0)?;
    ensure!(!logs.stdout.is_empty());
    Ok(())
}

#[test]
fn a_finished_migration_is_not_rolled_back() -> Result<()> {
    let host = Host::start()?;
    host.migrate(0)?;
    let name = host.migration()?;
    let finished = run(host.coord()?.args(["rollback", &name]))?;
    assert_ne!(finished.status.code(), Some(0));
    host.expect_running_on(&host.new)
}

/// Data bases lock the directory that they work in, with the movers still there when they start.
#[test]
fn a_workload_that_locks_its_directory_starts_on_the_destination() -> Result<()> {
    require!(skip::program("flock"));
    let host = Host::start()?;
    let locks = format!(
        "flock --nonblock --exclusive '{}/.' true",
        host.path.display()
    );
    let start = format!("{locks} && {}", host.service_command("start"));
    let mut command = host.migrate_dir_with(&host.service_command("stop"), &start)?;
    let finished = run(&mut command)?.expect(0)?;
    expect_completed(&finished.json()?)?;
    host.expect_running_on(&host.new)
}
