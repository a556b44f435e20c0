//! The ways in which the file system misbehaves.

use anyhow::{Context as _, Result};

/// One way to be odd. What strikes single entries strikes those that the mount names; where it
/// names none, all of them.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Oddity {
    /// None: everything is passed through, the inode numbers of several disks below it too.
    Plain,
    /// What is no directory has another inode number at each look.
    InodesAnew,
    /// Everything below the root has another inode number at each look.
    AllInodesAnew,
    /// All that has several names shares one inode number.
    InodesCollide,
    /// A directory cannot be listed and a file not be read: `ESTALE`.
    Stale,
    /// A directory cannot be listed and a file not be read: `EIO`.
    Broken,
    /// A file cannot be read beyond its first half: `EIO`.
    BreaksHalfWay,
    /// The listing of a directory breaks off in its middle: `EIO`.
    ListingBreaks,
    /// The first listing that would show the name does not.
    MissedOnce,
    /// Every second listing that would show the name does not.
    MissedOften,
    /// The first look at the name finds nothing, though it is listed.
    AbsentOnce,
    /// A file has the size 0, and content.
    SizeZero,
    /// Times are whole seconds.
    WholeSeconds,
    /// The modification time lies 34 000 years ahead.
    FarFuture,
    /// The modification time lies 34 000 years back.
    FarPast,
    /// What is unlinked while it is open can no longer be read: `ESTALE`.
    GoneWhenUnlinked,
    /// Names are found whatever their case.
    FoldedCase,
    /// Everything says that it has one name.
    OneLink,
    /// Extended attributes are listed and cannot be read: `EACCES`.
    AttributesRefused,
    /// Each answer takes some milliseconds.
    Slow,
}

impl Oddity {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::Plain,
        Self::InodesAnew,
        Self::AllInodesAnew,
        Self::InodesCollide,
        Self::Stale,
        Self::Broken,
        Self::BreaksHalfWay,
        Self::ListingBreaks,
        Self::MissedOnce,
        Self::MissedOften,
        Self::AbsentOnce,
        Self::SizeZero,
        Self::WholeSeconds,
        Self::FarFuture,
        Self::FarPast,
        Self::GoneWhenUnlinked,
        Self::FoldedCase,
        Self::OneLink,
        Self::AttributesRefused,
        Self::Slow,
    ];

    /// What the command line calls it.
    pub fn name(self) -> String {
        format!("{self:?}")
    }

    /// The one that is called `name`.
    pub fn named(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|oddity| oddity.name() == name)
            .with_context(|| format!("no oddity {name}"))
    }
}
