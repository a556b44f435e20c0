//! Extended attributes: carried, exempt, or left out by name.

mod rights;

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use livmig_proto::control::Reason;
use livmig_tests::{
    bins, compare,
    mounts::{self, Mount},
    odd::{self, OddFs, Oddity},
    require,
    rng::Rng,
    run::run,
    scratch::Scratch,
    skip,
    tree::posix,
};
use rustix::fs::FileType;

use super::{expect_nothing_left_out, left_out, listed};
use crate::{
    aged::age,
    sync::{digest, expect_copied, sync, try_sync},
};

const EXT4: u64 = 64 << 20;
const XFS: u64 = 320 << 20;
const BTRFS: u64 = 256 << 20;

fn set(path: &Path, name: &str, value: &[u8]) -> Result<()> {
    ensure!(
        posix::set_xattr(path, name, value)?,
        "{}: no attributes here",
        path.display()
    );
    Ok(())
}

/// The value of attribute `name` of the entry itself.
fn get(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 65_536];
    let len = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(len);
    Some(value)
}

/// Entries of every kind, the root among them, with attributes that root alone may set. Their paths.
fn tree(root: &Path) -> Result<Vec<PathBuf>> {
    fs::create_dir(root.join("dir"))?;
    fs::write(root.join("file"), "file")?;
    fs::write(root.join("dir/large"), Rng::new(7).bytes(300_000))?;
    fs::hard_link(root.join("file"), root.join("dir/linked"))?;
    symlink("nowhere", root.join("link"))?;
    symlink("elsewhere", root.join("dir/link"))?;
    fs::hard_link(root.join("dir/link"), root.join("linked link"))?;
    posix::make_node(&root.join("fifo"), FileType::Fifo, 0, 0)?;
    posix::make_node(&root.join("socket"), FileType::Socket, 0, 0)?;
    posix::make_node(&root.join("whiteout"), FileType::CharacterDevice, 0, 0)?;
    let names = [
        "",
        "dir",
        "file",
        "dir/large",
        "link",
        "dir/link",
        "fifo",
        "socket",
        "whiteout",
    ];
    let paths: Vec<PathBuf> = names.iter().map(|name| root.join(name)).collect();
    for path in &paths {
        set(path, "trusted.gfid", b"0123456789abcdef")?;
        set(path, "trusted.overlay.opaque", b"y")?;
        set(path, "security.NTACL", b"\x04\0\x04\0\0\0\x02\0")?;
    }
    let capable = root.join("dir/large");
    set(&capable, "user.DOSATTRIB", b"0x20")?;
    set(&capable, "security.ima", b"\x04\x04signed")?;
    set(&capable, "security.capability", &posix::capability(1 << 10))?;
    set(
        &root.join("dir"),
        "system.posix_acl_default",
        &posix::acl(5, 6),
    )?;
    Ok(paths)
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is text")
}

/// Between file systems that keep them, in first copies and in later ones, added, changed and removed.
#[test]
fn what_root_may_set_is_carried_for_every_kind_of_entry() -> Result<()> {
    require!(mounts::available("mkfs.ext4"));
    require!(mounts::available("mkfs.xfs"));
    require!(mounts::available("mkfs.btrfs"));
    let scratch = Scratch::new()?;
    let dir = scratch.path();
    let ext4 = Mount::ext4(dir, "ext4", EXT4, &[])?;
    let xfs = Mount::xfs(dir, "xfs", XFS)?;
    let btrfs = Mount::btrfs(dir, "btrfs", BTRFS)?;
    let a = ext4.dir("a")?;
    let paths = tree(&a)?;
    for (number, b) in [xfs.dir("b")?, btrfs.dir("b")?, ext4.dir("b")?]
        .iter()
        .enumerate()
    {
        let state = scratch.dir(&format!("state{number}"))?;
        let flags = ["--state", text(&state)?];
        for round in 0..3_u8 {
            for (place, path) in paths.iter().enumerate() {
                match (place + usize::from(round)) % 3 {
                    0 => set(path, "trusted.gfid", &[round; 16])?,
                    1 => set(path, "security.more", &[round])?,
                    _ => drop(rustix::fs::lremovexattr(path, "security.more")),
                }
            }
            let finished = try_sync(&a, b, &flags)?.expect(0)?;
            expect_nothing_left_out(&finished)?;
            // On xfs rsync sees the lists a second time.
            if b.starts_with(xfs.path()) {
                compare::expect_equal(&a, b)?;
            } else {
                expect_copied(&a, b)?;
            }
        }
        ensure!(digest(&a)? == digest(b)?);
        sync(&a, b, &["--verify", "full"])?;
    }
    Ok(())
}

