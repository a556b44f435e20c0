//! The checks, each over the whole case. None stops another: a user reads all findings at once.

mod access;
mod attachments;
mod attributes;
mod autoscaler;
mod capacity;
mod claim_state;
mod class;
mod consumers;
mod driver;
mod image;
mod limits;
mod network;
mod nodes;
mod other_migration;
mod owners;
mod ownership;
mod pod_security;
mod quota;
mod retention;
mod rights;
mod scheduled;
mod shutdown;
mod topology;
mod unread;
mod volume_state;
mod workload_state;

use super::{context::CheckContext, finding::Finding};

pub(super) use self::pod_security::run_as;

/// One check.
pub(crate) type Check = fn(&CheckContext<'_>) -> Vec<Finding>;

/// Every check.
pub(crate) const ALL: &[Check] = &[
    access::check,
    attachments::check,
    attributes::check,
    autoscaler::check,
    capacity::check,
    claim_state::check,
    class::check,
    consumers::check,
    driver::check,
    image::check,
    limits::check,
    network::check,
    nodes::check,
    other_migration::check,
    owners::check,
    ownership::check,
    pod_security::check,
    quota::check,
    retention::check,
    rights::check,
    scheduled::check,
    shutdown::check,
    topology::check,
    unread::check,
    volume_state::check,
    workload_state::check,
];
