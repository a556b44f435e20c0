//! Depth, descriptors, sizes, reservations, and nothing sent that did not change.

mod depth;
mod reserved;
mod space;
mod tower;
