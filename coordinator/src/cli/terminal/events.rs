//! What is worth a line while a migration is driven, found by comparing what is known now with
//! what was known before. Pure.

use std::{fmt::Write as _, time::Duration};

use livmig_engine::{
    convergence::{PassCost, Prediction},
    machine::Whereabouts,
    phase::Phase,
};
use livmig_proto::control::{Progress, Stage};

use crate::cli::text::amounts::bytes;
use crate::driver::MigrationStatus;

/// The lines for what is new in `now`.
pub(crate) fn lines(before: Option<&MigrationStatus>, now: &MigrationStatus) -> Vec<String> {
    let mut lines = Vec::new();
    if before.is_none() {
        lines.extend(opening(now));
    }
    let warned = before.map_or(0, |before| before.warnings.len());
    lines.extend(
        now.warnings
            .iter()
            .skip(warned)
            .map(|warning| format!("warning: {warning}")),
    );
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
        let budget = now.spec.options.max_downtime;
        lines.extend(
            predicted
                .as_ref()
                .map(|prediction| prediction_line(prediction, budget)),
        );
    }
    if now.trouble != before.and_then(|before| before.trouble.clone()) {
        lines.extend(
            now.trouble
                .as_ref()
                .map(|trouble| format!("trouble: {trouble}")),
        );
    }
    let over = |status: &MigrationStatus| status.downtime.and_then(|downtime| downtime.ended);
    if over(now) != before.and_then(over) {
        lines.extend(downtime_line(now));
    }
    // A pass of its own is no phase of its own.
    if before.map(|before| before.phase.name()) != Some(now.phase.name()) {
        lines.extend(phase_line(now).map(str::to_owned));
    }
    lines
}

