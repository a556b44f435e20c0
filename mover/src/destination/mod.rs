//! The destination: applies what the source says, and proves what it then holds.
//!
//! A data [`session`], one at a time, brings lanes of frames, each applied by a thread of its own. What was
//! touched is noted on disk ([`touched`]). When the source settles the pass, everything is made durable and
//! each touched directory is *surveyed*: read back, compared with what was claimed, and stored in the
//! catalog. Some are surveyed [`early`], a first copy when a processor is [`idle`] or beside the pass that
//! follows.
//!
//! | Folder | Question |
//! |---|---|
//! | [`session`], `admission` | Who may speak to this destination, and whose turn is it? |
//! | [`mod@write`] | How is what the source says written? |
//! | [`read_back`] | Does the destination hold what was claimed? |
//! | [`answers`], [`query`], [`weak_sums`] | What does it hold, where the source knows nothing? |
//! | [`state`], [`touched`], [`mod@links`] | What does it remember between passes? |
//! | [`space`], [`flush`] | Is there space, and is it durable? |

mod admission;
pub mod answers;
pub mod apart;
pub mod early;
pub mod flush;
pub mod idle;
pub mod links;
pub mod query;
pub mod read_back;
pub mod session;
pub mod space;
pub mod state;
pub mod touched;
pub mod weak_sums;
pub mod write;
