//! Passes over a bad network: slower, never wrong.

use anyhow::Result;
use livmig_proto::{
    control::{FaultCode, PassKind, Transport},
    ids::Epoch,
};
use livmig_tests::{
    compare, mutate,
    relay::{Faults, Relay},
    rng::Rng,
    tunnel::Tunnel,
};

use super::serve::{Pair, pass_to, report};

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
        livmig_proto::control::ResponseBody::Report(report) => {
            assert!(!report.complete && !report.faults.is_empty(), "{report:?}");
        }
        livmig_proto::control::ResponseBody::Refused(fault) => {
            assert!(fault.code.is_transient(), "{fault:?}");
        }
        other => anyhow::bail!("{other:?}"),
    }
    pair.run_pass(2, PassKind::Live)?;
    pair.shut_down()
}

/// Where UDP does not get through, TCP does; a path that is cut ends the pass, and what had arrived
/// is not sent again by the next one.
#[test]
fn a_path_for_tcp_alone_that_is_cut() -> Result<()> {
    const LARGE: usize = 96 << 20;
    let pair = Pair::start(85)?;
    let mut rng = Rng::new(86);
    for number in 0..16 {
        let dir = pair.a.join(format!("large{number}"));
        std::fs::create_dir(&dir)?;
        std::fs::write(dir.join("file"), rng.bytes(LARGE / 16))?;
    }
    let mut client = pair.source.connect(&pair.keys.coordinator, Epoch(1))?;
    let cut_after = (LARGE - LARGE / 8) as u64;
    let tunnel = Tunnel::to(pair.destination.data()?, cut_after)?;
    let first = report(client.ask(pass_to(tunnel.address(), 1, PassKind::Live))?)?;
    assert!(tunnel.is_cut() && !first.complete, "{first:?}");
    assert_eq!(first.transport, Some(Transport::Tcp));
    let lost = |fault: &livmig_proto::control::Fault| fault.code == FaultCode::Disconnected;
    assert!(first.faults.iter().any(lost), "{first:?}");

    let tunnel = Tunnel::to(pair.destination.data()?, u64::MAX)?;
    let second = report(client.ask(pass_to(tunnel.address(), 2, PassKind::Live))?)?;
    assert!(second.complete, "{second:?}");
    assert_eq!(second.transport, Some(Transport::Tcp));
    assert!(second.bytes_sent < (LARGE as u64) / 4 * 3, "{second:?}");
    compare::expect_equal(&pair.a, &pair.b)?;

    // When TCP ends, what else gets through is used.
    drop(tunnel);
    let relay = Relay::to(pair.destination.data()?, Faults::default(), 87)?;
    mutate::apply(&pair.a, 20, &mut rng)?;
    let third = report(client.ask(pass_to(relay.address(), 3, PassKind::Final))?)?;
    assert!(third.complete, "{third:?}");
    assert_eq!(third.transport, Some(Transport::Quic));
    compare::expect_equal(&pair.a, &pair.b)?;
    pair.shut_down()
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
