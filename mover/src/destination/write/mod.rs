//! How is what the source says written? Everything below handles of directories, nothing through a name
//! that leads elsewhere.

pub mod apply;
mod copy;
pub mod create;
pub mod file;
mod lane_directory;
pub mod metadata;
mod times;
mod unshare;
