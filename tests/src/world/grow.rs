//! What is made at a source: entries of every kind that copies go wrong with.

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt as _, MetadataExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Error, Result, ensure};
use rustix::{
    fs::{FallocateFlags, FileType, IFlags, ioctl_getflags, ioctl_setflags},
    io::Errno,
};

use super::{plan::Growth, seen};
use crate::{
    mutate,
    rng::Rng,
    tree::{posix, random},
};

/// Makes something below `root`. What this file system cannot hold is not made.
pub fn grow(root: &Path, growth: Growth, rng: &mut Rng) -> Result<()> {
    let dir = directory(root, rng)?;
    let number = rng.below(1 << 20);
    match tolerated(make(root, &dir, number, growth, rng)) {
        Ok(()) => Ok(()),
        Err(error) => Err(error.context(format!("making {growth:?} in {}", dir.display()))),
    }
}

/// No error where a file system, or what was made before, does not allow something.
pub(super) fn tolerated(result: Result<()>) -> Result<()> {
    let allowed = |error: &Error| {
        error.chain().any(|cause| {
            let number = if let Some(errno) = cause.downcast_ref::<Errno>() {
                Some(errno.raw_os_error())
            } else {
                let io = cause.downcast_ref::<std::io::Error>();
                io.and_then(std::io::Error::raw_os_error)
            };
            number.is_some_and(|number| {
                [
                    Errno::PERM,
                    Errno::ACCESS,
                    Errno::NOTSUP,
                    Errno::INVAL,
                    Errno::XDEV,
                    Errno::OVERFLOW,
                    Errno::NOENT,
                    Errno::EXIST,
                    Errno::NOTDIR,
                    Errno::NOTTY,
                    Errno::BUSY,
                    Errno::RANGE,
                    Errno::NOSPC,
                    Errno::MLINK,
                    Errno::STALE,
                    Errno::ISDIR,
                    Errno::NAMETOOLONG,
                ]
                .map(Errno::raw_os_error)
                .contains(&number)
            })
        })
    };
    match result {
        Err(error) if !allowed(&error) => Err(error),
        _ => Ok(()),
    }
}

fn make(root: &Path, dir: &Path, number: u64, growth: Growth, rng: &mut Rng) -> Result<()> {
    let new = |name: &str| dir.join(format!("{name} {number}"));
    match growth {
        Growth::Random => {
            let at = new("random");
            fs::create_dir(&at)?;
            let entries = 3 + rng.below(10);
            random::make(&at, usize::try_from(entries)?, rng)
        }
        Growth::Changes => {
            let changed = mutate::apply(root, 6, rng);
            if fs::read_dir(root)?.next().is_none() {
                fs::write(root.join(ANCHOR), "never empty")?;
            }
            changed.map(drop)
        }
        Growth::Links => links(root, &new("linked"), rng),
        Growth::Twins => twins(&new("twins"), rng),
        Growth::Nodes => nodes(&new("nodes")),
        Growth::Sparse => sparse(&new("sparse"), rng),
        Growth::Attributes => attributes(&new("attributes"), rng),
        Growth::Flags => flags(&new("flags")),
        Growth::Deep => {
            let at = (0..60).fold(new("deep"), |at, level| at.join(level.to_string()));
            fs::create_dir_all(&at)?;
            Ok(fs::write(at.join("bottom"), "bottom")?)
        }
        Growth::Wide => {
            let at = new("wide");
            fs::create_dir(&at)?;
            for number in 0..130 {
                fs::write(at.join(format!("{number:04}")), number.to_string())?;
            }
            Ok(())
        }
        Growth::Names => {
            let at = new("names\n\u{1b}");
            fs::create_dir(&at)?;
            for name in ["\\x41", "a\nb", "-rf *", "ü\u{301}\u{202e}", " ", "..."] {
                fs::write(at.join(name), name)?;
            }
            let bytes = std::ffi::OsString::from(&*"n".repeat(255));
            Ok(fs::write(at.join(bytes), "long")?)
        }
        Growth::Times => times(&new("times")),
        Growth::Modes => modes(&new("modes")),
        Growth::LostFound => lost_found(&root.join("lost+found"), rng),
        Growth::Subvolume => subvolume(&new("subvolume"), rng),
        Growth::Snapshot => snapshot(root, &new("snapshot"), rng),
    }
}

/// A directory of the tree.
pub fn directory(root: &Path, rng: &mut Rng) -> Result<PathBuf> {
    Ok(pick(root, rng, fs::Metadata::is_dir)?.unwrap_or_else(|| root.to_owned()))
}

/// The entry of a source that nobody takes away: an empty one is refused.
pub const ANCHOR: &str = "anchor";

