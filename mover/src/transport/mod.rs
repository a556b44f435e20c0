//! How the two movers, and a mover and its coordinator, reach each other.
//!
//! The movers speak over QUIC ([`quic`]) or over TLS on TCP ([`tcp`], [`tls`]), which look alike from here
//! on: [`mod@stream`]s that the source opens ([`dial`]) and the destination accepts ([`accept`]).
//! [`data_session`] turns a connection into what the threads of a source need: channels for lanes, blocking
//! queries, acknowledgements to wait for. [`messages`] reads and writes length-prefixed messages
//! on any byte stream.

pub mod accept;
mod accepted;
pub mod acks;
pub mod data_session;
pub mod dial;
mod hello;
pub mod messages;
pub mod quic;
mod quic_connections;
mod quic_dial;
mod refusal;
pub mod shortage;
pub mod stream;
pub mod tcp;
pub mod tls;
