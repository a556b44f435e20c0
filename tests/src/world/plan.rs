//! A world as a value: what the source and the destination lie on, and what happens to them, step
//! by step. Each step has a seed of its own, so that taking one away changes no other.

use std::fmt;

use crate::{odd::Oddity, rng::Rng};

/// A file system.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Kind {
    /// In memory.
    Tmpfs,
    /// As it is made today.
    Ext4,
    /// With small inodes (times in whole seconds, until 2038) and no types in its directories.
    Ext4Old,
    /// One of its own: the volume is its root, with a `lost+found`.
    Ext4Root,
    /// xfs.
    Xfs,
    /// btrfs.
    Btrfs,
}

/// What lies between the source's file system and who looks at it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Above {
    /// Nothing.
    Bare,
    /// A bind mount.
    Bind,
    /// A bind mount that shows other owners.
    Mapped,
    /// An overlay: what is there is its lower layer, the upper one is on such a file system.
    Overlay(Kind),
    /// The odd file system; what is struck is chosen by the number.
    Odd(Oddity, u64),
}

/// What is made at the source.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Growth {
    /// Random entries.
    Random,
    /// Random changes of what is there.
    Changes,
    /// Groups of names, of files and of what is none.
    Links,
    /// Pairs of files that look alike: size, times and number of names.
    Twins,
    /// Devices, whiteouts, fifos, sockets.
    Nodes,
    /// Holes, reservations, written zeros.
    Sparse,
    /// Attributes of all namespaces, lists and capabilities.
    Attributes,
    /// Inode flags.
    Flags,
    /// Directories in directories.
    Deep,
    /// More entries than a list holds.
    Wide,
    /// Names that are hard to read.
    Names,
    /// Times before 1970 and after 2038.
    Times,
    /// Directories and files without rights.
    Modes,
    /// A directory called `lost+found` that holds something.
    LostFound,
    /// A subvolume with something in it, where there are such; else a directory.
    Subvolume,
    /// A snapshot of a subvolume; else nothing.
    Snapshot,
}

impl Growth {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Random,
        Self::Changes,
        Self::Links,
        Self::Twins,
        Self::Nodes,
        Self::Sparse,
        Self::Attributes,
        Self::Flags,
        Self::Deep,
        Self::Wide,
        Self::Names,
        Self::Times,
        Self::Modes,
        Self::LostFound,
        Self::Subvolume,
        Self::Snapshot,
    ];
}

/// What is mounted below a root.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Inner {
    /// A file system of its own, with random entries.
    Tmpfs,
    /// A directory of another disk.
    Disk(Kind),
    /// Another directory of the same tree.
    Directory,
    /// A file of the same tree over another.
    File,
}

/// What the destination holds before, or what happens to it between runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Prior {
    /// A copy of the source, mounts and all, with changes.
    Copy,
    /// Entries that the source knows nothing of.
    Foreign,
    /// Other kinds of entries, devices among them, under the source's names.
    Kinds,
    /// Names of the source that lead to inodes outside.
    OutwardLinks,
    /// A directory `lost+found` with something in it.
    LostFound,
    /// A copy of it by hard links, beside it, which must stay as it is.
    Snapshot,
    /// Something mounted in it.
    Mount(Inner),
}

/// Something that happens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// The source grows, below all that lies above it.
    Below(Growth),
    /// The source grows as its users see it; where they cannot write, as `Below`.
    Through(Growth),
    /// Something is mounted in the source.
    Mount(Inner),
    /// Something happens to the destination.
    Prior(Prior),
    /// A run while so many changes are made.
    Live {
        /// Whether it remembers.
        state: bool,
        /// How many.
        changes: u32,
    },
}

/// All of it. A quiet run follows the steps.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct World {
    /// What it was drawn from.
    pub seed: u64,
    /// Below the source.
    pub source: Kind,
    /// Above that.
    pub above: Above,
    /// Below the destination.
    pub destination: Kind,
    /// Whether the quiet run remembers.
    pub state: bool,
    /// What happens, each with its seed.
    pub steps: Vec<(Step, u64)>,
}

