//! livmig's coordinator: the driver, its platforms, where journals are stored, and the command
//! line over them.
//!
//! The program calls [`run`]. The rest of what is public is for tests: the simulation drives a
//! [`driver`] over a [`journal`] and a [`platform`] of its own, and the decoders are fuzzed.

#![allow(
    rustdoc::private_intra_doc_links,
    reason = "the documentation is of everything"
)]
#![allow(
    unreachable_pub,
    reason = "what a module shows to the others is public in it; the compiler sees what nobody calls"
)]

mod cli;
mod demo;
pub mod driver;
mod host;
mod images;
pub mod journal;
mod kube;
mod movers;
pub mod platform;

pub use self::{cli::run, host::store::journal as file_journal, kube::objects::quantity};
