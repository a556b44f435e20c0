//! The file system, by directory handles: every name is a single component resolved below a
//! handle that is already held, so nothing that happens to the tree meanwhile can lead outside.

pub mod confine;
pub mod dir;
pub mod extents;
pub mod file;
pub mod remove;
pub mod stat;
#[allow(unsafe_code)]
pub mod sys;
pub mod volume;
pub mod xattr;
