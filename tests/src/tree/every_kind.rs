//! A small tree with an entry of every kind that a file system knows.

use std::{
    ffi::OsStr,
    fs::{self, File},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileExt as _, lchown, symlink},
    },
    path::Path,
};

use anyhow::{Context as _, Result};
use rustix::fs::{FallocateFlags, FileType};
use walkdir::WalkDir;

use super::posix;
use crate::rng::Rng;

/// Makes the tree in the empty directory `root`. Returns what could not be made here and why,
/// a line each.
pub fn make(root: &Path) -> Result<Vec<String>> {
    let is_root = rustix::process::geteuid().is_root();
    let mut missing = Vec::new();
    let section = |name: &str| -> Result<std::path::PathBuf> {
        let path = root.join(name);
        fs::create_dir(&path)?;
        Ok(path)
    };
    contents(&section("contents")?)?;
    names(&section("names")?)?;
    symlinks(&section("symlinks")?)?;
    hard_links(root, &section("links 1")?, &section("links 2")?)?;
    nodes(&section("nodes")?)?;
    modes(&section("modes")?, is_root)?;
    many(&section("many")?)?;
    if !attributes(&section("attributes")?, is_root)? {
        missing.push("extended attributes: the file system keeps none".into());
    }
    if is_root {
        owners(&section("owners")?)?;
        devices(&section("devices")?)?;
    } else {
        missing.push("owners, devices, file capabilities, mode 0000: needs root".into());
    }
    posix::set_xattr(root, "user.root", b"the root itself")?;
    posix::set_mode(root, 0o2771)?;
    // Last, and deepest first: making an entry moves its directory's time.
    times(&section("times")?)?;
    directory_times(root)?;
    Ok(missing)
}

/// Files by content: empty, small, at block borders, large, sparse, written zeros, preallocated.
fn contents(dir: &Path) -> Result<()> {
    let mut rng = Rng::new(7);
    for size in [0, 1, 511, 4096, 8191, 8192, 8193, 65_536, 300_001, 40 << 20] {
        fs::write(dir.join(format!("{size} bytes")), rng.bytes(size))?;
    }
    fs::write(dir.join("zeros"), vec![0; 1 << 20])?;

    let sparse = File::create(dir.join("sparse"))?;
    sparse.set_len(64 << 20)?;
    for offset in [0, 1 << 20, (33 << 20) + 5] {
        sparse.write_all_at(&rng.bytes(10_000), offset)?;
    }
    File::create(dir.join("only a hole"))?.set_len(10 << 20)?;
    let tail = File::create(dir.join("hole, then a tail"))?;
    tail.write_all_at(b"tail", (4 << 20) - 3)?;

    let preallocated = File::create(dir.join("preallocated"))?;
    preallocated.write_all_at(b"head", 0)?;
    // Not every file system can; a plain file is a kind as well.
    let _ = rustix::fs::fallocate(&preallocated, FallocateFlags::empty(), 0, 1 << 20);
    let beyond = File::create(dir.join("preallocated beyond its end"))?;
    beyond.write_all_at(&rng.bytes(10_000), 0)?;
    let _ = rustix::fs::fallocate(&beyond, FallocateFlags::KEEP_SIZE, 0, 1 << 20);
    Ok(())
}

/// Names that scripts, terminals and decoders stumble over.
fn names(dir: &Path) -> Result<()> {
    let long = [b'n'; 255];
    let odd: [&[u8]; 28] = [
        b"new\nline",
        b"\n",
        b"\xff\xfe not UTF-8",
        b"half \xc3",
        b"-rf",
        b"--delete",
        b" ",
        b" space around ",
        b"dot.",
        b"...",
        b".hidden",
        b"*",
        b"?[a-z]{1,2}",
        b"back\\slash",
        b"tab\t",
        b"\x1b[31mred\x1b[0m",
        b"\x01\x7f",
        b"quote'\"",
        b"$HOME `id`",
        b"~",
        b"#1",
        "\u{e1}".as_bytes(),
        "a\u{301}".as_bytes(),
        "\u{1f980}".as_bytes(),
        b"case",
        b"CASE",
        b"a:b|c<d>",
        &long,
    ];
    for name in odd {
        let name = OsStr::from_bytes(name);
        fs::write(dir.join(name), name.as_bytes())
            .with_context(|| format!("making {}", name.as_bytes().escape_ascii()))?;
    }
    let as_directory = dir.join(OsStr::from_bytes(b"dir\n\xff"));
    fs::create_dir(&as_directory)?;
    fs::write(as_directory.join(OsStr::from_bytes(&long)), "x")?;
    fs::create_dir(dir.join("empty directory"))?;
    Ok(())
}

