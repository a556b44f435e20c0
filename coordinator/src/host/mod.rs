//! The host platform: two directories of one machine, a link between them and the workload, two
//! commands that stop and start it.

pub mod failure;
mod held;
pub mod limits;
pub mod movers;
pub mod old_volume;
pub mod platform;
pub mod preflight;
pub mod process;
pub mod proof;
pub mod readiness;
pub mod registration;
pub mod settings;
pub mod store;
pub mod symlink;
mod text;
pub mod workload;
pub mod writers;
