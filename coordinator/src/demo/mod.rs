//! The demonstration: a whole migration of made data on this machine, under a workload that never
//! stops writing, and an independent look at the result.

pub mod acks;
pub mod check;
pub mod compare;
pub mod control;
pub mod data;
pub mod layout;
pub mod script;
pub mod stage;
pub mod writer;
