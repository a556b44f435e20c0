//! Strange worlds: a random tree on a random stack of file systems, what happens to it while it is
//! copied, and a judge who has no rule for leaving anything out.
//!
//! A [`World`] is drawn from a seed and is a list of steps; a shorter one that still fails says
//! more. [`Ground`] has the file systems, [`Laid`] the world that is there, [`seen`] what the judge
//! sees of a tree, [`report`] what a mover said, and [`judge`] whether it kept its promise.

pub mod change;
pub mod ground;
pub mod grow;
pub mod judge;
pub mod lay;
pub mod plan;
pub mod report;
pub mod seen;

pub use self::{
    ground::{Ground, available},
    lay::Laid,
    plan::{Step, World},
};
