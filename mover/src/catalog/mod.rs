//! The catalog: what one end knows of every directory, on disk.
//!
//! The source's catalog says what the destination holds, because it was sent and acknowledged;
//! the destination's says what it has verified. Both are made of [`segment`]s, one a directory,
//! in an append-only log with an index in memory ([`store`]); the digests of the blocks of large
//! files lie in a file of their own ([`tags`]).

pub mod log;
pub mod segment;
pub mod store;
pub mod tags;
