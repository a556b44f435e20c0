//! What of a file must be sent? It is read once, compared with what the destination has, and sent by the
//! cheapest means.

mod block_action;
pub mod content;
pub mod delta;
pub mod file;
mod large;
pub mod rolling_match;
