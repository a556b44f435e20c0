//! What both platforms know of movers: how they are spoken to, the keys they are given, the limits
//! that they keep, and what the two of a volume do together.

pub mod control;
pub mod failure;
pub mod keys;
pub mod limits;
pub mod pair;
