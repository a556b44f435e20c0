//! What is worth a line while a migration is driven, found by comparing what is known now with
//! what was known before. Pure.

use std::fmt::Write as _;

use livmig_engine::{
    convergence::{PassCost, Prediction},
    phase::Phase,
};
use livmig_proto::control::{Progress, Stage};

use super::values::bytes;
use crate::driver::MigrationStatus;

/// The lines for what is new in `now`.
pub(super) fn lines(before: Option<&MigrationStatus>, now: &MigrationStatus) -> Vec<String> {
    let mut lines = Vec::new();
    if before.is_none() {
        lines.push(format!("migration {}", now.spec.name));
    }
    let known = before.map_or(0, |before| before.passes.len());
    for pass in now.passes.iter().skip(known) {
        lines.push(pass_line(pass));
    }
    let prediction = |status: &MigrationStatus| {
        status
            .assessment
            .as_ref()
            .map(|assessment| assessment.prediction.clone())
    };
    let predicted = prediction(now);
    if predicted != before.and_then(prediction) && now.downtime.is_none() {
        lines.extend(predicted.as_ref().map(prediction_line));
    }
    if now.trouble != before.and_then(|before| before.trouble.clone()) {
        lines.extend(
            now.trouble
                .as_ref()
                .map(|trouble| format!("trouble: {trouble}")),
        );
    }
    if before.map(|before| before.phase) != Some(now.phase) {
        lines.extend(phase_line(now.phase).map(str::to_owned));
    }
    lines
}

/// One line that says how far the work under way is.
pub(super) fn now_line(status: &MigrationStatus, progress: Option<&Progress>) -> String {
    let mut line = status.phase.to_string();
    if let Some(progress) = progress {
        line.push_str(": ");
        line.push_str(&progress_text(progress));
    }
    let prediction = status
        .assessment
        .as_ref()
        .filter(|_| status.downtime.is_none());
    if let Some(assessment) = prediction {
        let total = assessment.prediction.total();
        let _ = write!(line, "; predicted downtime {:.1} s", total.expected);
    }
    line
}

/// How far a pass is: what it does, how much, how fast, how long still.
pub(super) fn progress_text(progress: &Progress) -> String {
    let stage = match progress.stage {
        Stage::Flushing => "flushing",
        Stage::Transferring => "transferring",
        Stage::Settling => "making durable",
        Stage::Verifying => "reading back",
    };
    let mut text = format!(
        "{stage}, {} entries, {} read, {} sent",
        progress.entries,
        bytes(progress.bytes_scanned),
        bytes(progress.bytes_sent)
    );
    if let Some(rate) = rate(progress.bytes_scanned, progress.seconds) {
        let _ = write!(text, ", {}/s", bytes(rate));
    }
    if let Some(left) = seconds_left(progress) {
        let _ = write!(text, ", about {left:.0} s left");
    }
    text
}

/// How much of a pass is done, from 0 to 1, where that can be known.
#[expect(clippy::cast_precision_loss, reason = "a fraction for people")]
pub(super) fn fraction(progress: &Progress) -> Option<f64> {
    let expected = progress.entries_expected.filter(|expected| *expected > 0)?;
    Some((progress.entries as f64 / expected as f64).clamp(0.0, 1.0))
}

fn seconds_left(progress: &Progress) -> Option<f64> {
    let done = fraction(progress).filter(|done| *done > 0.05)?;
    (progress.stage == Stage::Transferring).then(|| progress.seconds * (1.0 - done) / done)
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate for people; the cast saturates"
)]
fn rate(count: u64, seconds: f64) -> Option<u64> {
    (seconds > 0.1).then(|| (count as f64 / seconds) as u64)
}

fn pass_line(pass: &PassCost) -> String {
    format!(
        "{} pass {}: {} entries, {} changed, {} removed, {} read, {} sent, {:.2} s{}",
        pass.kind,
        pass.number,
        pass.entries,
        pass.changed,
        pass.removed,
        bytes(pass.bytes_scanned),
        bytes(pass.bytes_sent),
        pass.seconds.total,
        if pass.complete { "" } else { " (incomplete)" }
    )
}

fn prediction_line(prediction: &Prediction) -> String {
    let total = prediction.total();
    let mut line = format!(
        "predicted downtime {:.1} s ({:.1} to {:.1} s)",
        total.expected, total.low, total.high
    );
    if let Some(term) = prediction.dominating() {
        let _ = write!(line, ", most of it {term}");
    }
    line
}

fn phase_line(phase: Phase) -> Option<&'static str> {
    match phase {
        Phase::Quiescing => Some("stopping the workload: the downtime begins"),
        Phase::Fencing => Some("proving that nothing writes any more"),
        Phase::FinalPass => Some("final pass"),
        Phase::Verifying => Some("comparing both ends"),
        Phase::Swapping => Some("committed; switching to the destination"),
        Phase::Unquiescing => Some("starting the workload on the destination"),
        Phase::Settling => Some("the workload runs on the destination: the downtime has ended"),
        Phase::RollingBack => Some("rolling back to the source"),
        Phase::RolledBack => Some("rolled back: the source is in use as before"),
        Phase::Completed => Some("completed"),
        Phase::Planned | Phase::Preparing | Phase::Precopy { .. } | Phase::Halted => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_without_a_measure_claims_nothing() {
        let progress = Progress::default();
        assert_eq!(fraction(&progress), None);
        assert_eq!(
            progress_text(&progress),
            "flushing, 0 entries, 0 B read, 0 B sent"
        );
    }

    #[test]
    fn progress_says_how_fast_and_how_long() {
        let progress = Progress {
            stage: Stage::Transferring,
            entries: 25,
            entries_expected: Some(100),
            bytes_scanned: 10 << 20,
            bytes_total: 10 << 20,
            bytes_sent: 1024,
            seconds: 2.0,
        };
        assert_eq!(
            progress_text(&progress),
            "transferring, 25 entries, 10.0 MiB read, 1.0 KiB sent, 5.0 MiB/s, about 6 s left"
        );
        let beyond = Progress {
            entries: 200,
            ..progress
        };
        assert_eq!(fraction(&beyond), Some(1.0));
    }
}
