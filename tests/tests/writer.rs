//! The workload of the migration tests, on its own: killed at any moment it keeps its promises,
//! and a volume that does not keep them is found out.

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, Result, ensure};
use livmig_tests::{
    run::run,
    scratch::Scratch,
    writer::{check, service::Service},
};
use rustix::process::{Signal, kill_process};

fn writer() -> PathBuf {
    env!("CARGO_BIN_EXE_livmig-writer").into()
}

fn service(scratch: &Scratch) -> Result<Service> {
    Ok(Service {
        volume: scratch.dir("volume")?,
        home: scratch.dir("home")?,
    })
}

#[test]
fn starting_and_stopping_may_be_repeated() -> Result<()> {
    let scratch = Scratch::new()?;
    let service = service(&scratch)?;
    service.stop()?;
    service.start(&writer())?;
    let first = service.running()?;
    ensure!(first.is_some());
    service.start(&writer())?;
    assert_eq!(service.running()?, first);
    service.stop()?;
    assert_eq!(service.running()?, None);
    service.stop()?;
    ensure!(check::expect_complete(&service.volume, &service.ledger())? > 0);
    Ok(())
}

#[test]
fn killed_at_any_moment_it_keeps_its_promises() -> Result<()> {
    let scratch = Scratch::new()?;
    let service = service(&scratch)?;
    let mut before = 0;
    for round in 0..20 {
        service.start(&writer())?;
        let pid = service.running()?.context("a writer that runs")?;
        kill_process(pid, Signal::KILL)?;
        while service.running()?.is_some() {
            std::thread::yield_now();
        }
        let records = check::expect_complete(&service.volume, &service.ledger())
            .with_context(|| format!("round {round}"))?;
        ensure!(records > before, "round {round} wrote nothing");
        before = records;
    }
    Ok(())
}

/// What a careless migration does: a copy taken while it writes, and then a switch.
#[test]
fn a_copy_of_a_running_writer_is_not_complete() -> Result<()> {
    let scratch = Scratch::new()?;
    let service = service(&scratch)?;
    service.start(&writer())?;
    let copy = scratch.path().join("copy");
    run(Command::new("cp").arg("-a").args([&service.volume, &copy]))?;
    // At least one more record is promised after the copy.
    let copied = check::acknowledged(&service.ledger())?;
    while check::acknowledged(&service.ledger())? < copied + 2 {
        std::thread::yield_now();
    }
    service.stop()?;
    ensure!(check::expect_complete(&copy, &service.ledger()).is_err());
    check::expect_complete(&service.volume, &service.ledger())?;
    Ok(())
}
