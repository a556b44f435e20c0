//! Who may still write?

pub mod lost_nodes;
pub mod watch;
