//! The figures side by side, and the bars that livmig sets itself.

use std::fmt;

use serde_json::{Value, json};

use super::{
    super::testapp::{fill::Fill, median},
    rsync::{COMMAND, Copies, Copy},
};

/// What livmig may take at most of what rsync takes.
const FIRST: f64 = 0.8;
/// The same for what a migration adds to a plain restart.
const SECOND: f64 = 0.3;

/// What one round has measured.
pub(super) struct Round {
    /// What rsync took.
    pub(super) rsync: Copies,
    /// The document of the migration.
    pub(super) migration: Value,
    /// The machine's load average before rsync, before livmig and at the end.
    pub(super) load: Vec<f64>,
}

impl Round {
    /// Some seconds of the migration. One that failed may not have come to them.
    fn livmig(&self, path: &str) -> Option<f64> {
        self.migration.pointer(path).and_then(Value::as_f64)
    }

    fn document(&self) -> Value {
        json!({
            "loadAverages": self.load,
            "rsync": {
                "firstCopySeconds": self.rsync.first.seconds,
                "firstCopySyncSeconds": self.rsync.first.sync_seconds,
                "secondCopySeconds": self.rsync.second.seconds,
                "secondCopySyncSeconds": self.rsync.second.sync_seconds,
                "entriesThatDiffer": self.rsync.differing,
            },
            "migration": self.migration,
        })
    }
}

/// What both took, in seconds: the medians of all rounds.
pub(super) struct Figures {
    rounds: Vec<Round>,
    downtime: Option<f64>,
    restart: Option<f64>,
    bars: [Bar; 2],
}