/// An entry of the tree other than its root and its anchor that `fits`.
pub fn pick(
    root: &Path,
    rng: &mut Rng,
    fits: impl Fn(&fs::Metadata) -> bool,
) -> Result<Option<PathBuf>> {
    let mut paths = seen::paths(root)?;
    paths.sort();
    let mut found = Vec::new();
    let spared = |path: &[u8]| path == b"." || path == ANCHOR.as_bytes();
    for path in paths.iter().filter(|path| !spared(path)) {
        let at = seen::under(root, path);
        if at.symlink_metadata().is_ok_and(|meta| fits(&meta)) {
            found.push(at);
        }
    }
    Ok(rng.pick(&found).cloned())
}

fn links(root: &Path, at: &Path, rng: &mut Rng) -> Result<()> {
    fs::create_dir(at)?;
    fs::write(at.join("file"), rng.bytes(5000))?;
    symlink("target", at.join("link"))?;
    posix::make_node(&at.join("fifo"), FileType::Fifo, 0, 0)?;
    for first in ["file", "link", "fifo"] {
        for number in 0..=rng.below(3) {
            let other = directory(root, rng)?.join(format!("{first} {}", rng.draw() + number));
            tolerated(fs::hard_link(at.join(first), other).map_err(Error::from))?;
        }
    }
    fs::write(at.join("large"), rng.bytes(200_000))?;
    fs::hard_link(at.join("large"), at.join("large too"))?;
    // A name that leads out of the tree, as far as the tree knows.
    fs::write(at.join("gone"), "gone")?;
    fs::hard_link(at.join("gone"), at.join("left"))?;
    Ok(fs::remove_file(at.join("gone"))?)
}

fn twins(at: &Path, rng: &mut Rng) -> Result<()> {
    let seconds = i64::try_from(rng.below(1_700_000_000))?;
    for dir in ["one", "two"] {
        let dir = at.join(dir);
        fs::create_dir_all(&dir)?;
        for name in ["a", "c"] {
            fs::write(dir.join(name), rng.bytes(100))?;
            fs::hard_link(dir.join(name), dir.join(format!("{name} too")))?;
            posix::set_mtime(&dir.join(name), seconds, 7)?;
        }
    }
    Ok(())
}

fn nodes(at: &Path) -> Result<()> {
    fs::create_dir(at)?;
    for (name, kind, major, minor) in [
        ("fifo", FileType::Fifo, 0, 0),
        ("socket", FileType::Socket, 0, 0),
        ("null", FileType::CharacterDevice, 1, 3),
        ("whiteout", FileType::CharacterDevice, 0, 0),
        ("block", FileType::BlockDevice, 7, 200),
    ] {
        tolerated(posix::make_node(&at.join(name), kind, major, minor))?;
    }
    fs::create_dir(at.join("link to nothing's dir"))?;
    Ok(symlink("nothing", at.join("link to nothing"))?)
}

fn sparse(at: &Path, rng: &mut Rng) -> Result<()> {
    fs::create_dir(at)?;
    let file = File::create(at.join("holes"))?;
    file.set_len(9 << 20)?;
    file.write_all_at(&rng.bytes(10_000), rng.below(8 << 20))?;
    File::create(at.join("a hole"))?.set_len(3 << 20)?;
    fs::write(at.join("zeros"), vec![0; 300_000])?;
    let file = File::create(at.join("beyond"))?;
    file.write_all_at(&rng.bytes(5000), 0)?;
    let keep = FallocateFlags::KEEP_SIZE;
    tolerated(rustix::fs::fallocate(&file, keep, 0, 2 << 20).map_err(Error::from))?;
    let file = File::create(at.join("reserved"))?;
    let all = FallocateFlags::empty();
    tolerated(rustix::fs::fallocate(&file, all, 0, 1 << 20).map_err(Error::from))
}

fn attributes(at: &Path, rng: &mut Rng) -> Result<()> {
    fs::create_dir(at)?;
    fs::write(at.join("file"), "file")?;
    fs::create_dir(at.join("directory"))?;
    symlink("file", at.join("link"))?;
    fs::write(at.join("capable"), "capable")?;
    let set = |name: &str, attribute: &str, value: &[u8]| {
        tolerated(posix::set_xattr(&at.join(name), attribute, value).map(drop))
    };
    for name in ["file", "directory"] {
        set(name, "user.plain", &rng.bytes(50))?;
        set(name, "security.NTACL", &rng.bytes(80))?;
        set(name, "trusted.gfid", &rng.bytes(16))?;
        set(name, "system.posix_acl_access", &posix::acl(1234, 7))?;
    }
    set(
        "directory",
        "system.posix_acl_default",
        &posix::acl(4321, 5),
    )?;
    set("directory", "trusted.overlay.opaque", b"y")?;
    set("link", "trusted.of.a.link", b"value")?;
    set("link", "security.of.a.link", b"value")?;
    posix::set_mode(&at.join("capable"), 0o4755)?;
    set(
        "capable",
        "security.capability",
        &posix::capability(1 << 10),
    )?;
    if rng.chance(30) {
        set("file", "user.large", &rng.bytes(3000))?;
    }
    fs::write(at.join("directory/inherits"), "x")?;
    Ok(())
}

