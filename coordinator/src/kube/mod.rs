//! The Kubernetes platform: claims of a workload move to other storage classes, by movers that run as
//! pods made for one migration. Nothing is installed in the cluster first.
//!
//! Each folder answers one question. What stands lower in this list does not use what stands higher.
//!
//! | Folder | Question |
//! |---|---|
//! | [`platform`] | How is each step of the plan done? |
//! | [`preflight`] | Can this migration work? |
//! | [`cleanup`] | What is left when it is over? |
//! | [`movers`] | Where do the movers run, and how are they reached? |
//! | [`volumes`] | Which volume does a claim lead to, and is that safe? |
//! | [`workload`] | Is the workload down, is it up? |
//! | [`writers`] | Who may still write? |
//! | [`migration`] | What does one migration move, and what is it called? |
//! | [`store`] | What does the namespace remember? |
//! | [`objects`] | What does one object say, and how is one built? |
//! | [`api`] | How is the API server asked, and how are others' objects changed? |

pub mod api;
pub mod cleanup;
pub mod migration;
pub mod movers;
pub mod objects;
pub mod platform;
pub mod preflight;
pub mod store;
#[cfg(test)]
mod testing;
pub mod volumes;
pub mod workload;
pub mod writers;
