//! Passes over a bad network: slower, never wrong.

use std::{fs, sync::mpsc, thread, time::Duration};

use anyhow::{Result, anyhow, ensure};
use livmig_proto::{
    control::{Fault, FaultCode, PassKind, RequestBody, ResponseBody, Transport},
    ids::{Epoch, PassNumber},
};
use livmig_tests::{
    compare, mutate,
    pair::{Pair, leaving, pass_to, report},
    relay::{Faults, Relay},
    require,
    rng::Rng,
    tunnel::Tunnel,
};

#[test]
fn a_network_that_loses_repeats_reorders_and_damages() -> Result<()> {
    let pair = Pair::start(80)?;
    let faults = Faults {
        lost: 20,
        repeated: 20,
        late: 20,
        damaged: 10,
    };
    let relay = Relay::to(pair.destination.data()?, faults, 81)?;
    let mut rng = Rng::new(82);
    let mut client = pair.source.connect(&pair.keys.coordinator, Epoch(1))?;
    for number in 1..=3 {
        let body = pass_to(relay.address(), number, PassKind::Live);
        let report = report(client.ask(body)?)?;
        assert!(report.complete, "{report:?}");
        assert_eq!(report.transport, Some(Transport::Quic));
        compare::expect_equal(&pair.a, &pair.b)?;
        mutate::apply(&pair.a, 20, &mut rng)?;
    }
    pair.run_pass(4, PassKind::Final)?;
    pair.shut_down()
}

/// The network goes away in the middle: the pass ends with a fault, and the next one, by another
/// way, goes on.
#[test]
fn a_network_that_ends() -> Result<()> {
    let pair = Pair::start(83)?;
    let all = Faults {
        lost: 1000,
        ..Faults::default()
    };
    let relay = Relay::to(pair.destination.data()?, all, 84)?;
    let mut client = pair.source.connect(&pair.keys.coordinator, Epoch(1))?;
    match client.ask(pass_to(relay.address(), 1, PassKind::Live))? {
        ResponseBody::Report(report) => {
            assert!(!report.complete && !report.faults.is_empty(), "{report:?}");
        }
        ResponseBody::Refused(fault) => {
            assert!(fault.code.is_transient(), "{fault:?}");
        }
        other => anyhow::bail!("{other:?}"),
    }
    pair.run_pass(2, PassKind::Live)?;
    pair.shut_down()
}

/// Trees whose passes lose their connections.
const CUT_PASSES: u64 = 4;

/// So much, in several directories, that several lanes carry it.
const LARGE: usize = 96 << 20;

fn large_pair(seed: u64) -> Result<Pair> {
    let pair = Pair::start(seed)?;
    let mut rng = Rng::new(seed);
    for number in 0..16 {
        let dir = pair.a.join(format!("large{number}"));
        fs::create_dir(&dir)?;
        fs::write(dir.join("file"), rng.bytes(LARGE / 16))?;
    }
    Ok(pair)
}

/// Over QUIC a session has a connection for each core. When one of them falls silent, all are lost, and
/// the pass goes on over others.
#[test]
fn one_connection_of_several_that_falls_silent() -> Result<()> {
    require!(cores());
    let pair = large_pair(92)?;
    let mut client = pair.source.connect(&pair.keys.coordinator, Epoch(1))?;
    let relay = Relay::to(pair.destination.data()?, Faults::default(), 94)?;
    relay.silence(1, 100);
    let first = report(client.ask(pass_to(relay.address(), 1, PassKind::Live))?)?;
    let connections = thread::available_parallelism()?.get().min(4);
    assert!(relay.has_silenced() && first.complete, "{first:?}");
    assert_eq!(first.connections_lost, 1, "{first:?}");
    assert_eq!(relay.clients(), 2 * connections);
    compare::expect_equal(&pair.a, &pair.b)?;
    pair.shut_down()
}

/// Needs more than one processor.
fn cores() -> Result<(), String> {
    match thread::available_parallelism() {
        Ok(cores) if cores.get() > 1 => Ok(()),
        _ => Err("one connection carries everything where there is one processor".to_owned()),
    }
}

/// Where UDP does not get through, TCP does; a path that is cut for good ends the pass, at once if
/// it is asked to stop, and what had arrived is not sent again by the next one.
#[test]
fn a_path_for_tcp_alone_that_is_cut() -> Result<()> {
    let pair = large_pair(85)?;
    let cut_after = (LARGE - LARGE / 8) as u64;
    let mut tunnel = Tunnel::to(pair.destination.data()?, cut_after)?;
    let mut client = pair.source.connect(&pair.keys.coordinator, Epoch(1))?;
    let address = tunnel.address();
    let asked = thread::spawn(move || client.ask(pass_to(address, 1, PassKind::Live)));
    tunnel.await_end();
    let mut client = pair.source.connect(&pair.keys.coordinator, Epoch(1))?;
    let stop = RequestBody::StopPass {
        pass: PassNumber(1),
    };
    assert_eq!(client.ask(stop)?, ResponseBody::Accepted);
    let answer = asked.join().map_err(|_| anyhow!("the thread ended"))?;
    let first = report(answer?)?;
    assert!(!first.complete, "{first:?}");
    assert_eq!(first.transport, Some(Transport::Tcp));
    let ended = |fault: &Fault| matches!(fault.code, FaultCode::Disconnected | FaultCode::Stopped);
    assert!(first.faults.iter().any(ended), "{first:?}");

    let tunnel = Tunnel::to(pair.destination.data()?, u64::MAX)?;
    let second = report(client.ask(pass_to(tunnel.address(), 2, PassKind::Live))?)?;
    assert!(second.complete, "{second:?}");
    assert_eq!(second.transport, Some(Transport::Tcp));
    assert!(second.bytes_sent < (LARGE as u64) / 4 * 3, "{second:?}");
    compare::expect_equal(&pair.a, &pair.b)?;

    // When TCP ends, what else gets through is used.
    drop(tunnel);
    let relay = Relay::to(pair.destination.data()?, Faults::default(), 87)?;
    mutate::apply(&pair.a, 20, &mut Rng::new(86))?;
    let third = report(client.ask(pass_to(relay.address(), 3, PassKind::Final))?)?;
    assert!(third.complete, "{third:?}");
    assert_eq!(third.transport, Some(Transport::Quic));
    compare::expect_equal(&pair.a, &pair.b)?;
    pair.shut_down()
}

