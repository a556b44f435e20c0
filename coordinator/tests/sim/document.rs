//! The document of a simulated migration has the shape that scripts rely on.

use crate::simulation::{
    Sim,
    faults::{Effect, Fault},
    world::Nature,
};
use livmig_coord::driver::Clock as _;
use livmig_engine::{
    document::{List, document},
    result::FailureKind,
    spec::Options,
};
use serde_json::Value;

use crate::start;

fn run(faults: Vec<Fault>) -> (Sim, Value) {
    let sim = Sim::new(Nature::default(), faults);
    sim.live(start(Options::default()), |_| false);
    let document = document(&sim.records(), sim.clock().now()).unwrap();
    let value = serde_json::to_value(document).unwrap();
    (sim, value)
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

#[test]
fn a_completed_migration_is_told_in_full() {
    let (sim, document) = run(Vec::new());
    assert_eq!(document["apiVersion"], "livmig.io/v1alpha1");
    assert_eq!(document["kind"], "Migration");
    assert_eq!(document["metadata"]["name"], "sim");
    assert_eq!(document["metadata"]["uid"].as_str().unwrap().len(), 32);
    assert_eq!(document["spec"]["options"]["maxDowntimeMs"], 60_000);
    let status = &document["status"];
    assert_eq!(status["phase"], "Completed");
    assert_eq!(status["outcome"], "completed");
    assert_eq!(
        status["warnings"],
        serde_json::json!(["nothing of this is real"])
    );

    let passes = status["passes"].as_array().unwrap();
    let kinds: Vec<&str> = passes
        .iter()
        .map(|pass| pass["kind"].as_str().unwrap())
        .collect();
    assert!(kinds.len() >= 3, "{kinds:?}");
    assert_eq!(kinds.last(), Some(&"final"));
    assert!(kinds[..kinds.len() - 1].iter().all(|kind| *kind == "live"));
    for (index, pass) in passes.iter().enumerate() {
        assert_eq!(pass["number"], index + 1);
        for key in ["entries", "bytesScanned", "bytesSent", "seconds"] {
            assert!(pass[key].is_number(), "{key}");
        }
    }

    let volume = &status["volumes"][0];
    assert_eq!(volume["claim"], "/srv/data");
    assert_eq!(volume["source"], "/old/data");
    assert_eq!(volume["destination"], "/new/data");
    let verify = &volume["verify"];
    assert_eq!(verify["level"], "readback");
    assert_eq!(verify["digestSource"], verify["digestDestination"]);
    assert_ne!(verify["digestSource"], "");
    for key in ["notCarried", "leftOut"] {
        assert!(volume.get(key).is_none(), "{key} without anything left out");
    }

    let downtime = number(&status["downtimeSeconds"]);
    // The world stops in two seconds and starts in one.
    assert!(downtime > 3.0, "{downtime}");
    let terms: f64 = status["downtimeTerms"]
        .as_object()
        .unwrap()
        .values()
        .map(number)
        .sum();
    assert!((terms - downtime).abs() < 1e-6, "{terms} {downtime}");
    assert!(number(&status["downtimeTerms"]["workloadStop"]) >= 2.0);
    assert!(number(&status["downtimeTerms"]["workloadStart"]) >= 1.0);
    let predicted = &status["predictedDowntimeSeconds"];
    assert!(number(&predicted["low"]) <= number(&predicted["expected"]));
    assert!(number(&predicted["expected"]) <= number(&predicted["high"]));
    assert!(status["dominatingTerm"].is_string());

    let list = List::new(vec![
        livmig_engine::document::document(&sim.records(), sim.clock().now()).unwrap(),
    ]);
    let list = serde_json::to_value(list).unwrap();
    assert_eq!(list["kind"], "List");
    assert_eq!(list["items"][0]["metadata"]["name"], "sim");
}

#[test]
fn every_other_end_has_its_word_and_reason() {
    let failing = |step, kind| {
        vec![Fault {
            step,
            occurrence: 0,
            times: 100,
            effect: Effect::FailBefore(kind),
        }]
    };
    for (step, kind, phase, outcome) in [
        ("check", FailureKind::Permanent, "Planned", "refused"),
        ("live pass", FailureKind::Permanent, "RolledBack", "failed"),
        ("fence", FailureKind::Permanent, "RolledBack", "rolledBack"),
        ("unquiesce", FailureKind::Permanent, "Halted", "halted"),
    ] {
        let (_, document) = run(failing(step, kind));
        let status = &document["status"];
        assert_eq!(status["phase"], phase, "{step}");
        assert_eq!(status["outcome"], outcome, "{step}");
        let reason = status["reason"].as_str().unwrap();
        assert!(reason.contains(step), "{reason}");
        assert!(status["workload"].is_string());
    }
    let (_, document) = run(vec![Fault {
        step: "live pass",
        occurrence: 1,
        times: 1,
        effect: Effect::CrashBefore,
    }]);
    assert_eq!(document["status"]["outcome"], "running");
    assert_eq!(document["status"]["phase"], "Precopy");
}
