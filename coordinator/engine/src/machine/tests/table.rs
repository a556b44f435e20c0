//! The transition table of the module's documentation, compared with the machine.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{
    super::history::word,
    explore::{all_options, explore},
};
use crate::phase::Phase;

const PHASES: [&str; 14] = [
    "Planned",
    "Preparing",
    "Precopy",
    "Quiescing",
    "Fencing",
    "FinalPass",
    "Verifying",
    "Swapping",
    "Unquiescing",
    "Settling",
    "Completed",
    "RollingBack",
    "RolledBack",
    "Halted",
];

#[test]
fn the_documented_transitions_are_the_machines() {
    let rendered = render();
    let source = include_str!("../mod.rs");
    let (_, rest) = source.split_once("//! <!-- transitions -->\n").unwrap();
    let (table, _) = rest.split_once("//! <!-- end of transitions -->").unwrap();
    let documented: Vec<&str> = table
        .lines()
        .map(|line| line.trim_start_matches("//!").trim())
        .collect();
    let rows: Vec<&str> = rendered.lines().collect();
    assert_eq!(
        documented,
        rows,
        "the table should be\n\n//! {}",
        rows.join("\n//! ")
    );
}

fn render() -> String {
    let mut edges: BTreeMap<(usize, usize), Vec<String>> = BTreeMap::new();
    let rank = |phase: Phase| {
        PHASES
            .iter()
            .position(|name| *name == phase.name())
            .unwrap()
    };
    for options in all_options() {
        explore(options, |from, event, to| {
            let (from, to) = (rank(from.phase()), rank(to.phase()));
            if from != to {
                let events = edges.entry((from, to)).or_default();
                let event = word(event);
                if !events.contains(&event) {
                    events.push(event);
                    events.sort();
                }
            }
        });
    }
    let mut table = "| From | To | By |\n|---|---|---|\n".to_owned();
    for ((from, to), events) in edges {
        writeln!(
            table,
            "| `{}` | `{}` | {} |",
            PHASES[from],
            PHASES[to],
            events.join(", ")
        )
        .unwrap();
    }
    table
}
