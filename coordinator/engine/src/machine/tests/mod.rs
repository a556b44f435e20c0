//! Tests of the machine: every reachable state, random histories, and each rule by itself.

mod consent;
mod explore;
mod properties;
mod rules;
mod story;
mod stuck;
mod table;

pub(crate) use explore::{report, spec};
pub(crate) use properties::led;
