//! What does the namespace remember? A migration's journal, who drives it, its limits, and the claims as
//! they were.

pub mod journal;
pub mod lease;
pub mod limits;
pub mod migrations;
pub mod pre_image;