/// A path that loses its connections and takes new ones: the pass goes on over them, sends nothing
/// again that was applied, and still leaves its read-back to the next.
#[test]
fn a_path_that_loses_its_connections() -> Result<()> {
    let pair = large_pair(89)?;
    let mut client = pair.source.connect(&pair.keys.coordinator, Epoch(1))?;
    let tunnel = Tunnel::in_pieces(pair.destination.data()?, &[64 << 20, 16 << 20, u64::MAX])?;
    let request = leaving(pass_to(tunnel.address(), 1, PassKind::Live));
    let first = report(client.ask(request)?)?;
    assert!(first.complete && first.read_back_left, "{first:?}");
    assert_eq!((first.connections_lost, tunnel.cuts()), (2, 2));
    // From the beginning each time it would be 80 MiB more. What was under way is lost: the sockets
    // of a tunnel hold a lot.
    assert!(first.bytes_sent < (LARGE + (48 << 20)) as u64, "{first:?}");
    compare::expect_equal(&pair.a, &pair.b)?;

    let mut rng = Rng::new(90);
    mutate::apply(&pair.a, 20, &mut rng)?;
    fs::write(pair.a.join("new"), rng.bytes(16 << 20))?;
    let tunnel = Tunnel::in_pieces(pair.destination.data()?, &[4 << 20, u64::MAX])?;
    let last = report(client.ask(pass_to(tunnel.address(), 2, PassKind::Final))?)?;
    assert!(last.complete && last.connections_lost == 1, "{last:?}");
    assert_eq!(last.digest_source, last.digest_destination);
    compare::expect_equal(&pair.a, &pair.b)?;
    pair.shut_down()
}

/// Connections that are lost anywhere, in passes over trees of all sorts: whatever pass ends complete
/// has made both ends equal, and one that had a connection to lose goes on.
#[test]
fn connections_that_are_lost_anywhere() -> Result<()> {
    let mut lost = 0;
    for seed in 0..CUT_PASSES {
        let mut rng = Rng::new(seed);
        let pair = Pair::start(900 + seed)?;
        let mut client = pair.source.connect(&pair.keys.coordinator, Epoch(1))?;
        let mut number = 0;
        for kind in [PassKind::Live, PassKind::Live, PassKind::Final] {
            let mut is_complete = false;
            while !is_complete {
                number += 1;
                // A lane gets on by whole frames of 256 KiB.
                let mut pieces: Vec<u64> = (0..4).map(|_| rng.below(3 << 20)).collect();
                pieces.push(u64::MAX);
                let tunnel = Tunnel::in_pieces(pair.destination.data()?, &pieces)?;
                let report = report(client.ask(pass_to(tunnel.address(), number, kind))?)?;
                lost += report.connections_lost;
                is_complete = report.complete;
                let cut_off = |fault: &Fault| {
                    let code = fault.code;
                    matches!(code, FaultCode::Disconnected | FaultCode::Unreachable)
                };
                ensure!(
                    is_complete || report.faults.iter().all(cut_off),
                    "{report:?}"
                );
                ensure!(number < 30, "no pass was complete: {report:?}");
            }
            compare::expect_equal(&pair.a, &pair.b)?;
            if kind == PassKind::Live {
                mutate::apply(&pair.a, 40, &mut rng)?;
            }
        }
        pair.shut_down()?;
    }
    ensure!(lost > 0, "no pass went on over another connection");
    Ok(())
}

/// One connection of several is lost, anywhere, with all that was to go over it in its sockets: what
/// waits for that hears of it.
#[test]
fn a_connection_that_is_lost_alone() -> Result<()> {
    let mut lost = 0;
    for seed in 0..6 {
        let pair = Pair::start(920 + seed)?;
        let mut rng = Rng::new(seed);
        fs::write(pair.a.join("file"), rng.bytes(200 << 10))?;
        let tunnel = Tunnel::losing_one(pair.destination.data()?, (3 + 2 * seed) * (20 << 10))?;
        let mut client = pair.source.connect(&pair.keys.coordinator, Epoch(1))?;
        let body = pass_to(tunnel.address(), 1, PassKind::Live);
        let (tell, told) = mpsc::channel();
        thread::spawn(move || tell.send(client.ask(body)));
        let answer = told
            .recv_timeout(Duration::from_mins(1))
            .map_err(|_| anyhow!("the pass waits for what was lost"))?;
        let first = report(answer?)?;
        ensure!(first.complete, "{first:?}");
        lost += first.connections_lost;
        compare::expect_equal(&pair.a, &pair.b)?;
        pair.shut_down()?;
    }
    ensure!(lost > 0, "no connection was lost in a pass");
    Ok(())
}

/// Over loopback both get through: the report says which one was the faster.
#[test]
fn what_carries_the_data_is_reported() -> Result<()> {
    let pair = Pair::start(88)?;
    let first = pair.run_pass(1, PassKind::Live)?;
    assert!(first.transport.is_some(), "{first:?}");
    // Measured once.
    let second = pair.run_pass(2, PassKind::Final)?;
    assert_eq!(second.transport, first.transport);
    pair.shut_down()
}
