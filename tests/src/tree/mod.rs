//! Directory trees to copy: [`every_kind`] of entry that a file system knows, [`random`] ones
//! from a seed, each with a name that is not UTF-8, one [`deep`]er than a path can say, and one for
//! changing a single [`attribute`] at a time.

pub mod attribute;
pub mod deep;
pub mod every_kind;
pub mod posix;
pub mod random;
