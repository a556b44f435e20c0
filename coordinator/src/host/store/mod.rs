//! What a coordinator keeps on a host: one folder for each migration below the state folder, with
//! the journal, the lock, and what the platform needs to find its movers again.

pub mod file;
pub mod folder;
pub mod journal;
