//! The document that is printed: the migration's own, with the restarts beside it.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::median;

/// Adds to `document` the plain restarts on both classes, in seconds.
///
/// `restartSeconds` is the smaller of the two medians. On a class whose volumes are attached, a pod
/// that comes back at once may wait for the kubelet's next status (up to ten seconds), which has
/// nothing to do with the workload and would flatter the migration.
pub(in crate::cluster) fn add_restarts(
    document: &mut Value,
    source: &[f64],
    destination: &[f64],
) -> Result<()> {
    let restart = [source, destination]
        .into_iter()
        .filter_map(|restarts| median(restarts.to_vec()))
        .min_by(f64::total_cmp)
        .context("no restart was timed")?;
    let status = document
        .get_mut("status")
        .and_then(Value::as_object_mut)
        .context("the document has no status")?;
    let downtime = status.get("downtimeSeconds").and_then(Value::as_f64);
    status.insert("restartSeconds".to_owned(), json!(restart));
    let restarts = json!({"source": source, "destination": destination});
    status.insert("restarts".to_owned(), restarts);
    if let Some(downtime) = downtime {
        let engine = json!(downtime - restart);
        status.insert("downtimeMinusRestartSeconds".to_owned(), engine);
    }
    Ok(())
}

/// The figures for people: the downtime by term beside the prediction, and beside a restart.
pub(in crate::cluster) fn summary(document: &Value) -> String {
    let status = document.get("status").unwrap_or(&Value::Null);
    let number = |path: &str| status.pointer(path).and_then(Value::as_f64);
    let mut lines = format!(
        "{:28} {:>9} {:>9} {:>9} {:>9}\n",
        "seconds", "actual", "low", "expected", "high"
    );
    let mut line = |name: &str, actual: Option<f64>, predicted: &str| {
        let estimate =
            ["low", "expected", "high"].map(|end| cell(number(&format!("{predicted}/{end}"))));
        let [low, expected, high] = estimate;
        let actual = cell(actual);
        let _infallible = writeln!(
            lines,
            "{name:28} {actual:>9} {low:>9} {expected:>9} {high:>9}"
        );
    };
    let terms = status.get("downtimeTerms").and_then(Value::as_object);
    for (term, seconds) in terms.into_iter().flatten() {
        let predicted = format!("/predictedDowntimeTerms/{term}");
        line(term, seconds.as_f64(), &predicted);
    }
    let total = number("/downtimeSeconds");
    line("downtime", total, "/predictedDowntimeSeconds");
    line("plain restart", number("/restartSeconds"), "");
    line(
        "downtime minus restart",
        number("/downtimeMinusRestartSeconds"),
        "",
    );
    lines
}

fn cell(seconds: Option<f64>) -> String {
    seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_that_waits_for_an_attachment_does_not_flatter() {
        let mut document = json!({"status": {"downtimeSeconds": 2.5}});
        add_restarts(&mut document, &[10.5, 10.9, 1.4], &[1.5, 1.25, 1.75]).unwrap();
        let status = &document["status"];
        assert_eq!(status["restartSeconds"], 1.5);
        assert_eq!(status["downtimeMinusRestartSeconds"], 1.0);
        assert_eq!(status["restarts"]["source"][0], 10.5);
    }

    #[test]
    fn a_migration_without_a_downtime_gets_its_restarts_too() {
        let mut document = json!({"status": {"outcome": "refused"}});
        add_restarts(&mut document, &[1.5], &[]).unwrap();
        assert_eq!(document["status"]["restartSeconds"], 1.5);
        assert!(
            document["status"]
                .get("downtimeMinusRestartSeconds")
                .is_none()
        );
        assert!(add_restarts(&mut document, &[], &[]).is_err());
    }

    #[test]
    fn each_term_stands_beside_its_prediction() {
        let document = json!({"status": {
            "downtimeSeconds": 2.5,
            "downtimeTerms": {"stop": 1.0},
            "predictedDowntimeTerms": {"stop": {"low": 0.5, "expected": 0.75, "high": 2.0}},
        }});
        let summary = summary(&document);
        let line = summary
            .lines()
            .find(|line| line.starts_with("stop"))
            .unwrap();
        let cells: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(cells, ["stop", "1.000", "0.500", "0.750", "2.000"]);
    }
}
