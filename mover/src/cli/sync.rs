//! `livmig-mover sync`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Instant,
};

use anyhow::Context as _;
use livmig_proto::control::{
    Fault, FaultCode, LeftEntry, LeftOut, Limits, PassReport, Reason, unconsented,
};
use serde_json::json;

use super::{Exit, SyncArgs, UNPRINTED, print, print_document, tell};
use crate::{
    fs::confine,
    source::shared::Counts,
    sync::{self, SyncError, SyncOptions},
};

/// Carries the command out.
pub fn run(args: &SyncArgs) -> anyhow::Result<Exit> {
    let options = SyncOptions {
        source: args.source.clone(),
        destination: args.destination.clone(),
        state: args.state.clone(),
        verify: args.verify.into(),
        allow_empty: args.allow_empty,
        transport: args.transport.chosen(),
        load: Limits {
            bandwidth: args.bandwidth,
            io_priority: args.io_priority,
        },
    };
    let prepared = match sync::prepare(&options) {
        Ok(prepared) => prepared,
        Err(error) => return Ok(refused(&error)),
    };
    let confinement = confine::confine(
        &[prepared.source.root()],
        &[prepared.destination.root(), prepared.state.handle()],
    );
    tracing::debug!("confinement: {confinement}");
    let counts = Arc::new(Counts::default());
    let begun = Instant::now();
    let report = match sync::run(&options, prepared, &counts) {
        Ok(report) => report,
        Err(error) => return Ok(refused(&error)),
    };
    let seconds = begun.elapsed().as_secs_f64();
    let consent: BTreeSet<Reason> = args.leave_out.iter().copied().collect();
    let missing = unconsented(&report.left_out, &consent);
    let printed = if args.json {
        let document = document(&report, &missing, seconds).to_string();
        print_document(&document).context(UNPRINTED)
    } else if report.complete {
        print(&summary(&report, seconds, &args.destination))
    } else {
        Ok(())
    };
    for left in &report.left_out {
        tell_left_out(left, &missing);
    }
    let exit = if !report.complete {
        faults(&report, &args.destination);
        Exit::Failed
    } else if !missing.is_empty() {
        unacceptable(&missing, &args.destination);
        Exit::Failed
    } else {
        Exit::Done
    };
    let Err(error) = printed else {
        return Ok(exit);
    };
    super::report(&error);
    if matches!(exit, Exit::Done) {
        tell(&format!(
            "state: {} is equal to the source all the same; only the report is lost",
            args.destination.display()
        ));
    }
    Ok(Exit::Failed)
}

/// What is left out for one reason, by path.
fn tell_left_out(left: &LeftOut, missing: &BTreeSet<Reason>) {
    let (reason, total) = (left.reason, left.total);
    let kind = if missing.contains(&reason) {
        "error"
    } else {
        "note"
    };
    tell(&format!(
        "{kind}: left out: {reason} ({total}): {}",
        reason.meaning()
    ));
    for LeftEntry { path, detail } in &left.listed {
        if detail.is_empty() {
            tell(&format!("  {path}"));
        } else {
            tell(&format!("  {path} ({detail})"));
        }
    }
    let unnamed = total.saturating_sub(u64::try_from(left.listed.len()).unwrap_or(u64::MAX));
    if unnamed > 0 {
        tell(&format!("  and {unnamed} more"));
    }
}

/// All was carried but what nobody said might be left out.
fn unacceptable(missing: &BTreeSet<Reason>, destination: &Path) {
    let reasons: Vec<&str> = missing.iter().map(|reason| reason.name()).collect();
    let reasons = reasons.join(",");
    tell(&format!(
        "state: {} holds everything but what is named above; the source was only read",
        destination.display()
    ));
    tell(&format!(
        "next:  mend the source or the mover's rights, or run it again with --leave-out {reasons}"
    ));
}

fn refused(error: &SyncError) -> Exit {
    use std::error::Error as _;
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    tell(&format!("error: {text}"));
    tell("state: nothing was changed");
    match error {
        SyncError::Usage(_) => Exit::Usage,
        _ => Exit::Failed,
    }
}

