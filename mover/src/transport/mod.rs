//! How the two movers, and a mover and its coordinator, reach each other.
//!
//! [`quic`] knows QUIC; [`link`] turns a connection into what the threads of a source need:
//! channels for lanes, blocking queries, acknowledgements to wait for. [`messages`] reads and
//! writes length-prefixed messages on any byte stream.

pub mod acks;
pub mod link;
pub mod messages;
pub mod quic;
pub mod shortage;
