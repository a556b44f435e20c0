//! A pass of the simulation.

use livmig_engine::time::Timestamp;
use livmig_proto::{
    control::{PassKind, PassReport},
    ids::PassNumber,
};

/// A pass under way or ended.
#[derive(Clone, Debug)]
pub(super) struct Pass {
    pub(super) number: PassNumber,
    pub(super) kind: PassKind,
    /// What the scan saw, in its order.
    pub(super) listing: Vec<u64>,
    /// The proof of no writers that stood when it began.
    pub(super) proof: Option<u64>,
    pub(super) began: Timestamp,
    pub(super) ends: Timestamp,
    pub(super) stopped: bool,
    pub(super) report: Option<PassReport>,
}
