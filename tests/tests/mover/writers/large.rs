//! The writer of large files and whole directories, right below the root: what it writes is in
//! flight, mapped or already read back when it changes again.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Barrier,
};

use anyhow::Result;
use livmig_tests::{
    mapping::Mapping,
    mutate,
    rng::Rng,
    tree::{posix, random},
};
use rustix::fs::{CWD, RenameFlags};

/// Names of each sort.
const NAMES: u64 = 3;

/// Bytes of a file that is mapped.
const MAPPED: usize = 512 << 10;

/// Bytes from which a file lets the destination flush, and so read back, during the pass.
const HUGE: usize = 33 << 20;

/// Files beyond this start anew.
const LARGE_MAX: u64 = 2 << 20;

/// The acts of this writer, over all of which a file stays mapped.
pub(super) fn change(root: &Path, acts: usize, curtain: &Barrier, mut rng: Rng) -> Result<()> {
    let mut writer = Writer::new(root, &mut rng);
    for _ in 0..acts {
        // Also after an error: the others wait for this one.
        curtain.wait();
        if let Ok(at_work) = &mut writer
            && let Err(error) = at_work.act(&mut rng)
        {
            writer = Err(error);
        }
    }
    writer.map(drop)
}

struct Writer {
    root: PathBuf,
    mapped: PathBuf,
    mapping: Mapping,
}

impl Writer {
    fn new(root: &Path, rng: &mut Rng) -> Result<Self> {
        // One of two names, so that what was mapped by the last seed is often another file.
        let mapped = root.join(format!("mapped {}", rng.below(2)));
        if !mapped.exists() || rng.chance(20) {
            fs::write(&mapped, rng.bytes(MAPPED))?;
        }
        for number in 0..NAMES {
            let file = root.join(format!("large {number}"));
            if file.metadata().is_ok_and(|meta| meta.len() > LARGE_MAX) {
                fs::remove_file(file)?;
            }
            let huge = root.join(format!("directory {number}/huge"));
            if huge.exists() {
                fs::remove_file(huge)?;
            }
        }
        let file = File::options().read(true).write(true).open(&mapped)?;
        let mapping = Mapping::of(&file)?;
        Ok(Self {
            root: root.to_owned(),
            mapped,
            mapping,
        })
    }

    fn act(&mut self, rng: &mut Rng) -> Result<()> {
        if rng.chance(3) {
            self.huge(rng)?;
        }
        for _ in 0..8 + rng.below(16) {
            self.step(rng)?;
        }
        Ok(())
    }

    fn step(&mut self, rng: &mut Rng) -> Result<()> {
        let number = rng.below(NAMES);
        let large = self.root.join(format!("large {number}"));
        let directory = self.directory(rng.below(NAMES));
        match rng.below(100) {
            0..35 => self.store(rng)?,
            35..55 => write_at(&large, rng)?,
            55..62 if large.exists() => {
                let (seconds, nanoseconds) = posix::mtime(&large)?;
                mutate::rewrite_pages(&large, 2, rng)?;
                posix::set_mtime(&large, seconds, nanoseconds)?;
            }
            62..67 => {
                let (seconds, nanoseconds) = posix::mtime(&self.mapped)?;
                self.store(rng)?;
                posix::set_mtime(&self.mapped, seconds, nanoseconds)?;
            }
            67..71 => {
                let moved = self.root.join(format!("moved {}", rng.below(2)));
                fs::rename(&self.mapped, &moved)?;
                self.mapped = moved;
            }
            71..74 if large.exists() => fs::remove_file(&large)?,
            74..80 if large.exists() && directory.is_dir() => {
                let name = directory.join(format!("link {}", rng.below(3)));
                if name.exists() {
                    fs::remove_file(&name)?;
                }
                fs::hard_link(&large, name)?;
            }
            80..90 => replace(&directory, rng)?,
            90..96 => {
                let other = self.directory(number);
                if directory.exists() && other.exists() && other != directory {
                    let flags = RenameFlags::EXCHANGE;
                    rustix::fs::renameat_with(CWD, &directory, CWD, &other, flags)?;
                } else if directory.exists() && !other.exists() {
                    fs::rename(&directory, &other)?;
                }
            }
            _ => remove(&directory)?,
        }
        Ok(())
    }

    fn directory(&self, number: u64) -> PathBuf {
        self.root.join(format!("directory {number}"))
    }

    /// Stores through the mapping.
    fn store(&mut self, rng: &mut Rng) -> Result<()> {
        let length = usize::try_from(1 + rng.below(9000))?;
        let places = u64::try_from(self.mapping.length() - length)?;
        let offset = usize::try_from(rng.below(places + 1))?;
        self.mapping.store(offset, &rng.bytes(length))
    }

    /// Writes more than the destination leaves unflushed, and often takes away again what is then
    /// being read back.
    fn huge(&self, rng: &mut Rng) -> Result<()> {
        let directory = self.directory(rng.below(NAMES));
        if !directory.is_dir() {
            remove(&directory)?;
            fs::create_dir(&directory)?;
        }
        random::file(&directory.join("beside it"), rng)?;
        fs::write(directory.join("huge"), rng.bytes(HUGE))?;
        Ok(())
    }
}

/// One large write, at any place of a file that may be new: holes come by themselves.
fn write_at(path: &Path, rng: &mut Rng) -> Result<()> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)?;
    let length = usize::try_from((128 << 10) + rng.below(512 << 10))?;
    let place = 512 * rng.below(2048);
    file.write_all_at(&rng.bytes(length), place)?;
    if rng.chance(20) {
        file.set_len(rng.below(place + (256 << 10)))?;
    }
    Ok(())
}

/// A directory becomes a file, and anything else a directory with files in it.
fn replace(path: &Path, rng: &mut Rng) -> Result<()> {
    if path.is_dir() {
        fs::remove_dir_all(path)?;
        return random::file(path, rng);
    }
    remove(path)?;
    fs::create_dir_all(path.join("deeper"))?;
    random::file(&path.join("deeper/file"), rng)?;
    random::file(&path.join("file"), rng)
}

fn remove(path: &Path) -> Result<()> {
    if path.is_dir() {
        fs::remove_dir_all(path)?;
    } else if path.exists() {
        fs::remove_file(path)?;
    }
    Ok(())
}
