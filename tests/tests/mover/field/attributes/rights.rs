//! Movers that may not see or not set all attributes.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail, ensure};
use livmig_proto::{
    control::{PassKind, PassReport, Reason, RequestBody, ResponseBody, Side, VerifyLevel},
    ids::Epoch,
};
use livmig_tests::{
    bins, compare,
    control::{Keys, Mover},
    mounts::{self, Mount},
    pair::{pass_to, report},
    require,
    run::{Finished, LIMIT, run},
    scratch::Scratch,
    skip,
};
use rustix::process::Signal;

use super::{
    super::{expect_nothing_left_out, left_out, listed},
    EXT4, get, set, text, tree,
};
use crate::{
    aged::age,
    sync::{expect_copied, sync},
};

/// Runs what follows as root without the right to see or set what is the system's.
const WITHOUT_ADMIN: [&str; 6] = [
    "setpriv",
    "--bounding-set",
    "-sys_admin",
    "--inh-caps",
    "-sys_admin",
    "--",
];

/// As [`try_sync`], by a mover without `CAP_SYS_ADMIN`.
fn try_sync_without_admin(a: &Path, b: &Path, flags: &[&str]) -> Result<Finished> {
    let [first, others @ ..] = WITHOUT_ADMIN;
    run(Command::new(first)
        .args(others)
        .arg(bins::path("livmig-mover")?)
        .arg("sync")
        .args([a, b])
        .arg("--json")
        .args(flags))
}

/// Without the right to look nobody knows what is there: that is said, and nothing of it is touched.
#[test]
fn a_mover_that_may_not_list_what_is_the_systems_says_so() -> Result<()> {
    require!(skip::root());
    require!(skip::program("setpriv"));
    let scratch = Scratch::new()?;
    let (a, b) = (scratch.dir("a")?, scratch.dir("b")?);
    for dir in [&a, &b] {
        fs::write(dir.join("file"), "file")?;
        set(&dir.join("file"), "trusted.hidden", b"hidden")?;
    }
    let finished = try_sync_without_admin(&a, &b, &[])?.expect(0)?;
    let left = listed(&finished, Reason::AttributesUnseen)?;
    let told: Vec<_> = left.iter().map(|l| (&*l.path, &*l.detail)).collect();
    let [(".", "at the source"), (".", destination)] = told[..] else {
        bail!("{told:?}")
    };
    ensure!(destination.starts_with("at the destination"), "{told:?}");
    ensure!(get(&b.join("file"), "trusted.hidden").is_some());
    compare::expect_equal(&a, &b)?;

    // What can be listed and not be set is named, and stays where the destination has it.
    let (c, d) = (scratch.dir("c")?, scratch.dir("d")?);
    for dir in [&a, &c] {
        set(
            &dir.join(if dir == &a { "file" } else { "" }),
            "security.NTACL",
            b"list",
        )?;
    }
    symlink("nowhere", a.join("link"))?;
    set(&a.join("link"), "security.NTACL", b"list")?;
    sync(&a, &c, &[])?;
    for b in [&c, &d] {
        let finished = try_sync_without_admin(&a, b, &[])?.expect(1)?;
        let left = left_out(&finished, Reason::AttributesUnsupported)?;
        ensure!(left == ["file", "link"], "{left:?}");
        let consent = ["--leave-out", "attributes-unsupported"];
        try_sync_without_admin(&a, b, &consent)?.expect(0)?;
    }
    compare::expect_equal(&a, &c)?;
    ensure!(get(&d.join("link"), "security.NTACL").is_none());

    // With the right, everything is as it should be again.
    sync(&a, &d, &[])?;
    compare::expect_equal(&a, &d)
}

/// Where the file system keeps no attributes nobody has missed any.
#[test]
fn what_cannot_have_attributes_is_not_said_to_hide_them() -> Result<()> {
    require!(skip::root());
    require!(skip::program("setpriv"));
    let scratch = Scratch::new()?;
    let ramfs = Mount::ramfs(scratch.path(), "ramfs")?;
    let (a, b) = (ramfs.dir("a")?, scratch.dir("b")?);
    fs::write(a.join("file"), "file")?;
    let finished = try_sync_without_admin(&a, &b, &[])?.expect(0)?;
    expect_nothing_left_out(&finished)
}

/// What is remembered counts for the rights that it was made with.
#[test]
fn a_mover_that_gains_the_right_carries_what_it_had_left_out() -> Result<()> {
    require!(mounts::available("mkfs.ext4"));
    require!(skip::program("setpriv"));
    let scratch = Scratch::new()?;
    let ext4 = Mount::ext4(scratch.path(), "ext4", EXT4, &[])?;
    let (a, b, state) = (ext4.dir("a")?, scratch.dir("b")?, scratch.dir("state")?);
    tree(&a)?;
    age();
    let flags = ["--state", text(&state)?];
    let consent = ["--leave-out", "attributes-unsupported"];
    for _ in 0..2 {
        let flags = [&flags[..], &consent[..]].concat();
        try_sync_without_admin(&a, &b, &flags)?.expect(0)?;
    }
    sync(&a, &b, &flags)?;
    expect_copied(&a, &b)?;
    // And without it again they stay.
    let flags = [&flags[..], &consent[..]].concat();
    try_sync_without_admin(&a, &b, &flags)?.expect(0)?;
    for name in ["", "dir", "dir/large", "file", "link", "whiteout"] {
        ensure!(get(&b.join(name), "trusted.gfid").is_some(), "{name}");
        ensure!(get(&b.join(name), "security.NTACL").is_some(), "{name}");
    }
    Ok(())
}

