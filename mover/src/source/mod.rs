//! The source: finds what may have changed, reads it once, sends what did.
//!
//! One pass runs in steps. It flushes the source's dirty pages. It *visits* every directory and every entry
//! in it, on several threads, each with its own [`lane`] to the destination. Then comes what needs the whole
//! picture: hard links, and the metadata of directories. Last, the destination settles. In a final pass a
//! [`recheck`] meanwhile proves that nobody wrote.
//!
//! What a visit compares with is a [`segment`](crate::catalog::segment), remembered from an earlier pass or
//! asked of the destination.
//!
//! | Folder | Question |
//! |---|---|
//! | [`pass`] | How does a pass go, from the flush to the report? |
//! | [`links`] | Which names are links of one inode, at both ends? |
//! | [`walk`] | What does the source hold, and what of it may have changed? |
//! | [`files`] | What of a file must be sent? |
//! | [`throttle`] | How fast may a live pass go? |
//! | [`stat_trust`] | What may be believed without reading it? |
//! | [`space`] | What becomes of a pass whose destination runs out of space? |
//! | [`shared`], [`queue`], [`link_table`] | What do the threads of a pass share? |
//! | [`persistent`] | What does a source remember of itself? |

pub mod files;
pub mod lane;
pub mod link_table;
pub mod links;
pub mod pass;
pub mod persistent;
pub mod queue;
pub mod recheck;
pub mod shared;
pub mod space;
pub mod stat_trust;
pub mod throttle;
pub mod walk;
