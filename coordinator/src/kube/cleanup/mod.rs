//! What is left when a migration is over?

pub mod forget;
pub mod release;
