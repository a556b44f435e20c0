//! What was measured, for people and for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::{measure::Cost, peers::Peer};

/// A row: one piece of work, done by livmig and by each peer.
#[derive(Debug)]
pub(crate) struct Row {
    /// What is done.
    pub(crate) work: &'static str,
    /// The kind of file system it was done on.
    pub(crate) place: String,
    /// What each run cost, livmig first.
    pub(crate) runs: Vec<(Peer, Vec<Cost>)>,
    /// Who could not take part, and why.
    pub(crate) missing: Vec<(Peer, String)>,
    /// The ratios of times that livmig is to stay below.
    pub(crate) bars: Vec<(Peer, f64)>,
    /// The memory that livmig is to stay below, in bytes.
    pub(crate) memory_bar: Option<u64>,
}

impl Row {
    /// The median cost of one who took part, figure by figure.
    fn median(&self, peer: Peer) -> Option<Cost> {
        let (_, runs) = self.runs.iter().find(|(who, _)| *who == peer)?;
        let of = |figure: fn(&Cost) -> f64| {
            let mut all: Vec<f64> = runs.iter().map(figure).collect();
            all.sort_by(f64::total_cmp);
            all.get(all.len() / 2).copied()
        };
        let mut bytes: Vec<Option<u64>> = runs.iter().map(|cost| cost.sent).collect();
        bytes.sort_unstable();
        let mut memory: Vec<u64> = runs.iter().map(|cost| cost.memory).collect();
        memory.sort_unstable();
        Some(Cost {
            seconds: of(|cost| cost.seconds)?,
            processor: of(|cost| cost.processor)?,
            memory: memory.get(memory.len() / 2).copied()?,
            sent: bytes.get(bytes.len() / 2).copied().flatten(),
        })
    }

    /// livmig's time over the peer's: the median of the ratios of runs made one after the other.
    fn ratio(&self, peer: Peer) -> Option<f64> {
        let runs = |who| {
            self.runs
                .iter()
                .find(|(one, _)| *one == who)
                .map(|(_, runs)| runs)
        };
        let pairs = runs(Peer::Livmig)?.iter().zip(runs(peer)?);
        let mut ratios: Vec<f64> = pairs
            .map(|(own, other)| own.seconds / other.seconds)
            .collect();
        ratios.sort_by(f64::total_cmp);
        ratios.get(ratios.len() / 2).copied()
    }
}

/// The table of the README.
pub(crate) fn markdown(rows: &[Row]) -> String {
    let mut text = String::from(
        "| Work | Where | Who | Median | livmig takes | Bar | Sent | Memory | Processor |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        for (peer, _) in &row.runs {
            let Some(cost) = row.median(*peer) else {
                continue;
            };
            let ratio = match peer {
                Peer::Livmig => String::new(),
                peer => row
                    .ratio(*peer)
                    .map(|ratio| format!("{ratio:.2}×"))
                    .unwrap_or_default(),
            };
            let bar = row.bars.iter().find(|(who, _)| who == peer);
            let sent = cost.sent.map(mebibytes).unwrap_or_default();
            let memory_bar = match (peer, row.memory_bar) {
                (Peer::Livmig, Some(bar)) => format!(" (≤ {})", mebibytes(bar)),
                _ => String::new(),
            };
            let _ = writeln!(
                text,
                "| {} | {} | {peer} | {:.2} s | {ratio} | {} | {sent} | {}{memory_bar} | {} |",
                row.work,
                row.place,
                cost.seconds,
                bar.map(|(_, bar)| format!("≤ {bar}×")).unwrap_or_default(),
                mebibytes(cost.memory),
                if cost.processor > 0.0 {
                    format!("{:.2} s", cost.processor)
                } else {
                    String::new()
                },
            );
        }
        for (peer, why) in &row.missing {
            let _ = writeln!(
                text,
                "| {} | {} | {peer} | skipped: {why} | | | | | |",
                row.work, row.place
            );
        }
    }
    text
}

/// Everything that was measured.
pub(crate) fn json(rows: &[Row], size: &str) -> Value {
    let cost = |cost: &Cost| {
        json!({
            "seconds": cost.seconds,
            "processorSeconds": cost.processor,
            "memoryBytes": cost.memory,
            "sentBytes": cost.sent,
        })
    };
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| {
            let runs: Vec<Value> = row
                .runs
                .iter()
                .map(|(peer, runs)| {
                    json!({
                        "who": peer.to_string(),
                        "runs": runs.iter().map(cost).collect::<Vec<_>>(),
                        "median": row.median(*peer).as_ref().map(cost),
                        "livmigTakes": row.ratio(*peer),
                        "bar": row.bars.iter().find(|(who, _)| who == peer).map(|(_, bar)| bar),
                    })
                })
                .collect();
            let missing: Vec<Value> = row
                .missing
                .iter()
                .map(|(peer, why)| json!({"who": peer.to_string(), "why": why}))
                .collect();
            json!({
                "work": row.work,
                "where": row.place,
                "runs": runs,
                "skipped": missing,
                "memoryBarBytes": row.memory_bar,
            })
        })
        .collect();
    json!({"size": size, "rows": rows})
}

fn mebibytes(bytes: u64) -> String {
    let hundredths = bytes.saturating_mul(100) >> 20;
    format!("{}.{:02} MiB", hundredths / 100, hundredths % 100)
}
