//! Situations that people met in the field: each is exact at the destination, or said by name.

mod aliases;
mod attributes;
mod bounds;
mod destination;
mod flags;
mod identity;
mod mounts;
