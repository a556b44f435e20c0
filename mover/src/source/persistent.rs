//! What a source remembers of itself beside its catalog.

use livmig_proto::{attributes::Carry, control::PassReport, hex, ids::PassNumber};
use serde::{Deserialize, Serialize};

use crate::{fs::volume, random::random};

/// The owner's words at the head of a source's catalog.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Head {
    /// The state of the destination that the catalog is about.
    #[serde(with = "hex::array")]
    pub instance: [u8; 16],
    /// The boot that wrote it: what it says need not have reached the disk.
    pub boot: String,
    /// The key of block tags.
    #[serde(with = "hex::array")]
    pub tag_key: [u8; 32],
    /// The wall clock's distance from the boot clock, in nanoseconds, when states were last seen.
    pub clock_offset: i64,
    /// Whether the wall clock was stepped since a pass last looked at everything.
    #[serde(default)]
    pub stepped: bool,
    /// The attributes that the last pass carried.
    #[serde(default)]
    pub carry: Option<Carry>,
    /// Entries in the last complete pass, for progress.
    pub entries: Option<u64>,
    /// The last report, until the coordinator has stored it.
    pub report: Option<PassReport>,
    /// The last pass that was begun.
    pub last_pass: Option<PassNumber>,
}

/// How far the wall clock may move against the boot clock before it counts as a step: slewing
/// stays far below, and the margin of the proof covers it.
const STEP_NANOS: u64 = 1_000_000_000;

impl Head {
    /// The head of a new catalog.
    pub fn new() -> Self {
        Self {
            instance: [0; 16],
            boot: volume::boot_id(),
            tag_key: random(),
            clock_offset: clock_offset(),
            stepped: false,
            carry: None,
            entries: None,
            report: None,
            last_pass: None,
        }
    }

    /// The head in `bytes`, if it was written in this boot.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let head: Self = serde_json::from_slice(bytes).ok()?;
        (head.boot == volume::boot_id()).then_some(head)
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        // A structure of plain fields always serialises.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Takes the clock's reading; whether the wall clock was stepped since a pass last looked at
    /// everything. A pass that ended before it had must not be the only one that knew.
    pub fn clock_was_stepped(&mut self) -> bool {
        let now = clock_offset();
        self.stepped |= is_step(self.clock_offset, now);
        self.clock_offset = now;
        self.stepped
    }

    /// A pass has looked at all of `entries`.
    pub fn complete(&mut self, entries: u64) {
        self.entries = Some(entries);
        self.stepped = false;
    }
}

impl Default for Head {
    fn default() -> Self {
        Self::new()
    }
}

/// The wall clock's distance from the boot clock, in nanoseconds.
pub(super) fn clock_offset() -> i64 {
    i64::try_from(volume::clock_offset()).unwrap_or(i64::MAX)
}

/// Whether somebody has stepped the wall clock, from its distances before and now.
pub(super) fn is_step(before: i64, now: i64) -> bool {
    now.abs_diff(before) > STEP_NANOS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_of_the_clock_is_told_until_a_pass_was_complete() {
        let mut head = Head::new();
        assert!(!head.clock_was_stepped());
        head.clock_offset -= 5_000_000_000;
        assert!(head.clock_was_stepped());
        let mut head = Head::decode(&head.encode()).unwrap();
        assert!(head.clock_was_stepped());
        head.complete(1);
        assert!(!head.clock_was_stepped());
    }
}
