//! How fast may a live pass go?

pub mod limiter;
pub mod pace;
