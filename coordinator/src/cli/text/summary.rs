//! A migration as text for people, made from the same document that programs get. Pure.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use livmig_engine::{
    convergence::Term,
    document::{Document, DocumentStatus, VolumeDocument},
    outcome::Standing,
};
use livmig_proto::control::{Gravity, Reason, VerifyLevel};

use super::amounts::bytes;

/// All that is known about a migration.
pub(crate) fn text(document: &Document) -> String {
    let status = &document.status;
    let mut text = format!(
        "migration   {}\nphase       {}{}\nworkload    {}\n",
        document.metadata.name,
        status.phase,
        // Most ends have a phase of their name.
        if status
            .phase
            .eq_ignore_ascii_case(&status.outcome.to_string())
        {
            String::new()
        } else {
            format!(" ({})", status.outcome)
        },
        status.workload
    );
    if let Some(reason) = &status.reason {
        let _ = writeln!(text, "reason      {reason}");
    }
    for warning in &status.warnings {
        let _ = writeln!(text, "warning     {warning}");
    }
    for volume in &status.volumes {
        let _ = write!(
            text,
            "volume      {}\n  source       {}\n  destination  {}\n",
            volume.claim, volume.source, volume.destination
        );
    }
    text.push_str(&passes(status));
    text.push_str(&downtime(status));
    text.push_str(&proof(status));
    text
}

/// What is left behind by a completed migration, and how to get rid of it.
pub(crate) fn leftover(document: &Document) -> String {
    if document.status.outcome != Standing::Completed {
        return String::new();
    }
    let name = &document.metadata.name;
    let mut text = String::from("\n");
    for volume in &document.status.volumes {
        let _ = writeln!(text, "the old data still lies in {}", volume.source);
    }
    let _ = writeln!(
        text,
        "next, to forget the migration and keep the old data: livmig-coord cleanup {name}\n\
         once you are sure, to remove the old data too: livmig-coord cleanup {name} \
         --delete-old-volumes --confirm {name}"
    );
    text
}

/// The passes as a table.
pub(crate) fn passes(status: &DocumentStatus) -> String {
    if status.passes.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "\n{:<8} {:>9} {:>9} {:>12} {:>12} {:>9}\n",
        "pass", "entries", "changed", "read", "sent", "seconds"
    );
    for pass in &status.passes {
        let _ = writeln!(
            text,
            "{:<8} {:>9} {:>9} {:>12} {:>12} {:>9.2}{}",
            format!("{} {}", pass.number, pass.kind),
            pass.entries,
            pass.changed,
            bytes(pass.bytes_scanned),
            bytes(pass.bytes_sent),
            pass.seconds,
            if pass.complete { "" } else { "  incomplete" }
        );
    }
    text
}

/// The downtime: what was predicted beside what was measured, term by term.
pub(crate) fn downtime(status: &DocumentStatus) -> String {
    let predicted = status.predicted_downtime_seconds;
    if predicted.is_none() && status.downtime_seconds.is_none() {
        return String::new();
    }
    let number = |seconds: Option<f64>| {
        seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.2} s"))
    };
    let mut text = format!(
        "\n{:<26} {:>10} {:>16} {:>10}\n{:<26} {:>10} {:>16} {:>10}\n",
        "downtime",
        "predicted",
        "between",
        "measured",
        "  total",
        number(predicted.map(|total| total.expected)),
        predicted.map_or_else(
            || "-".to_owned(),
            |total| format!("{:.2} - {:.2} s", total.low, total.high)
        ),
        number(status.downtime_seconds)
    );
    let terms: BTreeSet<Term> = status
        .downtime_terms
        .keys()
        .chain(status.predicted_downtime_terms.keys())
        .copied()
        .collect();
    for term in terms {
        let predicted = status.predicted_downtime_terms.get(&term);
        let _ = writeln!(
            text,
            "  {:<24} {:>10} {:>16} {:>10}",
            term.to_string(),
            number(predicted.map(|estimate| estimate.expected)),
            predicted.map_or_else(
                || "-".to_owned(),
                |estimate| format!("{:.2} - {:.2} s", estimate.low, estimate.high)
            ),
            number(status.downtime_terms.get(&term).copied())
        );
    }
    text
}

