//! Movers that serve a coordinator: passes, epochs, reports, locks and their end.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use livmig_proto::{
    control::{FaultCode, PassKind, PassReport, RequestBody, ResponseBody, Side},
    ids::{Epoch, PassNumber},
};
use livmig_tests::{
    bins, compare,
    control::{Client, Keys, Mover},
    mutate,
    pair::{Pair, report},
    rng::Rng,
    run::{LIMIT, run},
    scratch::Scratch,
};
use rustix::process::Signal;

#[test]
fn live_passes_and_a_final_one() -> Result<()> {
    let pair = Pair::start(50)?;
    let mut rng = Rng::new(51);
    let first = pair.run_pass(1, PassKind::Live)?;
    assert!(first.bytes_sent > 0 && first.entries > 200);
    mutate::apply(&pair.a, 20, &mut rng)?;
    pair.run_pass(2, PassKind::Live)?;
    mutate::apply(&pair.a, 5, &mut rng)?;
    let last = pair.run_pass(3, PassKind::Final)?;
    assert!(last.bytes_sent < first.bytes_sent);
    pair.shut_down()
}

#[test]
fn a_pass_outlives_the_connection_that_asked_for_it() -> Result<()> {
    let pair = Pair::start(52)?;
    let body = pair.pass(1, PassKind::Live)?;
    let mut client = pair.source.connect(&pair.keys.coordinator, Epoch(1))?;
    client.expect_welcome()?;
    client.send(&livmig_proto::control::encode(
        &livmig_proto::control::MoverRequest {
            id: 99,
            epoch: Epoch(1),
            body: body.clone(),
        },
    )?)?;
    drop(client);
    // Joined or already done: either way there is one report, and asking again changes nothing.
    let ask = || -> Result<PassReport> {
        let mut client = pair.source.connect(&pair.keys.coordinator, Epoch(1))?;
        report(client.ask(body.clone())?)
    };
    let (once, again) = (ask()?, ask()?);
    assert!(once.complete, "{once:?}");
    assert_eq!(once, again);
    compare::expect_equal(&pair.a, &pair.b)?;
    pair.shut_down()
}

#[test]
fn an_older_epoch_is_refused() -> Result<()> {
    let pair = Pair::start(53)?;
    for mover in [&pair.source, &pair.destination] {
        let mut newer = mover.connect(&pair.keys.coordinator, Epoch(3))?;
        newer.expect_welcome()?;
        let mut older = mover.connect(&pair.keys.coordinator, Epoch(2))?;
        match older.ask(RequestBody::Shutdown)? {
            ResponseBody::Refused(fault) => assert_eq!(fault.code, FaultCode::StaleEpoch),
            other => bail!("not refused but {other:?}"),
        }
        // Still there, and obeys the newer one.
        newer.expect_welcome()?;
    }
    Ok(())
}

/// A coordinator dies right after it has asked for a pass, and its successor has greeted the
/// destination before the pass gets there.
#[test]
fn a_pass_that_an_older_epoch_asked_for_is_run_again_for_the_newer_one() -> Result<()> {
    let pair = Pair::start(60)?;
    let greet = |epoch| -> Result<()> {
        let mut client = pair.destination.connect(&pair.keys.coordinator, epoch)?;
        client.expect_welcome().map(|_| ())
    };
    greet(Epoch(2))?;
    let body = pair.pass(1, PassKind::Live)?;
    let mut older = pair.source.connect(&pair.keys.coordinator, Epoch(1))?;
    let refused = report(older.ask(body.clone())?)?;
    let codes: Vec<_> = refused.faults.iter().map(|fault| fault.code).collect();
    assert_eq!(codes, [FaultCode::StaleEpoch], "{refused:?}");
    let mut newer = pair.source.connect(&pair.keys.coordinator, Epoch(2))?;
    let again = report(newer.ask(body)?)?;
    assert!(again.complete, "{again:?}");

    // The same while the older one's may still run.
    greet(Epoch(4))?;
    let body = pair.pass(2, PassKind::Live)?;
    let mut older = pair.source.connect(&pair.keys.coordinator, Epoch(3))?;
    older.send(&livmig_proto::control::encode(
        &livmig_proto::control::MoverRequest {
            id: 99,
            epoch: Epoch(3),
            body: body.clone(),
        },
    )?)?;
    let mut newer = pair.source.connect(&pair.keys.coordinator, Epoch(4))?;
    let joined = report(newer.ask(body)?)?;
    assert!(joined.complete, "{joined:?}");
    compare::expect_equal(&pair.a, &pair.b)?;
    let mut client = pair.destination.connect(&pair.keys.coordinator, Epoch(4))?;
    assert_eq!(client.ask(RequestBody::Shutdown)?, ResponseBody::Accepted);
    Ok(())
}