/// What a container sees of the layers in `root`, through an overlay at the new directory `name`.
fn seen_through_overlay(dir: &Path, name: &str, root: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let overlay = Mount::overlay(dir, name, &root.join("lower"), &root.join("upper"))?;
    let mut seen = Vec::new();
    let mut open = vec![overlay.path().to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else {
                let content = fs::read(&path)?;
                seen.push((path.strip_prefix(overlay.path())?.to_owned(), content));
            }
        }
    }
    seen.sort_unstable();
    Ok(seen)
}

/// Whiteouts, opaque directories and redirects decide what is seen.
#[test]
fn the_layers_of_a_container_show_the_same_at_the_destination() -> Result<()> {
    require!(mounts::available("mkfs.ext4"));
    require!(mounts::available("mkfs.xfs"));
    let scratch = Scratch::new()?;
    let dir = scratch.path();
    let (ext4, xfs) = (
        Mount::ext4(dir, "ext4", EXT4, &[])?,
        Mount::xfs(dir, "xfs", XFS)?,
    );
    let (a, b) = (ext4.dir("a")?, xfs.dir("b")?);
    for dir in ["lower/replaced", "lower/renamed", "upper"] {
        fs::create_dir_all(a.join(dir))?;
    }
    for file in ["replaced/hidden", "renamed/kept", "deleted"] {
        fs::write(a.join("lower").join(file), file)?;
    }
    {
        let overlay = Mount::overlay(dir, "made", &a.join("lower"), &a.join("upper"))?;
        let at = |name: &str| overlay.path().join(name);
        fs::remove_dir_all(at("replaced"))?;
        fs::create_dir(at("replaced"))?;
        fs::write(at("replaced/new"), "new")?;
        fs::remove_file(at("deleted"))?;
        fs::rename(at("renamed"), at("moved"))?;
    }
    let opaque = get(&a.join("upper/replaced"), "trusted.overlay.opaque");
    ensure!(opaque.as_deref() == Some(b"y"), "{opaque:?}");
    sync(&a, &b, &[])?;
    compare::expect_equal(&a, &b)?;
    let seen = seen_through_overlay(dir, "at a", &a)?;
    let paths: Vec<_> = seen.iter().map(|(path, _)| path.as_path()).collect();
    ensure!(paths == [Path::new("moved/kept"), Path::new("replaced/new")]);
    ensure!(seen_through_overlay(dir, "at b", &b)? == seen);
    Ok(())
}

/// Gives `file` an access list, and `dir` one for what will be made in it.
fn set_lists(root: &Path) -> Result<()> {
    set(
        &root.join("file"),
        "system.posix_acl_access",
        &posix::acl(5, 4),
    )?;
    set(
        &root.join("dir"),
        "system.posix_acl_default",
        &posix::acl(6, 5),
    )
}

/// xfs shows an access control list a second time, which is no attribute to carry, and elsewhere one.
#[test]
fn the_second_face_of_a_list_is_spared_on_xfs_alone() -> Result<()> {
    require!(mounts::available("mkfs.ext4"));
    require!(mounts::available("mkfs.xfs"));
    let scratch = Scratch::new()?;
    let dir = scratch.path();
    let (ext4, xfs) = (
        Mount::ext4(dir, "ext4", EXT4, &[])?,
        Mount::xfs(dir, "xfs", XFS)?,
    );
    let (a, b, c) = (xfs.dir("a")?, ext4.dir("b")?, xfs.dir("c")?);
    fs::write(a.join("file"), "file")?;
    fs::create_dir(a.join("dir"))?;
    set_lists(&a)?;
    let twin = get(&a.join("file"), "trusted.SGI_ACL_FILE").context("not shown twice")?;
    // As a copy that took it for an attribute has left it.
    fs::write(b.join("file"), "file")?;
    set(&b.join("file"), "trusted.SGI_ACL_FILE", &twin)?;
    for b in [&b, &c] {
        let finished = try_sync(&a, b, &[])?.expect(0)?;
        expect_nothing_left_out(&finished)?;
        compare::expect_equal(&a, b)?;
    }
    ensure!(get(&b.join("file"), "trusted.SGI_ACL_FILE").is_none());

    // Of ext4 it is an attribute, which xfs would take for a list.
    set(&b.join("file"), "trusted.SGI_ACL_DEFAULT", &twin)?;
    let ext4 = ext4.dir("d")?;
    sync(&b, &ext4, &[])?;
    compare::expect_equal(&b, &ext4)?;
    let finished = try_sync(&b, &c, &[])?.expect(1)?;
    let left = listed(&finished, Reason::AttributesUnsupported)?;
    let names: Vec<_> = left.iter().map(|l| (&*l.path, &*l.detail)).collect();
    ensure!(names == [("file", "trusted.SGI_ACL_DEFAULT")], "{names:?}");
    Ok(())
}

