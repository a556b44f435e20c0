//! Depth, descriptors, sizes, reservations, and nothing sent that did not change.

mod depth;
mod space;
mod tower;
