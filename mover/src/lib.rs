//! The data mover: makes a destination directory tree equal to a live source, pass by pass.
//!
//! See `DESIGN.md` beside the manifest for how and why. In short: the source remembers what it
//! sent ([`catalog`]), so a later pass reads only what may have changed and sends only blocks
//! that did ([`source`]); the destination applies absolute facts below directory handles and
//! proves what it holds by reading it back ([`destination`]); the two meet over QUIC or TLS
//! ([`transport`]). Threads do all file work, async tasks only move bytes at the socket.
//!
//! The program calls [`cli`]. The rest of what is public is for benchmarks and for the fuzzed decoders.

#![allow(
    rustdoc::private_intra_doc_links,
    reason = "the documentation is of everything"
)]
#![allow(
    unreachable_pub,
    reason = "what a module shows to the others is public in it; the compiler sees what nobody calls"
)]

mod advice;
pub mod catalog;
pub mod cli;
mod control;
mod destination;
mod fault;
mod fs;
pub mod hash;
mod inspect;
mod random;
mod scratch;
mod source;
mod stop;
mod sync;
mod transport;

pub use self::{
    destination::touched,
    fs::{dir, stat},
    source::{files::rolling_match, persistent},
};
