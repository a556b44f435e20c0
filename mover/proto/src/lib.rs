//! What livmig's parts say to each other.
//!
//! Two protocols share this crate. *Control* is spoken between the coordinator and a mover: JSON
//! messages in length-prefixed frames over TLS 1.3 ([`control`]). *Data* is spoken between the two
//! movers: binary frames over QUIC or TLS ([`frame`]). Both authenticate by public keys made for one
//! migration and pinned on every connection ([`identity`], feature `tls`).
//!
//! The crate also owns what both ends must compute alike: names ([`name`]), the metadata of an
//! entry ([`entry`]), which attributes are carried ([`attributes`]), the hash tree of a file's content ([`tree`]) and the digest of a whole
//! volume ([`manifest`]).
//!
//! Nothing here performs I/O or reads a clock; every decoder is total and bounds what it
//! allocates by the constants in [`limits`].

pub mod attributes;
pub mod control;
pub mod entry;
pub mod frame;
pub mod hex;
#[cfg(feature = "tls")]
pub mod identity;
pub mod ids;
pub mod lately;
pub mod limits;
pub mod manifest;
pub mod mounts;
pub mod name;
pub mod places;
pub mod session;
pub mod size;
pub mod tree;
pub mod wire;