/// What lies on top of xfs shows the same twice; that a program sets two times or none is no fault.
#[test]
fn xfs_below_a_program_in_user_space_at_either_end() -> Result<()> {
    require!(mounts::available("mkfs.xfs"));
    require!(skip::program("bindfs"));
    let scratch = Scratch::new()?;
    let xfs = Mount::xfs(scratch.path(), "xfs", XFS)?;
    let (a, b) = (scratch.dir("a")?, scratch.dir("b")?);
    let shown = Mount::bindfs(&xfs.dir("below")?, &scratch.dir("shown")?)?;
    let middle = shown.dir("middle")?;
    fs::create_dir(a.join("dir"))?;
    for name in ["file", "dir/file"] {
        fs::write(a.join(name), name)?;
        set(&a.join(name), "trusted.gfid", b"0123456789abcdef")?;
    }
    symlink("nowhere", a.join("link"))?;
    set(&a.join("link"), "security.NTACL", b"list")?;
    set_lists(&a)?;
    for (from, to) in [(&a, &middle), (&middle, &b)] {
        let finished = try_sync(from, to, &[])?.expect(0)?;
        expect_nothing_left_out(&finished)?;
        compare::expect_equal(from, to)?;
    }
    compare::expect_equal(&a, &b)
}

/// As of the paths that [`tree`] gives.
fn sorted(paths: &[&str]) -> Vec<String> {
    let mut paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
    paths.sort_unstable();
    paths
}

/// Left out of every kind of entry by name, also of those that a later pass does not look at again.
#[test]
fn what_the_destination_cannot_store_is_named_in_every_pass() -> Result<()> {
    require!(mounts::available("mkfs.ext4"));
    let scratch = Scratch::new()?;
    let ext4 = Mount::ext4(scratch.path(), "ext4", EXT4, &[])?;
    let ramfs = Mount::ramfs(scratch.path(), "ramfs")?;
    let (a, b, state) = (ext4.dir("a")?, ramfs.dir("b")?, scratch.dir("state")?);
    tree(&a)?;
    let named = sorted(&[
        ".",
        "dir",
        "dir/large",
        "dir/link",
        "fifo",
        "file",
        "link",
        "socket",
        "whiteout",
    ]);
    age();
    let flags = ["--state", text(&state)?];
    for _ in 0..3 {
        let finished = try_sync(&a, &b, &flags)?.expect(1)?;
        let mut left = left_out(&finished, Reason::AttributesUnsupported)?;
        // A group is named by one of its names, an entry once for each attribute.
        for path in &mut left {
            match path.as_str() {
                "linked link" => "dir/link".clone_into(path),
                "dir/linked" => "file".clone_into(path),
                _ => {}
            }
        }
        left.sort_unstable();
        left.dedup();
        ensure!(left == named, "{left:?}");
        ensure!(
            finished
                .json()?
                .get("complete")
                .is_some_and(|is| is == true)
        );
    }
    let consent = ["--leave-out", "attributes-unsupported"];
    try_sync(&a, &b, &[&flags[..], &consent[..]].concat())?.expect(0)?;
    try_sync(&a, &b, &[&["--verify", "full"], &consent[..]].concat())?.expect(0)?;
    Ok(())
}

#[test]
fn attributes_that_are_listed_and_refused_are_named() -> Result<()> {
    require!(odd::available());
    let scratch = Scratch::new()?;
    let (a, b, at) = (scratch.dir("a")?, scratch.dir("b")?, scratch.dir("at")?);
    for name in ["open", "closed"] {
        fs::write(a.join(name), name)?;
        set(&a.join(name), "user.note", name.as_bytes())?;
    }
    let odd = OddFs::mount(&a, &at, Oddity::AttributesRefused, "closed")?;
    let finished = try_sync(odd.path(), &b, &[])?.expect(1)?;
    let left = listed(&finished, Reason::AttributesUnreadable)?;
    let names: Vec<_> = left.iter().map(|l| (&*l.path, &*l.detail)).collect();
    ensure!(names == [("closed", "user.note")], "{names:?}");
    ensure!(get(&b.join("open"), "user.note").as_deref() == Some(&b"open"[..]));
    let consent = ["--leave-out", "attributes-unreadable"];
    try_sync(odd.path(), &b, &consent)?.expect(0)?;
    for (name, files) in [("open", &b), ("closed", &b)] {
        ensure!(fs::read(files.join(name))? == name.as_bytes());
    }
    Ok(())
}

