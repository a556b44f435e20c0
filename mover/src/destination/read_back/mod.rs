//! Does the destination hold what was claimed? What was written is read back, compared and summed up.

pub mod ranges;
pub mod settle;
pub mod survey;
pub mod threads;
