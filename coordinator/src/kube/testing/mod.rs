//! What tests of this platform stand on: an API server in memory.

pub(super) mod server;
