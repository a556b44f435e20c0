//! Inode flags and project ids: what an entry has of them beside what is carried.

use std::os::fd::BorrowedFd;

use crate::fs::{stat::Attributes, sys};

/// Where a file system keeps flags that `statx` does not tell.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FlagPlace {
    /// With the project, and a directory's own ones (ext4, f2fs).
    ProjectAndDirectories,
    /// With the project (xfs).
    Project,
    /// With the inode (btrfs).
    Inode,
    /// Wherever the file system below has them (overlay).
    Below,
}

/// Flags that `statx` does not tell, and the project.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Flags {
    set: u32,
    project: u32,
}

// From linux/fs.h: flags of inodes, and those that come with a project.
const NO_COPY_ON_WRITE: u32 = 0x0080_0000;
const CASEFOLD: u32 = 0x4000_0000;
const SYNC: u32 = 0x20;
const NO_ACCESS_TIMES: u32 = 0x40;
const DIRECT_ACCESS: u32 = 0x8000;

/// Of directories alone: changes of names are stored at once; directories are spread over the disk.
const SYNC_NAMES: u32 = 0x1_0000;
const TOP_DIRECTORY: u32 = 0x2_0000;
/// How much space is taken at once, by a file or by what is made in a directory.
const EXTENT_SIZE: u32 = 0x800 | 0x1000;
const NO_DEFRAGMENTATION: u32 = 0x2000;

const OF_INODE: u32 = NO_COPY_ON_WRITE | CASEFOLD;
const OF_DIRECTORY: u32 = SYNC_NAMES | TOP_DIRECTORY;
const OF_PROJECT: u32 = SYNC | NO_ACCESS_TIMES | DIRECT_ACCESS | EXTENT_SIZE | NO_DEFRAGMENTATION;

const WORDS: [(u32, &str); 9] = [
    (SYNC_NAMES, "synchronous directory"),
    (TOP_DIRECTORY, "top of directories"),
    (EXTENT_SIZE, "extent size"),
    (NO_DEFRAGMENTATION, "no defragmentation"),
    (NO_COPY_ON_WRITE, "no copy on write"),
    (CASEFOLD, "casefold"),
    (SYNC, "synchronous"),
    (NO_ACCESS_TIMES, "no access times"),
    (DIRECT_ACCESS, "direct access"),
];

impl Flags {
    /// Of the file behind `fd`, which is open for reading.
    pub fn of_file(fd: BorrowedFd<'_>, place: FlagPlace) -> Self {
        match place {
            FlagPlace::ProjectAndDirectories | FlagPlace::Project => Self::with_project(fd),
            FlagPlace::Inode => Self::default().or(fd, OF_INODE),
            FlagPlace::Below => Self::with_project(fd).or(fd, OF_INODE),
        }
    }

    /// Of the directory behind `fd`, which is open for reading.
    pub fn of_directory(fd: BorrowedFd<'_>, place: FlagPlace) -> Self {
        match place {
            FlagPlace::ProjectAndDirectories | FlagPlace::Below => {
                Self::with_project(fd).or(fd, OF_INODE | OF_DIRECTORY)
            }
            FlagPlace::Project => Self::with_project(fd),
            FlagPlace::Inode => Self::default().or(fd, OF_INODE),
        }
    }

    // A file system that has none says so, and there are none then.
    fn with_project(fd: BorrowedFd<'_>) -> Self {
        let (set, project) = sys::inode_project(fd).unwrap_or_default();
        Self {
            set: set & OF_PROJECT,
            project,
        }
    }

    /// These, and those of the inode that are `asked` for.
    fn or(self, fd: BorrowedFd<'_>, asked: u32) -> Self {
        let set = sys::inode_flags(fd).unwrap_or_default();
        Self {
            set: self.set | set & asked,
            ..self
        }
    }

    /// Whether there is nothing.
    pub fn is_plain(self) -> bool {
        self == Self::default()
    }

    /// What it has that the directory it is in has not: the others are inherited and told there.
    pub fn beyond(self, parent: Self) -> Self {
        Self {
            set: self.set & !parent.set,
            project: if self.project == parent.project {
                0
            } else {
                self.project
            },
        }
    }
}

/// What an entry has, for people; nothing where it has nothing.
pub fn words(attributes: Attributes, flags: Flags) -> String {
    let told = [
        (attributes.is_immutable(), "immutable"),
        (attributes.is_append_only(), "append only"),
        (attributes.is_nodump(), "no dump"),
        (attributes.has_verity(), "verity"),
    ];
    let mut words: Vec<String> = told
        .into_iter()
        .filter(|(set, _)| *set)
        .map(|(_, word)| word.to_owned())
        .collect();
    let set = WORDS.iter().filter(|(bit, _)| flags.set & bit != 0);
    words.extend(set.map(|(_, word)| (*word).to_owned()));
    if flags.project != 0 {
        words.push(format!("project id {}", flags.project));
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inherited_is_told_where_it_begins() {
        let parent = Flags {
            set: NO_COPY_ON_WRITE,
            project: 42,
        };
        assert!(parent.beyond(parent).is_plain());
        let own = Flags {
            set: NO_COPY_ON_WRITE | SYNC,
            project: 43,
        };
        let beyond = own.beyond(parent);
        assert_eq!(
            words(Attributes::default(), beyond),
            "synchronous, project id 43"
        );
        assert_eq!(words(Attributes::default(), Flags::default()), "");
    }
}
