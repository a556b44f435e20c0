//! Identifiers: one newtype each.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::hex;

/// The identity of one migration: 16 random bytes, made by the coordinator that planned it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct MigrationUid(#[serde(with = "hex::array")] pub [u8; 16]);

impl fmt::Display for MigrationUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

/// Counts the coordinators that have driven a migration. A mover obeys only the highest epoch it
/// has seen, so a coordinator that was taken over can no longer act.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch of the next coordinator.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a pass within its migration, counted from 1.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct PassNumber(pub u32);

impl PassNumber {
    /// The number of the first pass.
    pub const FIRST: Self = Self(1);

    /// The number of the next pass.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for PassNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
