//! How the two movers, and a mover and its coordinator, reach each other.
//!
//! The movers speak over QUIC ([`quic`]) or over TLS on TCP ([`tcp`], [`tls`]), which look alike from here
//! on: [`mod@stream`]s that the source opens ([`dial`]) and the destination accepts ([`accept`]).
//! [`link`] turns a connection into what the threads of a source need: channels for lanes, blocking
//! queries, acknowledgements to wait for. [`messages`] reads and writes length-prefixed messages
//! on any byte stream.

pub mod accept;
pub mod acks;
mod bundle;
pub mod dial;
mod hello;
mod incoming;
pub mod link;
pub mod messages;
pub mod quic;
mod quic_dial;
mod refusal;
pub mod shortage;
pub mod stream;
pub mod tcp;
pub mod tls;
