//! The data mover: makes a destination directory tree equal to a live source, pass by pass.
//!
//! See `DESIGN.md` beside the manifest for how and why. In short: the source remembers what it
//! sent ([`catalog`]), so a later pass reads only what may have changed and sends only blocks
//! that did ([`source`]); the destination applies absolute facts below directory handles and
//! proves what it holds by reading it back ([`destination`]); the two meet over QUIC
//! ([`transport`]). Threads do all file work, async tasks only move bytes at the socket.

pub mod advice;
pub mod catalog;
pub mod cli;
pub mod control;
pub mod destination;
pub mod fault;
pub mod fs;
pub mod hash;
pub mod inspect;
pub mod random;
pub mod scratch;
pub mod source;
pub mod stop;
pub mod sync;
pub mod transport;
