//! The figures side by side, and the bars that livmig sets itself.

use std::fmt;

use serde_json::{Value, json};

use super::{
    super::testapp::fill::Fill,
    rsync::{COMMAND, Copies},
};

/// What livmig may take at most of what rsync takes.
const FIRST: f64 = 0.8;
/// The same for what a migration adds to a plain restart.
const SECOND: f64 = 0.3;

/// What both took, in seconds. What a migration that failed did not come to is not there.
pub(super) struct Figures {
    pass: Option<f64>,
    downtime: Option<f64>,
    restart: Option<f64>,
    bars: [Bar; 2],
}

/// A bar: what livmig took against what rsync took.
struct Bar {
    /// What of livmig.
    livmig: (&'static str, Option<f64>),
    /// What of rsync, and how long the destination's file system then still wrote.
    rsync: (&'static str, f64, f64),
    /// The largest ratio that meets it.
    limit: f64,
}

impl Bar {
    /// The ratio to rsync alone.
    fn ratio(&self) -> Option<f64> {
        self.livmig.1.map(|seconds| seconds / self.rsync.1)
    }

    /// The ratio to rsync with everything on the disk, as it is with livmig.
    fn durable_ratio(&self) -> Option<f64> {
        let rsync = self.rsync.1 + self.rsync.2;
        self.livmig.1.map(|seconds| seconds / rsync)
    }

    fn verdict(&self) -> &'static str {
        match self.ratio() {
            Some(ratio) if ratio <= self.limit => "met",
            Some(_) => "missed",
            None => "not measured",
        }
    }

    fn document(&self) -> Value {
        json!({
            "what": format!("{} of livmig against the {} of rsync", self.livmig.0, self.rsync.0),
            "limit": self.limit,
            "ratio": self.ratio(),
            "ratioToDurable": self.durable_ratio(),
            "verdict": self.verdict(),
        })
    }
}

impl Figures {
    /// Of what rsync took and what the document of a migration says.
    pub(super) fn new(rsync: &Copies, migration: &Value) -> Self {
        let seconds = |path: &str| migration.pointer(path).and_then(Value::as_f64);
        let pass = seconds("/status/passes/0/seconds");
        Self {
            pass,
            downtime: seconds("/status/downtimeSeconds"),
            restart: seconds("/status/restartSeconds"),
            bars: [
                Bar {
                    livmig: ("first pass", pass),
                    rsync: ("first copy", rsync.first.seconds, rsync.first.sync_seconds),
                    limit: FIRST,
                },
                Bar {
                    livmig: (
                        "downtime beyond restart",
                        seconds("/status/downtimeMinusRestartSeconds"),
                    ),
                    rsync: (
                        "second copy",
                        rsync.second.seconds,
                        rsync.second.sync_seconds,
                    ),
                    limit: SECOND,
                },
            ],
        }
    }

    /// The document of the comparison, with that of the `migration` in it. `load` is the machine's
    /// before rsync, before livmig and at the end.
    pub(super) fn document(
        &self,
        fill: Fill,
        rsync: &Copies,
        load: &[f64],
        migration: &Value,
    ) -> Value {
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
                "loadAverages": load,
            },
            "rsync": {
                "command": COMMAND,
                "firstCopySeconds": rsync.first.seconds,
                "firstCopySyncSeconds": rsync.first.sync_seconds,
                "secondCopySeconds": rsync.second.seconds,
                "secondCopySyncSeconds": rsync.second.sync_seconds,
                "entriesThatDiffer": rsync.differing,
            },
            "livmig": {
                "firstPassSeconds": pass.livmig.1,
                "downtimeSeconds": self.downtime,
                "restartSeconds": self.restart,
                "downtimeMinusRestartSeconds": beyond.livmig.1,
            },
            "bars": self.bars.each_ref().map(Bar::document),
            "migration": migration,
        })
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:32} {:>9} {:>9}", "seconds", "", "with sync")?;
        for bar in &self.bars {
            let (name, copied, synced) = bar.rsync;
            let durable = copied + synced;
            writeln!(f, "rsync {name:26} {copied:>9.3} {durable:>9.3}")?;
        }
        let [_, beyond] = &self.bars;
        for (name, seconds) in [
            ("livmig first pass", self.pass),
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
                cell(bar.ratio()),
                bar.rsync.0,
                cell(bar.durable_ratio()),
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
    use super::{super::rsync::Copy, *};

    fn copies() -> Copies {
        let copy = |seconds, sync_seconds| Copy {
            seconds,
            sync_seconds,
        };
        Copies {
            first: copy(10.0, 6.0),
            second: copy(4.0, 1.0),
            differing: 0,
        }
    }

    #[test]
    fn a_bar_is_judged_by_rsync_alone_and_told_with_sync() {
        let migration = json!({"status": {
            "passes": [{"seconds": 8.0}, {"seconds": 1.0}],
            "downtimeSeconds": 3.5,
            "restartSeconds": 2.25,
            "downtimeMinusRestartSeconds": 1.25,
        }});
        let figures = Figures::new(&copies(), &migration);
        let fill = Fill::of_large_files("1Gi".parse().unwrap());
        let told = figures.document(fill, &copies(), &[], &json!({}));
        assert_eq!(told["bars"][0]["verdict"], "met");
        assert_eq!(told["bars"][0]["ratio"], 0.8);
        assert_eq!(told["bars"][0]["ratioToDurable"], 0.5);
        assert_eq!(told["bars"][1]["verdict"], "missed");
        assert_eq!(told["bars"][1]["ratio"], 0.3125);
        assert_eq!(told["bars"][1]["ratioToDurable"], 0.25);
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
        let figures = Figures::new(&copies(), &json!({"status": {"outcome": "failed"}}));
        let verdicts = figures.bars.each_ref().map(Bar::verdict);
        assert_eq!(verdicts, ["not measured"; 2]);
    }
}
