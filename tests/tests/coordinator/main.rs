//! The coordinator as users meet it: the built binary, whole migrations between directories.

mod consent;
mod demo;
mod host;
mod killed;
mod limits;
mod migrate;
mod older;
mod refused;
mod unprivileged;
mod workload;
