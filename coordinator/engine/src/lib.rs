//! What a migration is and what it does next: spec, plan, phases, journal, machine, convergence.
//!
//! Nothing here performs I/O or reads a clock. A coordinator replays the journal into a
//! [`machine::Machine`], asks it what is [`next`](machine::Machine::next), does that, and appends
//! what came of it. Time comes in as [`time::Timestamp`] values.

pub mod convergence;
pub mod document;
pub mod downtime;
pub mod left_out;
pub mod machine;
pub mod outcome;
pub mod phase;
pub mod plan;
pub mod record;
pub mod request;
pub mod result;
pub mod spec;
pub mod step;
pub mod time;
