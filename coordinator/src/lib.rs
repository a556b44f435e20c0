//! livmig's coordinator: the driver, its platforms, where journals are stored, and the command
//! line over them.

pub mod cli;
pub mod demo;
pub mod driver;
pub mod host;
pub mod images;
pub mod journal;
pub mod kube;
pub mod movers;
pub mod platform;
pub mod sim;
