//! What does a file system say of an entry beside its content, and what may this process change of it?

pub mod flags;
pub mod fscrypt;
pub mod owners;
pub mod rights;
pub mod xattr;
