//! What does the source hold, and what of it may have changed? Each directory is visited: its listing is
//! joined with what is known of the destination, and each entry that may differ is looked at.

pub mod apart;
pub mod entry;
pub mod join;
pub mod listing;
pub mod read;
pub mod remote;
pub mod sight;
pub mod visit;
