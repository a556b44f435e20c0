//! What does one object say, and how is one built? Pure functions: nothing here asks the server.

pub mod claim;
pub mod mover_pod;
pub mod network_policy;
pub mod node;
pub mod pod;
pub mod quantity;
