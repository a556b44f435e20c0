//! Which volume does a claim lead to, and is that safe?

pub mod dry_run;
pub mod fence;
pub mod provisioned;
pub mod rebind;
pub mod reclaim;
