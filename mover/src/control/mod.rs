//! The control side of a mover: TLS over TCP, requests and answers.

pub mod requests;
pub mod server;
