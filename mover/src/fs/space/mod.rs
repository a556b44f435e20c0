//! Which space does a file take, on its volume and in the page cache?

pub mod extents;
pub mod footprint;
pub mod reserved;