#[test]
fn a_destination_that_holds_something_is_not_taken_over_unasked() -> Result<()> {
    let pair = Pair::start(54)?;
    std::fs::write(pair.b.join("foreign"), "foreign")?;
    let mut client = pair.source.connect(&pair.keys.coordinator, Epoch(1))?;
    let fault = match client.ask(pair.pass(1, PassKind::Live)?)? {
        ResponseBody::Refused(fault) => fault,
        ResponseBody::Report(report) => report.faults.first().cloned().expect("a fault"),
        other => bail!("not refused but {other:?}"),
    };
    assert_eq!(fault.code, FaultCode::NotEmpty, "{fault}");
    assert_eq!(std::fs::read_to_string(pair.b.join("foreign"))?, "foreign");
    assert_eq!(std::fs::read_dir(&pair.b)?.count(), 1);
    Ok(())
}

#[test]
fn a_state_directory_serves_one_mover() -> Result<()> {
    let pair = Pair::start(55)?;
    let finished = run(bins::mover()?
        .arg("source")
        .arg("--root")
        .arg(&pair.a)
        .arg("--state")
        .arg(pair.scratch.path().join("source.state"))
        .arg("--session")
        .arg(pair.scratch.path().join("source.session")))?
    .expect(1)?;
    finished.says(&["source.state"])?;
    assert_eq!(finished.stdout, "");
    pair.run_pass(1, PassKind::Live)?;
    pair.shut_down()
}

/// `kill -9` of either mover between and during passes: a new one on the same state goes on.
#[test]
fn movers_that_were_killed_are_replaced() -> Result<()> {
    let mut pair = Pair::start(56)?;
    let mut rng = Rng::new(57);
    let mut number = 0;
    for side in [
        Side::Source,
        Side::Destination,
        Side::Source,
        Side::Destination,
    ] {
        number += 1;
        pair.run_pass(number, PassKind::Live)?;
        mutate::apply(&pair.a, 20, &mut rng)?;
        number += 1;
        // Asked for but not awaited: the kill meets the pass anywhere, or after its end.
        let mut client = pair.source.connect(&pair.keys.coordinator, Epoch(1))?;
        client.expect_welcome()?;
        client.send(&livmig_proto::control::encode(
            &livmig_proto::control::MoverRequest {
                id: 99,
                epoch: Epoch(1),
                body: pair.pass(number, PassKind::Live)?,
            },
        )?)?;
        let (killed, root) = match side {
            Side::Source => (&mut pair.source, &pair.a),
            Side::Destination => (&mut pair.destination, &pair.b),
        };
        killed.process.signal(Signal::KILL)?;
        let fresh = loop {
            // The lock on its state goes with the process, whose end is near.
            if !killed.process.is_running()? {
                break Mover::start(side, root, pair.scratch.path(), &pair.keys)?;
            }
            std::thread::yield_now();
        };
        *killed = fresh;
        if side == Side::Destination {
            // The source still runs the pass, towards a destination that is gone: it ends with a
            // report, or had ended before.
            let mut client = pair.source.connect(&pair.keys.coordinator, Epoch(1))?;
            let stop = RequestBody::StopPass {
                pass: PassNumber(number),
            };
            assert_eq!(client.ask(stop)?, ResponseBody::Accepted);
            report(client.ask(pair.pass(number, PassKind::Live)?)?)?;
        }
    }
    mutate::apply(&pair.a, 20, &mut rng)?;
    pair.run_pass(number + 1, PassKind::Final)?;
    pair.shut_down()
}