/// A bar: what livmig took against what rsync took.
struct Bar {
    /// What of livmig.
    livmig: (&'static str, Option<f64>),
    /// What of rsync.
    rsync: (&'static str, Option<f64>),
    /// The same, until the destination's file system had written all of it.
    durable: Option<f64>,
    /// The ratio to rsync alone: the median of those of each round, whose two halves have met the
    /// same machine.
    ratio: Option<f64>,
    /// The same to rsync with everything on the disk, as it is with livmig.
    durable_ratio: Option<f64>,
    /// The largest ratio that meets it.
    limit: f64,
}

impl Bar {
    /// What livmig took, by its name and where the document has it, against one of rsync's copies.
    fn new(
        rounds: &[Round],
        (name, path): (&'static str, &str),
        (copy_name, copy): (&'static str, fn(&Copies) -> &Copy),
        limit: f64,
    ) -> Self {
        let copied: fn(&Copy) -> f64 = |copy| copy.seconds;
        let durable: fn(&Copy) -> f64 = |copy| copy.seconds + copy.sync_seconds;
        let rsync = |seconds: fn(&Copy) -> f64| {
            median(
                rounds
                    .iter()
                    .map(|round| seconds(copy(&round.rsync)))
                    .collect(),
            )
        };
        let ratio = |seconds: fn(&Copy) -> f64| {
            let of = |round: &Round| Some(round.livmig(path)? / seconds(copy(&round.rsync)));
            median(rounds.iter().filter_map(of).collect())
        };
        Self {
            livmig: (name, median_of(rounds, path)),
            rsync: (copy_name, rsync(copied)),
            durable: rsync(durable),
            ratio: ratio(copied),
            durable_ratio: ratio(durable),
            limit,
        }
    }

    fn verdict(&self) -> &'static str {
        match self.ratio {
            Some(ratio) if ratio <= self.limit => "met",
            Some(_) => "missed",
            None => "not measured",
        }
    }

    fn document(&self) -> Value {
        json!({
            "what": format!("{} of livmig against the {} of rsync", self.livmig.0, self.rsync.0),
            "limit": self.limit,
            "ratio": self.ratio,
            "ratioToDurable": self.durable_ratio,
            "verdict": self.verdict(),
        })
    }
}

impl Figures {
    /// Of all `rounds`.
    pub(super) fn new(rounds: Vec<Round>) -> Self {
        let bars = [
            Bar::new(
                &rounds,
                ("first pass", "/status/passes/0/seconds"),
                ("first copy", |copies| &copies.first),
                FIRST,
            ),
            Bar::new(
                &rounds,
                (
                    "downtime beyond restart",
                    "/status/downtimeMinusRestartSeconds",
                ),
                ("second copy", |copies| &copies.second),
                SECOND,
            ),
        ];
        Self {
            downtime: median_of(&rounds, "/status/downtimeSeconds"),
            restart: median_of(&rounds, "/status/restartSeconds"),
            bars,
            rounds,
        }
    }

    /// The document of the comparison, with every round and its migration in it.
    pub(super) fn document(&self, fill: Fill) -> Value {
        let [pass, beyond] = &self.bars;
        json!({
            "workload": {
                "bytes": fill.bytes(),
                "largeFileBytes": u64::from(fill.large.0) << 20,
                "smallFiles": fill.small_files,
                "smallFileBytes": fill.small_bytes,
            },
            "machine": {
                "processors": std::thread::available_parallelism().map_or(0, usize::from),
            },
            "rsyncCommand": COMMAND,
            "medians": {
                "rsyncFirstCopySeconds": pass.rsync.1,
                "rsyncFirstDurableCopySeconds": pass.durable,
                "rsyncSecondCopySeconds": beyond.rsync.1,
                "rsyncSecondDurableCopySeconds": beyond.durable,
                "firstPassSeconds": pass.livmig.1,
                "downtimeSeconds": self.downtime,
                "restartSeconds": self.restart,
                "downtimeMinusRestartSeconds": beyond.livmig.1,
            },
            "bars": self.bars.each_ref().map(Bar::document),
            "rounds": self.rounds.iter().map(Round::document).collect::<Vec<_>>(),
        })
    }
}

/// The median of some seconds of all migrations.
fn median_of(rounds: &[Round], path: &str) -> Option<f64> {
    let seconds = rounds.iter().filter_map(|round| round.livmig(path));
    median(seconds.collect())
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounds = self.rounds.len();
        writeln!(
            f,
            "{:32} {:>9} {:>9}",
            format!("seconds, medians of {rounds}"),
            "",
            "with sync"
        )?;
        for bar in &self.bars {
            let (name, copied) = bar.rsync;
            let (copied, durable) = (cell(copied), cell(bar.durable));
            writeln!(f, "rsync {name:26} {copied:>9} {durable:>9}")?;
        }
        let [pass, beyond] = &self.bars;
        for (name, seconds) in [
            ("livmig first pass", pass.livmig.1),
            ("livmig downtime", self.downtime),
            ("plain restart", self.restart),
            ("livmig downtime beyond restart", beyond.livmig.1),
        ] {
            writeln!(f, "{name:32} {:>9}", cell(seconds))?;
        }
        for bar in &self.bars {
            writeln!(
                f,
                "{}: {} is {} of the {} ({} with sync), at most {} wanted",
                bar.verdict(),
                bar.livmig.0,
                cell(bar.ratio),
                bar.rsync.0,
                cell(bar.durable_ratio),
                bar.limit,
            )?;
        }
        Ok(())
    }
}

fn cell(number: Option<f64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| format!("{number:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(first: f64, pass: f64, beyond: f64) -> Round {
        let copy = |seconds, sync_seconds| Copy {
            seconds,
            sync_seconds,
        };
        Round {
            rsync: Copies {
                first: copy(first, 6.0),
                second: copy(4.0, 1.0),
                differing: 0,
            },
            migration: json!({"status": {
                "passes": [{"seconds": pass}, {"seconds": 1.0}],
                "downtimeSeconds": 2.25 + beyond,
                "restartSeconds": 2.25,
                "downtimeMinusRestartSeconds": beyond,
            }}),
            load: vec![0.5, 1.0, 1.5],
        }
    }

    #[test]
    fn a_bar_is_judged_by_the_ratios_of_the_rounds_and_told_with_sync() {
        // 0.8, 0.02 and 1; 0.3125, 1.25 and 0.125.
        let rounds = vec![
            round(10.0, 8.0, 1.25),
            round(90.0, 2.0, 5.0),
            round(9.0, 9.0, 0.5),
        ];
        let figures = Figures::new(rounds);
        let told = figures.document(Fill::of_large_files("1Gi".parse().unwrap()));
        assert_eq!(told["bars"][0]["verdict"], "met");
        assert_eq!(told["bars"][0]["ratio"], 0.8);
        assert_eq!(told["bars"][0]["ratioToDurable"], 0.5);
        assert_eq!(told["bars"][1]["verdict"], "missed");
        assert_eq!(told["bars"][1]["ratio"], 0.3125);
        assert_eq!(told["bars"][1]["ratioToDurable"], 0.25);
        assert_eq!(told["medians"]["downtimeSeconds"], 3.5);
        assert_eq!(told["rounds"][1]["rsync"]["firstCopySeconds"], 90.0);
        let said = figures.to_string();
        let last = said.lines().last().unwrap();
        assert_eq!(
            last,
            "missed: downtime beyond restart is 0.312 of the second copy (0.250 with sync), at \
             most 0.3 wanted"
        );
    }

    #[test]
    fn what_was_not_measured_meets_nothing() {
        let mut failed = round(10.0, 8.0, 1.25);
        failed.migration = json!({"status": {"outcome": "failed"}});
        let figures = Figures::new(vec![failed]);
        let verdicts = figures.bars.each_ref().map(Bar::verdict);
        assert_eq!(verdicts, ["not measured"; 2]);
    }
}