fn symlinks(dir: &Path) -> Result<()> {
    symlink("target", dir.join("relative"))?;
    symlink("no such entry", dir.join("dangling"))?;
    symlink("/etc/hostname", dir.join("absolute"))?;
    symlink("..", dir.join("upwards"))?;
    symlink("itself", dir.join("itself"))?;
    symlink(OsStr::from_bytes(b"odd\n\xff"), dir.join("odd"))?;
    fs::write(dir.join("target"), "target")?;
    // The longest that the system takes; xfs takes 1023.
    for length in [1023, 4095] {
        let target = "t/".repeat(length / 2) + "t";
        match symlink(&target, dir.join(format!("{length} bytes"))) {
            Ok(()) => posix::set_mtime(&dir.join(format!("{length} bytes")), 1_000_000_000, 1)?,
            Err(error) if error.raw_os_error() == Some(36) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Groups of names of one inode, across directories, of every kind that can be linked.
fn hard_links(root: &Path, one: &Path, two: &Path) -> Result<()> {
    fs::write(one.join("file"), "linked")?;
    fs::hard_link(one.join("file"), one.join("file again"))?;
    fs::hard_link(one.join("file"), two.join("file"))?;
    fs::hard_link(one.join("file"), root.join("file at the root"))?;
    fs::write(two.join("other"), "another group")?;
    fs::hard_link(two.join("other"), one.join("other"))?;
    symlink("file", one.join("symlink"))?;
    fs::hard_link(one.join("symlink"), two.join("symlink"))?;
    posix::make_node(&one.join("fifo"), FileType::Fifo, 0, 0)?;
    fs::hard_link(one.join("fifo"), two.join("fifo"))?;
    fs::write(two.join("large"), Rng::new(11).bytes(1 << 20))?;
    fs::hard_link(two.join("large"), one.join("a large"))?;
    Ok(())
}

fn nodes(dir: &Path) -> Result<()> {
    posix::make_node(&dir.join("fifo"), FileType::Fifo, 0, 0)?;
    posix::make_node(&dir.join("socket"), FileType::Socket, 0, 0)
}

fn devices(dir: &Path) -> Result<()> {
    posix::make_node(&dir.join("null"), FileType::CharacterDevice, 1, 3)?;
    posix::make_node(&dir.join("block"), FileType::BlockDevice, 7, 200)?;
    // xfs knows major numbers up to 511.
    posix::make_node(
        &dir.join("large numbers"),
        FileType::CharacterDevice,
        500,
        70_000,
    )
}

fn modes(dir: &Path, is_root: bool) -> Result<()> {
    for mode in [
        0o000, 0o111, 0o200, 0o400, 0o444, 0o600, 0o644, 0o666, 0o755, 0o777, 0o1644, 0o2755,
        0o4755, 0o6711,
    ] {
        // Its owner must be able to read what is to be copied.
        if mode & 0o400 == 0 && !is_root {
            continue;
        }
        let file = dir.join(format!("file {mode:04o}"));
        fs::write(&file, "mode")?;
        posix::set_mode(&file, mode)?;
    }
    for mode in [
        0o000, 0o300, 0o500, 0o555, 0o700, 0o1777, 0o2750, 0o3777, 0o4755,
    ] {
        if mode & 0o500 != 0o500 && !is_root {
            continue;
        }
        let directory = dir.join(format!("directory {mode:04o}"));
        fs::create_dir(&directory)?;
        fs::write(directory.join("inside"), "inside")?;
        posix::set_mode(&directory, mode)?;
    }
    Ok(())
}

fn owners(dir: &Path) -> Result<()> {
    for (user, group) in [
        (0, 1000),
        (1000, 0),
        (65_534, 65_534),
        (3_000_000_000, 4_294_967_294),
    ] {
        let file = dir.join(format!("file {user} {group}"));
        fs::write(&file, "owned")?;
        lchown(&file, Some(user), Some(group))?;
        // After the owner: changing it clears these bits.
        posix::set_mode(&file, 0o6755)?;
        let directory = dir.join(format!("directory {user} {group}"));
        fs::create_dir(&directory)?;
        lchown(&directory, Some(user), Some(group))?;
        posix::set_mode(&directory, 0o2770)?;
        let link = dir.join(format!("symlink {user} {group}"));
        symlink("x", &link)?;
        lchown(&link, Some(user), Some(group))?;
    }
    Ok(())
}

/// Whether the file system keeps attributes.
fn attributes(dir: &Path, is_root: bool) -> Result<bool> {
    let file = dir.join("file");
    fs::write(&file, "attributes")?;
    if !posix::set_xattr(&file, "user.text", b"value")? {
        return Ok(false);
    }
    posix::set_xattr(&file, "user.empty", b"")?;
    posix::set_xattr(&file, "user.binary", &[0, 1, 255, b'\n', 0])?;
    posix::set_xattr(&file, b"user.odd \xff\n name", b"x")?;
    posix::set_xattr(
        &file,
        [b"user.".as_slice(), &[b'l'; 250]].concat(),
        b"long name",
    )?;
    let large = dir.join("large");
    fs::write(&large, "attributes")?;
    posix::set_xattr(&large, "user.large", &Rng::new(3).bytes(3000))?;

    let directory = dir.join("directory");
    fs::create_dir(&directory)?;
    posix::set_xattr(&directory, "user.of a directory", b"value")?;
    posix::set_xattr(&file, "system.posix_acl_access", &posix::acl(1234, 6))?;
    posix::set_xattr(&directory, "system.posix_acl_access", &posix::acl(1234, 7))?;
    posix::set_xattr(&directory, "system.posix_acl_default", &posix::acl(4321, 5))?;
    // What is made in there inherits, and what is copied must not inherit twice.
    fs::write(directory.join("inherits"), "x")?;
    fs::create_dir(directory.join("inherits too"))?;
    let plain = directory.join("inherits nothing");
    fs::write(&plain, "x")?;
    rustix::fs::lremovexattr(&plain, "system.posix_acl_access")?;
    if is_root {
        let capable = dir.join("capable");
        fs::write(&capable, "capable")?;
        lchown(&capable, Some(1000), Some(1000))?;
        posix::set_mode(&capable, 0o755)?;
        posix::set_xattr(&capable, "security.capability", &posix::capability(1 << 10))?;
    }
    Ok(true)
}

fn many(dir: &Path) -> Result<()> {
    for number in 0..2000 {
        fs::write(dir.join(format!("{number:05}")), number.to_string())?;
    }
    Ok(())
}

/// Nanoseconds, before 1970, after 2038.
fn times(dir: &Path) -> Result<()> {
    for (seconds, nanoseconds) in [
        (0, 0),
        (0, 1),
        (1_234_567_890, 123_456_789),
        (1_234_567_890, 999_999_999),
        (-1, 500_000_000),
        (-1_000_000_000, 1),
        (2_147_483_648, 7),
        (10_000_000_000, 42),
    ] {
        let file = dir.join(format!("{seconds}.{nanoseconds}"));
        fs::write(&file, "time")?;
        posix::set_mtime(&file, seconds, nanoseconds)?;
        let link = dir.join(format!("symlink {seconds}.{nanoseconds}"));
        symlink("x", &link)?;
        posix::set_mtime(&link, seconds, nanoseconds)?;
    }
    Ok(())
}

fn directory_times(root: &Path) -> Result<()> {
    let mut seconds = 1_500_000_000;
    for entry in WalkDir::new(root).contents_first(true) {
        // A directory that even its owner may not list is below every other.
        let Ok(entry) = entry else { continue };
        if entry.file_type().is_dir() {
            seconds += 1;
            posix::set_mtime(entry.path(), seconds, seconds % 1_000_000_007 % 999_999_999)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::{compare, require, rsync, scratch::Scratch, skip};

    /// The tree, the oracle and rsync hold each other in check: what rsync copies, the oracle
    /// must find equal, and rsync itself too.
    #[test]
    fn a_copy_by_rsync_is_equal() -> Result<()> {
        require!(skip::program("rsync"));
        let scratch = Scratch::new()?;
        let [a, b] = ["a", "b"].map(|name| scratch.dir(name));
        let (a, b) = (a?, b?);
        make(&a)?;
        let mut from = a.clone().into_os_string();
        from.push("/");
        let status = Command::new("rsync")
            .args(["-aHAXS", "--numeric-ids", "--modify-window=-1"])
            .args([from, b.clone().into_os_string()])
            .status()?;
        assert!(status.success());
        compare::expect_equal(&a, &b)?;
        assert_eq!(rsync::differences(&a, &b)?, "");
        Ok(())
    }
}
