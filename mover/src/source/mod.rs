//! The source: finds what may have changed, reads it once, sends what did.
//!
//! One pass ([`pass`]) runs in steps: flush the source's dirty pages; *visit* every directory
//! and [`entry`] in it ([`visit`]), several threads at once, each with its own [`lane`] to the
//! destination; then what needs the whole picture: hard links ([`links`]) and the metadata of
//! directories; then the destination settles. In a final pass a [`recheck`] meanwhile proves that
//! nobody wrote. Where the destination runs out of room, [`room`] says how the pass goes on.
//!
//! What a visit compares with is a [`segment`](crate::catalog::segment), remembered from an
//! earlier pass or asked of the destination ([`remote`]). What of it is believed without reading is
//! decided by [`mod@proof`]. How fast and how politely a live pass goes is up to [`load`].

pub mod apart;
pub mod content;
pub mod delta;
pub mod entry;
pub mod file;
pub mod head;
pub mod join;
pub mod lane;
mod large;
pub mod link_table;
pub mod links;
mod listing;
pub mod load;
pub mod pace;
pub mod pass;
pub mod proof;
pub mod queue;
pub mod read;
pub mod recheck;
pub mod remote;
pub mod room;
pub mod shared;
pub mod shift;
mod sight;
mod verdict;
pub mod visit;