/// The proof that both ends hold the same, and what is not part of either.
pub(crate) fn proof(status: &DocumentStatus) -> String {
    let mut text = String::new();
    for volume in &status.volumes {
        if let Some(verify) = &volume.verify {
            let _ = write!(
                text,
                "\nverified ({}, {}): {} entries, {}, equal digests\n  source       {}\n  \
                 destination  {}\n",
                verify.level,
                match (verify.level, verify.on_device) {
                    (VerifyLevel::Wire, _) => "nothing was read back",
                    (_, true) => "from the device",
                    (_, false) => "some of it from the kernel's cache, not the device",
                },
                verify.entries,
                bytes(verify.bytes),
                verify.digest_source,
                verify.digest_destination
            );
        } else if !volume.left_out.is_empty() {
            text.push('\n');
        }
        text.push_str(&left_out(volume));
    }
    text
}

/// Entries that are shown by name where nothing hangs on them; programs get more of them.
const NAMED_MAX: usize = 5;

/// What exists at a volume's source and is not carried as it is: all of it that is listed where
/// that refuses the migration, else a little.
fn left_out(volume: &VolumeDocument) -> String {
    let mut text = String::new();
    for left in &volume.left_out {
        let (word, shown) = match (left.gravity, left.consented) {
            (Gravity::Slight, _) => ("", NAMED_MAX),
            (Gravity::Grave, true) => ("as was said it may be, ", NAMED_MAX),
            (Gravity::Grave, false) => ("and nobody said it may be, ", left.listed.len()),
        };
        let _ = writeln!(
            text,
            "left out: {} ({}): {word}{}",
            left.reason,
            left.total,
            left.reason.meaning()
        );
        for entry in left.listed.iter().take(shown) {
            let _ = if entry.detail.is_empty() {
                writeln!(text, "  {}", entry.path)
            } else {
                writeln!(text, "  {} ({})", entry.path, entry.detail)
            };
        }
        let named = u64::try_from(left.listed.len().min(shown)).unwrap_or(u64::MAX);
        let unnamed = left.total.saturating_sub(named);
        if unnamed > 0 && named > 0 {
            let _ = writeln!(text, "  and {unnamed} more");
        }
    }
    text
}

/// What refuses a migration, by volume and path; empty where nothing does.
pub(crate) fn unaccepted(status: &DocumentStatus) -> String {
    let mut text = String::new();
    for volume in &status.volumes {
        let mut volume = volume.clone();
        volume.left_out.retain(|left| !left.consented);
        if !volume.left_out.is_empty() {
            let _ = writeln!(text, "volume {}", volume.claim);
            text.push_str(&left_out(&volume));
        }
    }
    text
}

/// The line that says what may be left out; none where nothing grave may.
pub(crate) fn consent(reasons: &BTreeSet<Reason>) -> String {
    if reasons.is_empty() {
        return String::new();
    }
    let names: Vec<&str> = reasons.iter().map(|reason| reason.name()).collect();
    format!("left out  {}, where there is such\n", names.join(", "))
}

#[cfg(test)]
pub(crate) mod tests {
    use livmig_engine::{
        document::{VerifyDocument, document},
        left_out::LeftOutDocument,
        record::{Event, Record, SCHEMA},
        spec::{HostTarget, MigrationName, MigrationSpec, Options, Target},
        time::Timestamp,
    };
    use livmig_proto::{
        control::LeftOut,
        ids::{Epoch, MigrationUid},
    };

    use super::*;

    /// The document of a migration that was just planned.
    pub(in crate::cli) fn planned() -> Document {
        let spec = MigrationSpec {
            name: MigrationName::try_from("data-1".to_owned()).unwrap(),
            uid: MigrationUid([1; 16]),
            target: Target::Host(HostTarget {
                path: "/srv/data".into(),
                source: "/mnt/slow/data".into(),
                destination: "/mnt/fast/data".into(),
                stop_command: "stop".to_owned(),
                start_command: "start".to_owned(),
            }),
            options: Options::default(),
        };
        let record = Record {
            schema: SCHEMA,
            seq: 0,
            epoch: Epoch(1),
            at: Timestamp(0),
            event: Event::Planned {
                spec: Box::new(spec),
            },
        };
        document(&[record], Timestamp(0)).unwrap()
    }

