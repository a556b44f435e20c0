//! What the destination had no room for.

use std::collections::HashSet;

use livmig_proto::{control::Fault, limits::LISTED_MAX, name::RelPath};

/// Directories that are remembered by name; beyond them every directory is in doubt.
const DIRECTORIES_MAX: usize = 10_000;

/// What the destination had no room for: the first of it by name, all of it by number, and the
/// directories that are not as they should be.
#[derive(Debug, Default)]
pub struct Shortage {
    faults: Vec<Fault>,
    total: u64,
    directories: HashSet<RelPath>,
    /// Something lacks in directories that are not among them.
    anywhere: bool,
}

impl Shortage {
    /// There was no room for something in `directory`; without one, anywhere.
    pub fn add(&mut self, fault: Fault, directory: Option<RelPath>) {
        self.total += 1;
        if self.faults.len() < LISTED_MAX {
            self.faults.push(fault);
        }
        match directory {
            Some(path) if self.directories.len() < DIRECTORIES_MAX => {
                self.directories.insert(path);
            }
            Some(path) if self.directories.contains(&path) => {}
            _ => self.anywhere = true,
        }
    }

    /// Whether the directory at `path` may lack something.
    pub fn concerns(&self, path: &RelPath) -> bool {
        self.anywhere || self.directories.contains(path)
    }

    /// Whether there was room for everything.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// How much there was no room for.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The first of it, and how much in all; told once. The directories stay in doubt.
    pub fn faults(&mut self) -> (Vec<Fault>, u64) {
        (
            std::mem::take(&mut self.faults),
            std::mem::take(&mut self.total),
        )
    }
}

#[cfg(test)]
mod tests {
    use livmig_proto::control::{FaultCode, Side};

    use super::*;
    use crate::fault;

    #[test]
    fn beyond_what_is_remembered_everything_is_in_doubt() {
        let path = |number: usize| RelPath::new(format!("d{number}").as_bytes()).unwrap();
        let fault = fault::plain(Side::Destination, FaultCode::NoSpace, "full");
        let mut shortage = Shortage::default();
        for number in 0..DIRECTORIES_MAX {
            shortage.add(fault.clone(), Some(path(number)));
        }
        shortage.add(fault.clone(), Some(path(7)));
        assert!(shortage.concerns(&path(7)) && !shortage.concerns(&path(DIRECTORIES_MAX)));
        shortage.add(fault, Some(path(DIRECTORIES_MAX)));
        assert!(shortage.concerns(&path(DIRECTORIES_MAX)) && shortage.concerns(&path(1 << 20)));
        let (faults, total) = shortage.faults();
        assert_eq!((faults.len(), total), (LISTED_MAX, 10_002));
    }
}
