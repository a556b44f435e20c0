//! What is printed, and how it is worded.

pub(super) mod advice;
pub(super) mod amounts;
pub(super) mod findings;
pub(super) mod output;
// A function that runs before `main` is declared to the linker.
#[allow(unsafe_code)]
mod stdout;
pub(super) mod summary;
pub(super) mod table;
pub(super) mod trouble;
