//! What tests of this platform stand on: an API server in memory, and objects to put into it.

pub(super) mod objects;
pub(super) mod server;