/// A tree that is taken over loses the attributes that the source has not.
#[test]
fn attributes_of_an_older_copy_are_removed() -> Result<()> {
    require!(skip::root());
    let scratch = Scratch::new()?;
    let (a, b) = (scratch.dir("a")?, scratch.dir("b")?);
    tree(&b)?;
    sync(&b, &a, &[])?;
    for name in ["", "dir", "file", "link", "fifo", "whiteout"] {
        let path = a.join(name);
        for attribute in ["trusted.gfid", "security.NTACL"] {
            rustix::fs::lremovexattr(&path, attribute)?;
        }
    }
    sync(&a, &b, &[])?;
    compare::expect_equal(&a, &b)
}

/// A kubelet labels what it mounts; a host has its labels carried.
#[test]
fn labels_are_carried_but_in_a_pod() -> Result<()> {
    require!(skip::root());
    let scratch = Scratch::new()?;
    let (a, b, c) = (scratch.dir("a")?, scratch.dir("b")?, scratch.dir("c")?);
    for name in ["file", "other"] {
        fs::write(a.join(name), name)?;
    }
    let label = b"system_u:object_r:container_file_t:s0:c1,c2\0";
    if posix::set_xattr(&a.join("file"), "security.selinux", label).is_err() {
        livmig_tests::skip_part!("a security module gives the labels of this machine");
        return Ok(());
    }
    let finished = try_sync(&a, &b, &[])?.expect(0)?;
    expect_nothing_left_out(&finished)?;
    expect_copied(&a, &b)?;

    let mut mover = bins::mover()?;
    mover.arg("sync").args([&a, &c]).arg("--json");
    let finished = run(mover.env("KUBERNETES_SERVICE_HOST", "10.0.0.1"))?.expect(0)?;
    ensure!(left_out(&finished, Reason::Labels)? == ["file"]);
    ensure!(get(&c.join("file"), "security.selinux").is_none());
    Ok(())
}

/// As much as xfs holds and a frame takes; what the kernel cannot list is named, and the rest carried.
#[test]
fn many_large_attributes_are_carried() -> Result<()> {
    require!(mounts::available("mkfs.xfs"));
    let scratch = Scratch::new()?;
    let xfs = Mount::xfs(scratch.path(), "xfs", XFS + (64 << 20))?;
    let (a, b) = (xfs.dir("a")?, xfs.dir("b")?);
    let mut rng = Rng::new(5);
    for name in ["large", "most", "dir", "many"] {
        let path = a.join(name);
        if name == "dir" {
            fs::create_dir(&path)?;
        } else {
            fs::write(&path, rng.bytes(100_000))?;
        }
        let (count, bytes) = match name {
            "large" | "dir" => (12, 60 << 10),
            "most" => (48, 65_500),
            _ => (3000, 1),
        };
        for number in 0..count {
            set(&path, &format!("user.{number:04}"), &rng.bytes(bytes))?;
        }
    }
    symlink("nowhere", a.join("link"))?;
    for number in 0..12 {
        set(
            &a.join("link"),
            &format!("trusted.{number}"),
            &rng.bytes(60 << 10),
        )?;
    }
    fs::hard_link(a.join("large"), a.join("dir/large"))?;
    for flags in [&[][..], &["--verify", "full"]] {
        sync(&a, &b, flags)?;
        compare::expect_equal(&a, &b)?;
    }

    fs::write(a.join("endless"), "endless")?;
    let long = "n".repeat(240);
    for number in 0..300 {
        set(&a.join("endless"), &format!("user.{long}{number}"), b"v")?;
    }
    fs::write(a.join("too much"), "too much")?;
    for number in 0..52 {
        set(
            &a.join("too much"),
            &format!("user.{number}"),
            &rng.bytes(65_500),
        )?;
    }
    fs::write(a.join("z"), "after them")?;
    let finished = try_sync(&a, &b, &[])?.expect(1)?;
    finished.says(&["64 KiB", ": endless", "3 MiB", ": too much"])?;
    ensure!(fs::read(b.join("z"))? == b"after them");
    fs::remove_file(a.join("endless"))?;
    fs::remove_file(a.join("too much"))?;
    sync(&a, &b, &[])?;
    compare::expect_equal(&a, &b)
}
