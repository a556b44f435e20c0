//! Flags that several commands have, and the types of their values.

pub(super) mod cluster;
pub(super) mod limits;
pub(super) mod options;
pub(super) mod request;
pub(super) mod values;
