//! Every decoder of bytes that somebody else wrote, one function each. A fuzzer (`tests/fuzz`) and
//! a bounded test (`bounded`) call the same functions.
//!
//! A function panics when a promise is broken: what was decoded must survive its own encoding, and
//! lengths must stay within their bounds. Bytes that are refused are fine.
#![allow(
    clippy::missing_panics_doc,
    reason = "a panic is how each target reports"
)]

#[cfg(test)]
mod bounded;
mod coordinator;
mod mover;
#[cfg(test)]
mod valid;
mod wire;

pub use self::{
    coordinator::{journal, quantity, record},
    mover::{head, log, segment, shift, store, touched},
    wire::{control, frame, hexadecimal, keys, listed, name, session},
};

/// A decoder as it is called, by its name.
pub type Target = (&'static str, fn(&[u8]));

/// All of them; `tests/fuzz/fuzz_targets` holds a file for each.
pub const TARGETS: [Target; 16] = [
    ("control", control),
    ("frame", frame),
    ("head", head),
    ("hexadecimal", hexadecimal),
    ("journal", journal),
    ("keys", keys),
    ("listed", listed),
    ("log", log),
    ("name", name),
    ("quantity", quantity),
    ("record", record),
    ("segment", segment),
    ("session", session),
    ("shift", shift),
    ("store", store),
    ("touched", touched),
];