fn document(report: &PassReport, missing: &BTreeSet<Reason>, seconds: f64) -> serde_json::Value {
    let counts: BTreeMap<&str, u64> = report
        .left_out
        .iter()
        .map(|left| (left.reason.name(), left.total))
        .collect();
    let left_out: Vec<serde_json::Value> = report
        .left_out
        .iter()
        .map(|left| {
            json!({
                "reason": left.reason,
                "gravity": left.reason.gravity(),
                "consented": !missing.contains(&left.reason),
                "total": left.total,
                "paths": left.listed.iter().map(|entry| &entry.path).collect::<Vec<_>>(),
                "listed": left.listed,
            })
        })
        .collect();
    json!({
        "entries": report.entries,
        "bytesTotal": report.bytes_total,
        "bytesSent": report.bytes_sent,
        "bytesReceived": report.bytes_received,
        "transport": report.transport,
        "bytesScanned": report.bytes_scanned,
        "changed": report.changed,
        "removed": report.removed,
        "seconds": seconds,
        "secondsByTerm": report.seconds,
        "digest": report.digest_destination,
        "verify": report.verify,
        "verifiedOnDevice": report.verified_on_device,
        "complete": report.complete,
        "proven": !report.digest_destination.is_empty(),
        "faults": report.faults,
        "faultsTotal": report.faults_total,
        "acceptable": report.complete && missing.is_empty(),
        "notCarried": counts,
        "leftOut": left_out,
    })
}

fn summary(report: &PassReport, seconds: f64, destination: &Path) -> String {
    let proof = match (report.verify, report.verified_on_device) {
        _ if report.digest_destination.is_empty() => {
            "not compared as a whole: something vanished while it was read (run it again)"
        }
        (livmig_proto::control::VerifyLevel::Wire, _) => "not verified (wire)",
        (_, true) => "verified from the device",
        (_, false) => "verified from the cache, not the device",
    };
    format!(
        "{} entries, {} bytes: {} changed, {} removed, {} bytes sent in {seconds:.2} s, {proof}\n\
         {}  {}",
        report.entries,
        report.bytes_total,
        report.changed,
        report.removed,
        report.bytes_sent,
        report.digest_destination,
        destination.display(),
    )
}

fn faults(report: &PassReport, destination: &Path) {
    for fault in &report.faults {
        tell(&format!("error: {fault}"));
    }
    let listed = u64::try_from(report.faults.len()).unwrap_or(u64::MAX);
    if report.faults_total > listed {
        tell(&format!("error: and {} more", report.faults_total - listed));
    }
    tell(&format!(
        "state: {} is not equal to the source; the source was only read",
        destination.display()
    ));
    for next in what_helps(&report.faults) {
        tell(&format!("next:  {next}"));
    }
}

/// What helps against `faults`, each only once.
fn what_helps(faults: &[Fault]) -> Vec<String> {
    let again = "run the same command again";
    let mut all: Vec<String> = Vec::new();
    let told = faults.iter().map(|fault| match &fault.advice {
        Some(advice) => format!("{advice}, then {again}"),
        None => against(fault.code).to_owned(),
    });
    for next in told {
        if !all.contains(&next) {
            all.push(next);
        }
    }
    // What can be done comes before what may mend itself.
    if all.len() > 1 {
        all.retain(|next| next != AGAIN);
    }
    if all.is_empty() {
        all.push(again.to_owned());
    }
    all
}

const AGAIN: &str = "run the same command again; what is equal already is not sent again";

/// What helps against a fault of which no more is known than its kind.
fn against(code: FaultCode) -> &'static str {
    match code {
        FaultCode::NoSpace => "make room on the destination, then run the same command again",
        FaultCode::Permission => {
            "run as a user who may read the source and write the destination, then run the same \
             command again"
        }
        FaultCode::Unsupported => {
            "choose a destination file system that can hold what is named above, or remove it from \
             the source"
        }
        FaultCode::SourceEmpty => {
            "mount the source, or give --allow-empty if the destination should become empty"
        }
        FaultCode::StillWritten => {
            "stop what writes to the source, then run the same command again"
        }
        _ => AGAIN,
    }
}

#[cfg(test)]
mod tests {
    use livmig_proto::control::Side;

    use super::*;
    use crate::fault;

    #[test]
    fn each_thing_that_helps_is_told_once_and_before_what_may_mend_itself() {
        let fault = |code| fault::plain(Side::Destination, code, "it went wrong");
        let faults = [
            fault(FaultCode::Mismatch),
            fault(FaultCode::Unsupported).advised("stop it"),
            fault(FaultCode::NoSpace),
            fault(FaultCode::Io).advised("stop it"),
        ];
        let told = what_helps(&faults);
        assert_eq!(
            told,
            [
                "stop it, then run the same command again",
                "make room on the destination, then run the same command again"
            ]
        );
        assert_eq!(what_helps(&faults[..1]), [AGAIN]);
        assert_eq!(what_helps(&[]).len(), 1);
    }
}
