//! The Kubernetes platform: claims of a workload move to other storage classes, by movers that
//! run as pods made for one migration. Nothing is installed in the cluster first.

pub mod cluster;
pub mod names;
