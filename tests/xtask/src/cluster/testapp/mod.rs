//! The app of `deploy/example` on this cluster: what every run of it shares, from the namespace to
//! the judges and the removal of everything.

pub(in crate::cluster) mod app;
pub(in crate::cluster) mod fill;
pub(in crate::cluster) mod judge;
pub(in crate::cluster) mod restart;
pub(in crate::cluster) mod size;

mod document;
mod leave;
mod median;
mod migration;
mod trial;

pub(in crate::cluster) use self::median::median;
pub(in crate::cluster) use self::trial::{RunOptions, Trial, run};
