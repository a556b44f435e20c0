//! Tests of livmig's built binaries on real files, and the tools they share.
//!
//! The tools trust nothing of livmig: [`tree`] makes trees, [`mutate`] changes them,
//! [`snapshot`] and [`compare`] say whether two trees are equal, and [`rsync`] asks a program
//! that others wrote. [`bins`] finds the binaries, [`run`] runs them, [`mounts`] gives them file
//! systems with limits and [`odd`] one that misbehaves, [`control`] speaks to a mover as a
//! coordinator does, [`relay`] is a bad network and [`tunnel`] a path that can be cut, [`mapping`]
//! stores as a database may, [`writer`] is a workload that knows what it was promised, [`journal`]
//! watches a migration from outside. A test that cannot run here says so through [`skip`]; it never
//! passes in silence.

pub mod bins;
pub mod compare;
pub mod control;
pub mod journal;
#[allow(unsafe_code)]
pub mod mapping;
pub mod mounts;
pub mod mutate;
pub mod odd;
pub mod pair;
pub mod relay;
pub mod rng;
pub mod rsync;
pub mod run;
pub mod scratch;
pub mod skip;
pub mod snapshot;
#[allow(unsafe_code)]
pub mod sys;
pub mod tree;
pub mod tunnel;
pub mod world;
pub mod writer;
