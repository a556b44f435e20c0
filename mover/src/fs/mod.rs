//! The file system, by directory handles: every name is a single component resolved below a
//! handle that is already held, so nothing that happens to the tree meanwhile can lead outside.

pub mod attributes;
pub mod confine;
pub mod dir;
pub mod entry;
pub mod file;
pub mod lost_found;
pub mod metadata;
pub mod mounts;
pub mod remove;
pub mod resolve;
pub mod space;
pub mod stat;
pub mod volume_lock;
// These system calls have no safe wrapper, so they are kept together in one module.
#[allow(unsafe_code)]
pub mod sys;
pub mod volume;
pub mod way;
