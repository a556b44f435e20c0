//! How is the API server asked, and how are others' objects changed?

pub mod amend;
pub mod cluster;
pub mod create;
pub mod mark;
pub mod names;
pub mod uid;
pub mod watch;
