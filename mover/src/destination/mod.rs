//! The destination: applies what the source says, and proves what it then holds.
//!
//! A data [`session`], one at a time, brings lanes of frames, each applied by a thread of its own
//! ([`apply`], [`mod@file`], [`make`], [`metadata`]); what was touched is noted on disk ([`touched`]).
//! When the source settles the pass, everything is made durable and each touched directory is
//! *surveyed* ([`survey`], [`ranges`]): read back, compared with what was claimed, and stored in the
//! catalog; some of them [`early`] ([`reading`]), a first copy when a processor is [`idle`] or beside
//! the pass that follows. Queries ([`answers`], [`query`]) answer for directories that the source
//! knows nothing of.

pub mod answers;
pub mod apart;
pub mod apply;
mod copy;
mod current;
pub mod early;
pub mod file;
pub mod flush;
pub mod idle;
pub mod links;
pub mod make;
pub mod metadata;
pub mod query;
pub mod ranges;
pub mod reading;
pub mod room;
pub mod session;
pub mod settle;
pub mod state;
pub mod sums;
pub mod survey;
mod times;
pub mod touched;
mod turn;
mod unshare;