/// Movers with different rights, as in pods of two clusters.
struct Unequal {
    a: PathBuf,
    b: PathBuf,
    keys: Keys,
    source: Mover,
    destination: Mover,
    scratch: Scratch,
}

impl Unequal {
    fn start(may_not: Side) -> Result<Self> {
        let scratch = Scratch::new()?;
        let (a, b) = (scratch.dir("a")?, scratch.dir("b")?);
        tree(&a)?;
        let keys = Keys::generate(1)?;
        let start = |side: Side, root: &Path| {
            let dir = scratch.path();
            if side == may_not {
                Mover::start_within(&WITHOUT_ADMIN, side, root, dir, &keys)
            } else {
                Mover::start(side, root, dir, &keys)
            }
        };
        let (source, destination) = (start(Side::Source, &a)?, start(Side::Destination, &b)?);
        Ok(Self {
            a,
            b,
            keys,
            source,
            destination,
            scratch,
        })
    }

    fn pass(&self, number: u32, kind: PassKind) -> Result<PassReport> {
        let mut client = self.source.connect(&self.keys.coordinator, Epoch(1))?;
        let report = report(client.ask(pass_to(self.destination.data()?, number, kind))?)?;
        ensure!(report.complete, "{report:?}");
        ensure!(report.digest_source == report.digest_destination);
        Ok(report)
    }

    /// The mover at `side` dies; another comes in its place, with all rights.
    fn replace(mut self, side: Side) -> Result<Self> {
        let (dir, keys) = (self.scratch.path(), &self.keys);
        match side {
            Side::Source => {
                self.source.process.signal(Signal::KILL)?;
                self.source.process.wait(LIMIT)?;
                self.source = Mover::start(side, &self.a, dir, keys)?;
            }
            Side::Destination => {
                self.destination.process.signal(Signal::KILL)?;
                self.destination.process.wait(LIMIT)?;
                self.destination = Mover::start(side, &self.b, dir, keys)?;
            }
        }
        Ok(self)
    }

    /// Fails unless both movers read the same, all of it once more.
    fn expect_one_manifest(&self) -> Result<()> {
        let digest = |mover: &Mover| {
            let mut client = mover.connect(&self.keys.coordinator, Epoch(1))?;
            let level = VerifyLevel::Full;
            match client.ask(RequestBody::Manifest { level })? {
                ResponseBody::Manifest(manifest) => Ok(manifest.digest),
                other => bail!("{other:?}"),
            }
        };
        let [source, destination] = [digest(&self.source)?, digest(&self.destination)?];
        ensure!(source == destination, "{source} is not {destination}");
        Ok(())
    }
}

/// Why attributes were left out. Links that are read have their access times moved besides.
fn reasons(report: &PassReport) -> Vec<Reason> {
    let all = report.left_out.iter().map(|left| left.reason);
    all.filter(|reason| *reason != Reason::AccessTimes)
        .collect()
}

#[test]
fn a_destination_without_the_right_has_it_named_by_the_source() -> Result<()> {
    require!(skip::root());
    require!(skip::program("setpriv"));
    let pair = Unequal::start(Side::Destination)?;
    for (number, kind) in [(1, PassKind::Live), (2, PassKind::Final)] {
        let report = pair.pass(number, kind)?;
        let told = reasons(&report);
        ensure!(told == [Reason::AttributesUnsupported], "{report:?}");
        // Each entry has three, and one has a signature too.
        let total = report.left_out.first().map(|left| left.total);
        ensure!(total == Some(9 * 3 + 1), "{total:?}");
        pair.expect_one_manifest()?;
    }
    ensure!(get(&pair.b.join("dir/large"), "user.DOSATTRIB").is_some());
    ensure!(get(&pair.b.join("dir/large"), "security.capability").is_some());
    Ok(())
}

#[test]
fn a_source_without_the_right_says_so_and_carries_what_it_sees() -> Result<()> {
    require!(skip::root());
    require!(skip::program("setpriv"));
    let pair = Unequal::start(Side::Source)?;
    for (number, kind) in [(1, PassKind::Live), (2, PassKind::Final)] {
        let report = pair.pass(number, kind)?;
        let told = reasons(&report);
        ensure!(told == [Reason::AttributesUnseen], "{report:?}");
        pair.expect_one_manifest()?;
    }
    for name in ["", "dir", "link", "whiteout"] {
        ensure!(
            get(&pair.b.join(name), "security.NTACL").is_some(),
            "{name}"
        );
        ensure!(get(&pair.b.join(name), "trusted.gfid").is_none(), "{name}");
    }
    ensure!(get(&pair.a.join("link"), "trusted.gfid").is_some());
    Ok(())
}

/// The other end goes on as it was: what both of them know was proven by other rights.
#[test]
fn a_mover_with_more_rights_than_its_predecessor_carries_the_rest() -> Result<()> {
    require!(skip::root());
    require!(skip::program("setpriv"));
    for side in [Side::Source, Side::Destination] {
        let pair = Unequal::start(side)?;
        pair.pass(1, PassKind::Live)?;
        let pair = pair.replace(side)?;
        let report = pair.pass(2, PassKind::Final)?;
        ensure!(reasons(&report).is_empty(), "{report:?}");
        compare::expect_equal(&pair.a, &pair.b)?;
        pair.expect_one_manifest()?;
    }
    Ok(())
}
