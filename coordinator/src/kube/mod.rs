//! The Kubernetes platform: claims of a workload move to other storage classes, by movers that
//! run as pods made for one migration. Nothing is installed in the cluster first.

pub mod amend;
pub mod by_hand;
pub mod check;
pub mod claims;
pub mod cluster;
pub mod consumers;
pub mod create;
pub mod exec;
pub mod fence;
pub mod forget;
pub mod guard;
pub mod journal;
pub mod lease;
pub mod load;
mod lost_nodes;
pub mod mark;
#[cfg(test)]
mod memory;
pub mod migrations;
pub mod mover_pod;
pub mod movers;
pub mod names;
pub mod network;
pub mod nodes;
pub mod place;
pub mod plan;
pub mod platform;
pub mod pods;
pub mod pre_image;
pub mod provisioned;
pub mod quantity;
pub mod rebind;
pub mod release;
pub mod survey;
pub mod template;
pub mod trial;
pub mod volumes;
pub mod watch;
pub mod workload;
