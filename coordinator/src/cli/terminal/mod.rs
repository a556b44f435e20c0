//! A migration in front of a person: driven, shown while it goes, and asked about.

pub(super) mod confirm;
pub(super) mod drive;
pub(super) mod events;
pub(super) mod log;
pub(super) mod progress;