impl World {
    /// The world of a seed.
    pub fn draw(seed: u64) -> Self {
        let mut rng = Rng::new(!seed);
        let rng = &mut rng;
        let mut world = Self {
            seed,
            source: source(rng),
            above: Above::Bare,
            destination: destination(rng),
            state: rng.chance(50),
            steps: Vec::new(),
        };
        world.above = above(world.source, rng);
        let growth = |rng: &mut Rng, source: Kind| {
            if source == Kind::Btrfs && rng.chance(40) {
                if rng.chance(50) {
                    Growth::Subvolume
                } else {
                    Growth::Snapshot
                }
            } else if source == Kind::Ext4Root && rng.chance(30) {
                Growth::LostFound
            } else {
                *rng.pick(&Growth::ALL).unwrap_or(&Growth::Random)
            }
        };
        let mut steps = vec![Step::Below(Growth::Random)];
        for _ in 0..=rng.below(3) {
            steps.push(Step::Below(growth(rng, world.source)));
        }
        for _ in 0..rng.below(3) {
            steps.push(Step::Through(growth(rng, world.source)));
        }
        if rng.chance(30) {
            steps.push(Step::Mount(inner(rng)));
        }
        if rng.chance(55) {
            steps.push(Step::Prior(Prior::Copy));
        }
        for _ in 0..rng.below(3) {
            steps.push(Step::Prior(prior(rng)));
        }
        for _ in 0..rng.below(3) {
            let changes = u32::try_from(rng.below(80)).unwrap_or(0);
            let state = rng.chance(50);
            steps.push(Step::Live { state, changes });
            if rng.chance(25) {
                steps.push(Step::Prior(Prior::Snapshot));
            }
            if rng.chance(25) {
                steps.push(Step::Through(growth(rng, world.source)));
            }
        }
        world.steps = steps.into_iter().map(|step| (step, rng.draw())).collect();
        world
    }

    /// Worlds that are a little simpler, the most so first.
    pub fn simpler(&self) -> Vec<Self> {
        let mut all = Vec::new();
        for index in 0..self.steps.len() {
            let mut world = self.clone();
            world.steps.remove(index);
            all.push(world);
        }
        let mut change = |change: &dyn Fn(&mut Self)| {
            let mut world = self.clone();
            change(&mut world);
            if world != *self {
                all.push(world);
            }
        };
        change(&|world| world.above = Above::Bare);
        change(&|world| world.source = Kind::Tmpfs);
        change(&|world| world.source = Kind::Ext4);
        change(&|world| world.destination = Kind::Tmpfs);
        change(&|world| world.destination = Kind::Ext4);
        change(&|world| world.state = false);
        change(&|world| {
            for (step, _) in &mut world.steps {
                if let Step::Live { state, changes } = step {
                    *state = false;
                    *changes /= 2;
                }
            }
        });
        all
    }
}

fn source(rng: &mut Rng) -> Kind {
    match rng.below(100) {
        0..20 => Kind::Tmpfs,
        20..42 => Kind::Ext4,
        42..50 => Kind::Ext4Old,
        50..60 => Kind::Ext4Root,
        60..75 => Kind::Xfs,
        _ => Kind::Btrfs,
    }
}

fn destination(rng: &mut Rng) -> Kind {
    match rng.below(100) {
        0..30 => Kind::Tmpfs,
        30..55 => Kind::Ext4,
        55..60 => Kind::Ext4Old,
        60..70 => Kind::Ext4Root,
        70..88 => Kind::Xfs,
        _ => Kind::Btrfs,
    }
}

fn above(source: Kind, rng: &mut Rng) -> Above {
    match rng.below(100) {
        0..35 => Above::Bare,
        35..43 => Above::Bind,
        43..50 => Above::Mapped,
        50..70 => {
            // An upper layer needs types in its directories, and a place beside the lower one.
            let same = matches!(source, Kind::Tmpfs | Kind::Ext4 | Kind::Xfs | Kind::Btrfs);
            let upper = [Kind::Tmpfs, Kind::Ext4, Kind::Xfs];
            let other = *rng.pick(&upper).unwrap_or(&Kind::Ext4);
            Above::Overlay(if same && rng.chance(50) {
                source
            } else {
                other
            })
        }
        _ => {
            let oddity = *rng.pick(&Oddity::ALL).unwrap_or(&Oddity::Plain);
            Above::Odd(oddity, rng.draw())
        }
    }
}

fn inner(rng: &mut Rng) -> Inner {
    match rng.below(4) {
        0 => Inner::Tmpfs,
        1 => Inner::Disk(*rng.pick(&[Kind::Ext4, Kind::Xfs]).unwrap_or(&Kind::Ext4)),
        2 => Inner::Directory,
        _ => Inner::File,
    }
}

fn prior(rng: &mut Rng) -> Prior {
    match rng.below(100) {
        0..25 => Prior::Foreign,
        25..50 => Prior::Kinds,
        50..65 => Prior::OutwardLinks,
        65..75 => Prior::LostFound,
        75..92 => Prior::Snapshot,
        _ => Prior::Mount(inner(rng)),
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "source {:?}, above it {:?}; destination {:?}; then",
            self.source, self.above, self.destination
        )?;
        for (step, seed) in &self.steps {
            writeln!(f, "  {step:?} ({seed:x})")?;
        }
        let with = if self.state { "with" } else { "without" };
        write!(f, "  and a quiet run {with} --state")
    }
}
