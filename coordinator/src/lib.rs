//! livmig's coordinator: the driver, its platforms, where journals are stored, and the command
//! line over them.

pub mod cli;
pub mod control;
pub mod demo;
pub mod driver;
pub mod failure;
pub mod host;
pub mod images;
pub mod journal;
pub mod keys;
pub mod kube;
pub mod load;
pub mod pair;
pub mod platform;
pub mod process;
pub mod readiness;
pub mod sim;
pub mod store;