#[test]
fn the_boot_is_known_although_the_process_is_confined() -> Result<()> {
    let pair = Pair::start(58)?;
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    for mover in [&pair.source, &pair.destination] {
        let mut client = mover.connect(&pair.keys.coordinator, Epoch(1))?;
        assert_eq!(client.expect_welcome()?.boot_id, boot.trim());
    }
    pair.shut_down()
}

#[test]
fn a_mover_whose_coordinator_is_gone_ends() -> Result<()> {
    let scratch = Scratch::new()?;
    let a = scratch.dir("a")?;
    let keys = Keys::generate(2)?;
    let mover = Mover::start_with(
        Side::Source,
        &a,
        scratch.path(),
        &keys,
        &["--orphan-timeout", "1"],
    )?;
    let mut client: Client = mover.connect(&keys.coordinator, Epoch(1))?;
    client.expect_welcome()?;
    drop(client);
    let finished = mover.process.wait(Duration::from_mins(1))?;
    assert!(finished.status.code().is_some(), "{finished:?}");
    Ok(())
}

/// What it worked on is free for others while it is still there; it goes when it is told to.
#[test]
fn a_retired_mover_holds_nothing_and_stays() -> Result<()> {
    let mut pair = Pair::start(59)?;
    pair.run_pass(1, PassKind::Final)?;
    let mut client = pair.destination.connect(&pair.keys.coordinator, Epoch(1))?;
    assert_eq!(client.ask(RequestBody::Retire)?, ResponseBody::Accepted);
    drop(client);
    let begun = Instant::now();
    let successor = loop {
        let (b, dir) = (&pair.b, pair.scratch.path());
        match Mover::start(Side::Destination, b, dir, &pair.keys) {
            Ok(mover) => break mover,
            // Its locks go with its last file, just after its answer.
            Err(error) if begun.elapsed() > LIMIT => return Err(error),
            Err(_) => std::thread::yield_now(),
        }
    };
    let stranger = pair.destination.connect(&pair.keys.coordinator, Epoch(1));
    assert!(stranger.is_err(), "it still serves");
    assert!(pair.destination.process.is_running()?);
    pair.destination.process.signal(Signal::TERM)?;
    let retired = std::mem::replace(&mut pair.destination, successor);
    let ended = retired.process.wait(LIMIT)?;
    assert_eq!(ended.status.code(), Some(143), "{}", ended.stderr);
    pair.run_pass(2, PassKind::Final)?;
    pair.shut_down()
}

#[test]
fn a_retired_mover_that_nobody_ends_ends() -> Result<()> {
    let scratch = Scratch::new()?;
    let b = scratch.dir("b")?;
    let keys = Keys::generate(2)?;
    let orphan = ["--orphan-timeout", "1"];
    let mover = Mover::start_with(Side::Destination, &b, scratch.path(), &keys, &orphan)?;
    let mut client = mover.connect(&keys.coordinator, Epoch(1))?;
    assert_eq!(client.ask(RequestBody::Retire)?, ResponseBody::Accepted);
    mover.process.wait(LIMIT)?.expect(0)?;
    Ok(())
}

#[test]
fn the_first_process_of_a_container_ends_when_it_is_asked_to() -> Result<()> {
    livmig_tests::require!(livmig_tests::skip::root());
    let scratch = Scratch::new()?;
    let root = scratch.dir("a")?;
    let keys = Keys::generate(1)?;
    let mover = Mover::start_within(
        &["unshare", "--pid", "--fork", "--kill-child"],
        Side::Source,
        &root,
        scratch.path(),
        &keys,
    )?;
    assert_eq!(mover.listening.pid, 1);
    let children = format!("/proc/{0}/task/{0}/children", mover.process.pid());
    let child: i32 = fs::read_to_string(children)?.trim().parse()?;
    let child = rustix::process::Pid::from_raw(child).context("no child")?;
    rustix::process::kill_process(child, Signal::TERM)?;
    let ended = mover.process.wait(Duration::from_secs(20))?;
    assert_eq!(ended.status.code(), Some(143), "{}", ended.stderr);
    Ok(())
}
