//! Tests of the machine: every reachable state, random histories, and each rule by itself.

mod explore;
mod properties;
mod rules;
mod story;
mod stuck;
mod table;

pub(crate) use explore::report;
pub(crate) use properties::led;
