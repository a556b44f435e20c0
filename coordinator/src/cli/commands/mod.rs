//! The commands, one file each.

pub(super) mod cleanup;
pub(super) mod demo;
pub(super) mod get;
pub(super) mod images;
pub(super) mod logs;
pub(super) mod migrate;
pub(super) mod migrate_dir;
pub(super) mod plan;
pub(super) mod resume;
pub(super) mod set;
pub(super) mod status;