fn flags(at: &Path) -> Result<()> {
    fs::create_dir(at)?;
    for (name, flag) in [
        ("immutable", IFlags::IMMUTABLE),
        ("append", IFlags::APPEND),
        ("nocow", IFlags::NOCOW),
    ] {
        let file = File::create(at.join(name))?;
        tolerated(add(&file, flag))?;
        file.write_all_at(name.as_bytes(), 0)?;
    }
    fs::create_dir(at.join("directory"))?;
    fs::write(at.join("directory/file"), "file")?;
    add(&File::open(at.join("directory"))?, IFlags::IMMUTABLE)
}

fn add(file: &File, flag: IFlags) -> Result<()> {
    Ok(ioctl_setflags(file, ioctl_getflags(file)? | flag)?)
}

/// Takes the flags away that keep a tree from being changed and removed.
pub(super) fn thaw(root: &Path) -> Result<()> {
    for path in seen::paths(root)? {
        let at = seen::under(root, &path);
        let Ok(meta) = at.symlink_metadata() else {
            continue;
        };
        if (meta.is_file() || meta.is_dir())
            && let Ok(file) = File::open(&at)
            && let Ok(flags) = ioctl_getflags(&file)
            && flags.intersects(IFlags::IMMUTABLE | IFlags::APPEND)
        {
            ioctl_setflags(&file, flags - IFlags::IMMUTABLE - IFlags::APPEND)?;
        }
    }
    Ok(())
}

fn times(at: &Path) -> Result<()> {
    fs::create_dir(at)?;
    for seconds in [
        -1,
        -1_000_000_000,
        2_147_483_648,
        4_000_000_000,
        10_000_000_000,
    ] {
        let file = at.join(seconds.to_string());
        fs::write(&file, "time")?;
        posix::set_mtime(&file, seconds, 123_456_789)?;
    }
    Ok(())
}

fn modes(at: &Path) -> Result<()> {
    fs::create_dir(at)?;
    for mode in [0, 0o200, 0o444, 0o6711] {
        let file = at.join(format!("{mode:o}"));
        fs::write(&file, "mode")?;
        posix::set_mode(&file, mode)?;
    }
    for mode in [0, 0o555, 0o3777] {
        let dir = at.join(format!("directory {mode:o}"));
        fs::create_dir(&dir)?;
        fs::write(dir.join("inside"), "inside")?;
        posix::set_mode(&dir, mode)?;
    }
    Ok(())
}

/// What a file system check leaves.
pub(super) fn lost_found(at: &Path, rng: &mut Rng) -> Result<()> {
    if !at.is_dir() {
        fs::create_dir(at)?;
    }
    fs::write(at.join(format!("#{}", rng.below(100_000))), rng.bytes(500))?;
    let dir = at.join(format!("#{} dir", rng.below(100_000)));
    fs::create_dir(&dir)?;
    Ok(fs::write(dir.join("rescued"), "rescued")?)
}

fn subvolume(at: &Path, rng: &mut Rng) -> Result<()> {
    if !btrfs(&["create"], &[at])? {
        fs::create_dir(at)?;
    }
    random::make(at, 6, rng)?;
    twins(&at.join("twins"), rng)
}

fn snapshot(root: &Path, at: &Path, rng: &mut Rng) -> Result<()> {
    // The root of each subvolume has this number.
    const SUBVOLUME: u64 = 256;
    let subvolume = pick(root, rng, |meta| meta.is_dir() && meta.ino() == SUBVOLUME)?;
    if let Some(subvolume) = subvolume
        && btrfs(&["snapshot"], &[&subvolume, at])?
    {
        // The same inode numbers as in what it was taken of.
        fs::write(at.join("since"), "since")?;
        if let Some(file) = pick(at, rng, fs::Metadata::is_file)? {
            fs::write(file, "changed in the snapshot")?;
        }
    }
    Ok(())
}

/// Whether the subvolume was made.
fn btrfs(action: &[&str], paths: &[&Path]) -> Result<bool> {
    let made = Command::new("btrfs")
        .arg("subvolume")
        .args(action)
        .args(paths)
        .output();
    let Ok(made) = made else { return Ok(false) };
    ensure!(made.status.code().is_some(), "btrfs was killed");
    Ok(made.status.success())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{require, scratch::Scratch, skip};

    #[test]
    fn each_growth_makes_something() -> Result<()> {
        require!(skip::root());
        let scratch = Scratch::new()?;
        for growth in Growth::ALL {
            let root = scratch.dir(&format!("{growth:?}"))?;
            fs::write(root.join("anchor"), "anchor")?;
            let before = seen::tree(&root)?;
            grow(&root, growth, &mut Rng::new(1))?;
            let made = seen::tree(&root)? != before;
            // There is no subvolume to take one of.
            assert_eq!(made, growth != Growth::Snapshot, "{growth:?}");
            thaw(&root)?;
        }
        Ok(())
    }
}
