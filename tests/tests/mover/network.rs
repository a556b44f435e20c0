//! Passes over a bad network: slower, never wrong.

use anyhow::Result;
use livmig_proto::{control::PassKind, ids::Epoch};
use livmig_tests::{
    compare, mutate,
    relay::{Faults, Relay},
    rng::Rng,
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