/// One line that says how far the work under way is.
pub(crate) fn now_line(status: &MigrationStatus, progress: Option<&Progress>) -> String {
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
pub(crate) fn progress_text(progress: &Progress) -> String {
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
pub(crate) fn fraction(progress: &Progress) -> Option<f64> {
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

fn opening(status: &MigrationStatus) -> Vec<String> {
    let mut lines = vec![format!("migration {}", status.spec.name)];
    for volume in status.spec.target.volumes() {
        lines.push(format!(
            "  {} moves from {} to {}",
            volume.volume, volume.source, volume.destination
        ));
    }
    lines
}

fn pass_line(pass: &PassCost) -> String {
    let lost = match pass.connections_lost {
        0 => String::new(),
        lost => format!(", went on after {lost} lost connections"),
    };
    format!(
        "{} pass {}: {} entries, {} changed, {} removed, {} read, {} sent, {:.2} s{lost}{}",
        pass.kind,
        pass.number,
        pass.entries,
        pass.changed,
        pass.removed,
        bytes(pass.bytes_scanned),
        bytes(pass.bytes_sent),
        pass.seconds.total,
        match (pass.complete, pass.read_back_left) {
            (false, _) => " (incomplete)",
            (true, true) => ", to be read back beside the next",
            (true, false) => "",
        }
    )
}

fn prediction_line(prediction: &Prediction, budget: Duration) -> String {
    let total = prediction.total();
    let mut line = format!(
        "predicted downtime {:.1} s ({:.1} to {:.1} s) of {} s allowed",
        total.expected,
        total.low,
        total.high,
        budget.as_secs_f64()
    );
    if let Some(term) = prediction.dominating() {
        let _ = write!(line, ", the largest part {term}");
    }
    line
}

/// Where the workload serves again, and how long it did not.
fn downtime_line(status: &MigrationStatus) -> Option<String> {
    let downtime = status.downtime?;
    let seconds = downtime.ended?.since(downtime.began).as_secs_f64();
    Some(format!(
        "{}: the downtime is over after {seconds:.2} s",
        status.whereabouts
    ))
}

fn phase_line(status: &MigrationStatus) -> Option<&'static str> {
    let untouched = status.whereabouts == Whereabouts::Untouched;
    match status.phase {
        Phase::Preparing => Some("checking both ends, then starting the movers"),
        Phase::Precopy { .. } => Some("copying while the workload runs"),
        Phase::Quiescing => Some("stopping the workload: the downtime begins"),
        Phase::Fencing => Some("proving that nothing writes any more"),
        Phase::FinalPass => Some("final pass: moving the last differences"),
        Phase::Verifying => Some("comparing both ends"),
        Phase::Swapping => Some("committed; switching to the destination"),
        Phase::Unquiescing => Some("starting the workload on the destination"),
        Phase::Settling => Some("removing the movers; the source stays as it is"),
        // Nothing is taken back from a workload that never noticed.
        Phase::RollingBack if untouched => Some("giving up: removing the movers"),
        Phase::RolledBack if untouched => Some("given up: the workload never noticed"),
        Phase::RollingBack => Some("rolling back to the source"),
        Phase::RolledBack => Some("rolled back: the source is in use as before"),
        Phase::Completed => Some("completed"),
        Phase::Planned | Phase::Halted => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use livmig_engine::{machine::DowntimeSpan, time::Timestamp};
    use livmig_proto::ids::{Epoch, PassNumber};

    use super::*;
    use crate::cli::text::summary::tests::planned;

    fn status(phase: Phase) -> MigrationStatus {
        MigrationStatus {
            now: Timestamp(0),
            spec: Arc::new(planned().spec),
            epoch: Epoch(1),
            phase,
            warnings: vec!["not run as root".to_owned()],
            steps: Vec::new(),
            passes: Vec::new(),
            assessment: None,
            downtime: None,
            whereabouts: Whereabouts::Untouched,
            question: None,
            trouble: None,
            outcome: None,
        }
    }

    #[test]
    fn a_warning_is_told_once_when_it_is_known() {
        let before = MigrationStatus {
            warnings: Vec::new(),
            ..status(Phase::Preparing)
        };
        let now = status(Phase::Preparing);
        assert_eq!(lines(Some(&before), &now), ["warning: not run as root"]);
        assert_eq!(lines(Some(&now), &now), Vec::<String>::new());
        assert_eq!(
            lines(None, &now),
            [
                "migration data-1",
                "  /srv/data moves from /mnt/slow/data to /mnt/fast/data",
                "warning: not run as root",
                "checking both ends, then starting the movers"
            ]
        );
    }

    #[test]
    fn the_live_phase_is_told_once_for_all_its_passes() {
        let passing = |pass| {
            status(Phase::Precopy {
                pass: PassNumber(pass),
            })
        };
        assert_eq!(
            lines(Some(&status(Phase::Preparing)), &passing(1)),
            ["copying while the workload runs"]
        );
        assert_eq!(lines(Some(&passing(1)), &passing(2)), Vec::<String>::new());
    }

    #[test]
    fn the_end_of_the_downtime_is_told_although_its_phase_was_missed() {
        let down = |ended| {
            Some(DowntimeSpan {
                began: Timestamp(1000),
                ended,
            })
        };
        let before = MigrationStatus {
            downtime: down(None),
            ..status(Phase::Unquiescing)
        };
        let now = MigrationStatus {
            downtime: down(Some(Timestamp(3500))),
            whereabouts: Whereabouts::OnDestination,
            ..status(Phase::Completed)
        };
        assert_eq!(
            lines(Some(&before), &now),
            [
                "the workload runs on the destination: the downtime is over after 2.50 s",
                "completed"
            ]
        );
    }

    #[test]
    fn a_workload_that_was_never_stopped_is_not_said_to_be_rolled_back() {
        let untouched = status(Phase::RolledBack);
        let stopped = MigrationStatus {
            whereabouts: Whereabouts::BackOnSource,
            ..status(Phase::RolledBack)
        };
        assert_eq!(
            phase_line(&untouched),
            Some("given up: the workload never noticed")
        );
        assert!(phase_line(&stopped).unwrap().starts_with("rolled back"));
    }

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