    #[test]
    fn a_planned_migration_shows_what_is_moved_and_no_numbers() {
        assert_eq!(
            text(&planned()),
            "migration   data-1\n\
             phase       Planned (running)\n\
             workload    the workload was never asked to stop\n\
             volume      /srv/data\n\
             \x20 source       /mnt/slow/data\n\
             \x20 destination  /mnt/fast/data\n"
        );
    }

    #[test]
    fn a_warning_is_shown_and_an_end_is_named_once() {
        let mut document = planned();
        document.status.warnings = vec!["not run as root".to_owned()];
        document.status.phase = "RolledBack";
        document.status.outcome = Standing::RolledBack;
        let text = text(&document);
        assert!(text.contains("\nwarning     not run as root\n"), "{text}");
        assert!(text.contains("\nphase       RolledBack\n"), "{text}");
    }

    fn left(reason: Reason, paths: u64) -> LeftOutDocument {
        let mut left = LeftOut::new(reason);
        for id in 0..paths {
            left.add(format!("run/{id}"), String::new());
        }
        LeftOutDocument::new(&left, &BTreeSet::from([Reason::LostFound]))
    }

    #[test]
    fn what_is_left_out_follows_the_proof_all_of_it_where_that_refuses() {
        let mut document = planned();
        let [volume] = &mut document.status.volumes[..] else {
            panic!("{document:?}");
        };
        volume.left_out = vec![
            left(Reason::Mount, 7),
            left(Reason::LostFound, 1),
            left(Reason::Flags, 8),
        ];
        volume.left_out[2].listed[0].detail = "immutable".to_owned();
        let refused = "left out: mount (7): and nobody said it may be, something is mounted there; \
                       the empty mount point is carried\n\
                       \x20 run/0\n  run/1\n  run/2\n  run/3\n  run/4\n  run/5\n  run/6\n";
        let told = format!(
            "\n{refused}left out: lost-found (1): as was said it may be, {}\n  run/0\n\
             left out: flags (8): {}\n\
             \x20 run/0 (immutable)\n  run/1\n  run/2\n  run/3\n  run/4\n  and 3 more\n",
            Reason::LostFound.meaning(),
            Reason::Flags.meaning(),
        );
        assert_eq!(proof(&document.status), told);
        assert_eq!(
            unaccepted(&document.status),
            format!("volume /srv/data\n{refused}")
        );

        document.status.volumes[0].verify = Some(VerifyDocument {
            level: VerifyLevel::Readback,
            on_device: true,
            entries: 9,
            bytes: 0,
            digest_source: "aa".to_owned(),
            digest_destination: "aa".to_owned(),
        });
        let text = text(&document);
        assert!(text.contains("\nverified (readback"), "{text}");
        let end = format!("\n  destination  aa{told}");
        assert!(text.ends_with(&end), "{text}");
    }

    #[test]
    fn nothing_is_refused_where_nothing_grave_lacks_consent() {
        let mut document = planned();
        document.status.volumes[0].left_out = vec![left(Reason::LostFound, 1)];
        assert_eq!(unaccepted(&document.status), "");
        assert_eq!(consent(&BTreeSet::new()), "");
        let reasons = BTreeSet::from([Reason::LostFound, Reason::Mount]);
        assert!(consent(&reasons).contains("mount, lost-found"));
    }

    #[test]
    fn what_is_left_behind_is_named_after_a_completed_migration_only() {
        let mut document = planned();
        assert_eq!(leftover(&document), "");
        document.status.outcome = Standing::Completed;
        let text = leftover(&document);
        for part in [
            "still lies in /mnt/slow/data\n",
            "livmig-coord cleanup data-1\n",
            "cleanup data-1 --delete-old-volumes --confirm data-1\n",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
