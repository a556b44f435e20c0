//! A world laid out: directories, mounts, and the steps done to them.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{MetadataExt as _, symlink},
    },
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Error, Result};
use rustix::fs::FileType;

use super::{
    change,
    ground::Ground,
    grow, judge,
    plan::{Above, Inner, Kind, Prior, Step, World},
    seen::{self, Seen, Tree},
};
use crate::{
    mounts::Mount,
    odd::{OddFs, Oddity},
    rng::Rng,
    sys,
    tree::{posix, random},
};

/// Owners below this are shown by a mapped mount, as others.
const MAPPED: u32 = 30_000;

/// What they are shown as begins here.
const MAPPED_TO: u32 = 100_000;

/// The owner of what has none that can be said.
const NOBODY: u32 = u32::MAX;

/// Seconds by which the odd file system moves times that no disk can hold.
const FAR: i64 = 1 << 40;

/// What goes when a world does.
#[derive(Debug)]
enum Guard {
    Mount(#[allow(dead_code)] Mount),
    Odd(#[allow(dead_code)] OddFs),
    /// A mount that was made by no program.
    At(PathBuf),
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Self::At(at) = self {
            let _ = Command::new("umount").arg("--lazy").arg(at).status();
        }
    }
}

/// A world that is there. It goes when this is dropped.
#[derive(Debug)]
pub struct Laid<'g> {
    ground: &'g Ground,
    name: String,
    above: Above,
    is_above: bool,
    destination_kind: Kind,
    source_kind: Kind,
    /// The source's own tree.
    backing: PathBuf,
    /// The source as it is looked at.
    shown: PathBuf,
    destination: PathBuf,
    /// Beside the destination, on its disk.
    beside: PathBuf,
    /// Trees that a pass has no business with.
    kept: Vec<PathBuf>,
    /// Where something is mounted in the source.
    points: Vec<Vec<u8>>,
    victim: OsString,
    guards: Vec<Guard>,
    given: Vec<PathBuf>,
}

impl<'g> Laid<'g> {
    /// The places of `world`, with one file in its source. `name` is nobody else's.
    pub fn new(ground: &'g Ground, world: &World, name: &str) -> Result<Self> {
        let mut laid = Self {
            ground,
            name: name.to_owned(),
            above: world.above,
            is_above: false,
            destination_kind: world.destination,
            source_kind: world.source,
            backing: PathBuf::new(),
            shown: PathBuf::new(),
            destination: PathBuf::new(),
            beside: PathBuf::new(),
            kept: Vec::new(),
            points: Vec::new(),
            victim: OsString::new(),
            guards: Vec::new(),
            given: Vec::new(),
        };
        let source = laid.dir(world.source, "source")?;
        let destination = laid.dir(world.destination, "destination")?;
        let inside = |dir: &Path, kind: Kind| -> Result<PathBuf> {
            if kind == Kind::Ext4Root {
                return Ok(dir.to_owned());
            }
            let inside = dir.join("volume");
            fs::create_dir(&inside)?;
            Ok(inside)
        };
        laid.backing = inside(&source, world.source)?;
        laid.shown.clone_from(&laid.backing);
        laid.destination = inside(&destination, world.destination)?;
        laid.beside = destination;
        fs::write(laid.backing.join(grow::ANCHOR), "never empty")?;
        Ok(laid)
    }

    fn dir(&mut self, kind: Kind, part: &str) -> Result<PathBuf> {
        let (dir, mount) = self.ground.dir(kind, &format!("{} {part}", self.name))?;
        self.guards.extend(mount.map(Guard::Mount));
        self.given.push(dir.clone());
        Ok(dir)
    }

    /// The source, for the mover.
    pub fn source(&self) -> &Path {
        &self.shown
    }

    /// The destination.
    pub fn destination(&self) -> &Path {
        &self.destination
    }

    /// A new directory that is in no volume.
    pub fn own(&mut self, part: &str) -> Result<PathBuf> {
        self.dir(Kind::Tmpfs, part)
    }

    /// Where the source is written to.
    pub fn writable(&self) -> &Path {
        match self.above {
            Above::Mapped | Above::Odd(..) => &self.backing,
            _ => &self.shown,
        }
    }

    /// Trees that must be left alone.
    pub fn kept(&self) -> &[PathBuf] {
        &self.kept
    }

    /// Where something is mounted in the source.
    pub fn points(&self) -> &[Vec<u8>] {
        &self.points
    }

    /// Does `step`, unless it is a run.
    pub fn take(&mut self, step: Step, rng: &mut Rng) -> Result<()> {
        if !matches!(step, Step::Below(_)) {
            self.rise()?;
        }
        match step {
            Step::Below(growth) => grow::grow(&self.backing, growth, rng),
            Step::Through(growth) => grow::grow(self.writable(), growth, rng),
            Step::Mount(inner) => self.mount_in_source(inner, rng),
            Step::Prior(prior) => grow::tolerated(self.prior(prior, rng)),
            Step::Live { .. } => Ok(()),
        }
    }

    /// Mounts what lies above the source.
    pub fn rise(&mut self) -> Result<()> {
        if self.is_above || self.above == Above::Bare {
            return Ok(());
        }
        self.is_above = true;
        let at = self.dir(Kind::Tmpfs, "shown")?;
        let guard = match self.above {
            Above::Bare => return Ok(()),
            Above::Bind => Guard::Mount(Mount::bind(&self.backing, &at)?),
            Above::Mapped => {
                sys::mount_mapped(&self.backing, &at, MAPPED_TO, MAPPED)?;
                Guard::At(at.clone())
            }
            Above::Overlay(kind) => {
                let upper = if kind == self.source_kind {
                    self.backing.with_file_name("upper")
                } else {
                    self.dir(kind, "layers")?.join("upper")
                };
                fs::create_dir(&upper)?;
                let overlay = Mount::overlay(&at, "overlay", &self.backing, &upper)?;
                overlay.path().clone_into(&mut self.shown);
                self.guards.push(Guard::Mount(overlay));
                return Ok(());
            }
            Above::Odd(oddity, number) => {
                self.victim = self.victim_of(oddity, &mut Rng::new(number))?;
                Guard::Odd(OddFs::mount(&self.backing, &at, oddity, &self.victim)?)
            }
        };
        self.guards.push(guard);
        self.shown = at;
        Ok(())
    }

    /// The name of entries that are struck; none where all are.
    fn victim_of(&self, oddity: Oddity, rng: &mut Rng) -> Result<OsString> {
        let one = |meta: &fs::Metadata| meta.is_dir() || meta.nlink() == 1;
        let file = |meta: &fs::Metadata| meta.is_file() && meta.nlink() == 1;
        let picked = match oddity {
            Oddity::Stale
            | Oddity::Broken
            | Oddity::MissedOnce
            | Oddity::MissedOften
            | Oddity::AbsentOnce
            | Oddity::FarFuture
            | Oddity::FarPast
            | Oddity::AttributesRefused => grow::pick(&self.backing, rng, one)?,
            Oddity::ListingBreaks => grow::pick(&self.backing, rng, fs::Metadata::is_dir)?,
            Oddity::BreaksHalfWay | Oddity::SizeZero => grow::pick(&self.backing, rng, file)?,
            _ => return Ok(OsString::new()),
        };
        let name = picked.as_deref().and_then(Path::file_name);
        Ok(name.unwrap_or(OsStr::new(grow::ANCHOR)).to_owned())
    }

    fn mount_in_source(&mut self, inner: Inner, rng: &mut Rng) -> Result<()> {
        // The odd file system shows what is mounted below it as its own; a name that is a file of
        // its own and another's would be two of one link.
        let inner = match self.above {
            Above::Odd(..) if inner == Inner::File => Inner::Tmpfs,
            _ => inner,
        };
        let root = match self.above {
            Above::Odd(..) => self.backing.clone(),
            _ => self.shown.clone(),
        };
        let Some(at) = self.mount(&root, inner, rng)? else {
            return Ok(());
        };
        if !matches!(self.above, Above::Odd(..)) {
            let path = at.strip_prefix(&root)?;
            self.points.push(path.as_os_str().as_bytes().to_vec());
        }
        Ok(())
    }

    /// Mounts something on an entry below `root`. Where.
    fn mount(&mut self, root: &Path, inner: Inner, rng: &mut Rng) -> Result<Option<PathBuf>> {
        let is_file = inner == Inner::File;
        let fits = |meta: &fs::Metadata| {
            if is_file {
                meta.is_file()
            } else {
                meta.is_dir()
            }
        };
        let Some(at) = grow::pick(root, rng, fits)? else {
            return Ok(None);
        };
        let mount = match inner {
            Inner::Tmpfs => Mount::tmpfs_over(&at)?,
            Inner::Disk(kind) => {
                let dir = self.dir(kind, &format!("disk {}", rng.draw()))?;
                random::make(&dir, 5, rng)?;
                Mount::bind(&dir, &at)?
            }
            Inner::Directory | Inner::File => {
                let other = grow::pick(root, rng, |meta| fits(meta))?;
                let Some(other) = other.filter(|other| !at.starts_with(other)) else {
                    return Ok(None);
                };
                Mount::bind(&other, &at)?
            }
        };
        self.guards.push(Guard::Mount(mount));
        if inner == Inner::Tmpfs {
            random::make(&at, 5, rng)?;
        }
        Ok(Some(at))
    }

    fn prior(&mut self, prior: Prior, rng: &mut Rng) -> Result<()> {
        let destination = self.destination.clone();
        let has_beside = self.destination_kind != Kind::Ext4Root;
        match prior {
            Prior::Copy => {
                let from = self.writable().join(".");
                copy(&["-a"], &from, &destination)?;
                change::age(&destination, 4, rng)
            }
            Prior::Foreign => {
                let at = destination.join(format!("foreign {}", rng.draw()));
                fs::create_dir(&at)?;
                random::make(&at, 6, rng)
            }
            Prior::Kinds => {
                for _ in 0..=rng.below(4) {
                    grow::tolerated(self.other_kind(rng))?;
                }
                Ok(())
            }
            Prior::OutwardLinks if has_beside => self.link_outward(rng),
            Prior::LostFound => grow::lost_found(&destination.join("lost+found"), rng),
            Prior::Snapshot if has_beside => {
                let at = self.beside.join(format!("snapshot {}", rng.draw()));
                copy(&["-al"], &destination, &at)?;
                self.kept.push(at);
                Ok(())
            }
            Prior::Mount(inner) => self.mount(&destination, inner, rng).map(drop),
            Prior::OutwardLinks | Prior::Snapshot => Ok(()),
        }
    }

    /// Puts an entry of another kind under a name that the source has.
    fn other_kind(&self, rng: &mut Rng) -> Result<()> {
        let Some((at, _)) = self.counterpart(rng, |_| true)? else {
            return Ok(());
        };
        let device = FileType::CharacterDevice;
        match rng.below(7) {
            0 => posix::make_node(&at, device, 1, 3),
            1 => posix::make_node(&at, device, 0, 0),
            2 => posix::make_node(&at, FileType::BlockDevice, 7, 255),
            3 => posix::make_node(&at, FileType::Fifo, 0, 0),
            4 => {
                fs::create_dir(&at)?;
                Ok(fs::write(at.join("in it"), "in it")?)
            }
            5 => Ok(symlink("anchor", &at)?),
            _ => Ok(fs::write(&at, "another file")?),
        }
    }

    /// Where the destination has an entry of the source that `fits`; what was there is gone.
    fn counterpart(
        &self,
        rng: &mut Rng,
        fits: impl Fn(&fs::Metadata) -> bool,
    ) -> Result<Option<(PathBuf, PathBuf)>> {
        let root = self.writable();
        let Some(original) = grow::pick(root, rng, fits)? else {
            return Ok(None);
        };
        let at = self.destination.join(original.strip_prefix(root)?);
        if let Some(parent) = at.parent() {
            fs::create_dir_all(parent)?;
        }
        match at.symlink_metadata() {
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(&at)?,
            Ok(_) => fs::remove_file(&at)?,
            Err(_) => {}
        }
        Ok(Some((at, original)))
    }

    /// Has names of the destination lead to inodes that have others outside.
    fn link_outward(&mut self, rng: &mut Rng) -> Result<()> {
        let outside = self.beside.join("outside");
        if !outside.exists() {
            fs::create_dir(&outside)?;
            self.kept.push(outside.clone());
        }
        for _ in 0..=rng.below(3) {
            let other = outside.join(rng.draw().to_string());
            if let Some(file) = grow::pick(&self.destination, rng, fs::Metadata::is_file)?
                && rng.chance(50)
            {
                grow::tolerated(fs::hard_link(file, other).map_err(Error::from))?;
            } else if let Some((at, _)) = self.counterpart(rng, fs::Metadata::is_file)? {
                fs::write(&other, rng.bytes(2000))?;
                fs::hard_link(&other, at)?;
            }
        }
        Ok(())
    }

    /// The source as it is, whatever is shown of it.
    pub fn truth(&self) -> Result<Tree> {
        let Above::Odd(oddity, _) = self.above else {
            return if self.above == Above::Mapped {
                self.mapped()
            } else {
                seen::tree(&self.shown)
            };
        };
        let mut tree = seen::tree(&self.backing)?;
        for (path, seen) in &mut tree {
            // Asking for flags is not passed through.
            seen.flags = 0;
            let name = path.rsplit(|byte| *byte == b'/').next();
            if self.victim.is_empty() || name == Some(self.victim.as_bytes()) {
                shown_as(oddity, seen);
            }
        }
        Ok(tree)
    }

    /// What a mapped mount shows, and what it cannot show: not even root may read what belongs to
    /// an owner that it does not know, and no copy could have that owner.
    fn mapped(&self) -> Result<Tree> {
        let owner = |id: u32| if id < MAPPED { id + MAPPED_TO } else { NOBODY };
        let mut tree = seen::tree(&self.backing)?;
        for (path, seen) in &mut tree {
            seen.owner = (owner(seen.owner.0), owner(seen.owner.1));
            if let Ok(attributes) = seen::attributes(&seen::under(&self.shown, path)) {
                seen.attributes = attributes;
            }
        }
        // What is mounted on it has owners of its own, and hides what lies below.
        tree.retain(|path, _| !self.points.iter().any(|point| judge::holds(point, path)));
        for path in seen::paths(&self.shown)? {
            if self.points.iter().any(|point| judge::holds(point, &path)) {
                tree.insert(path.clone(), seen::entry(&seen::under(&self.shown, &path))?);
            }
        }
        Ok(tree)
    }

    /// Whether nothing tells the mover for certain where a file of the source has holes.
    pub fn hides_holes(&self) -> bool {
        matches!(self.above, Above::Overlay(_) | Above::Odd(..))
    }

    /// Whether nobody can know of `path`: a listing may have missed it, or something above it.
    pub fn may_be_missed(&self, path: &[u8]) -> bool {
        let misses = matches!(
            self.above,
            Above::Odd(Oddity::MissedOnce | Oddity::MissedOften, _)
        );
        misses
            && path
                .split(|byte| *byte == b'/')
                .any(|name| name == self.victim.as_bytes())
    }

    /// Whether it is a file system's own business what `path` is: an empty `lost+found` stays at
    /// its source, and the destination's own stays there.
    pub fn is_own(&self, path: &[u8], source: &Tree) -> bool {
        let own = b"lost+found".as_slice();
        let roots = [self.source_kind, self.destination_kind];
        if !roots.contains(&Kind::Ext4Root) {
            return false;
        }
        path == own || (path.starts_with(b"lost+found/") && !source.contains_key(path))
    }
}

impl Drop for Laid<'_> {
    fn drop(&mut self) {
        while let Some(guard) = self.guards.pop() {
            drop(guard);
        }
        for dir in &self.given {
            self.ground.give_back(dir);
        }
    }
}

/// An entry that is struck, as far as its oddity changes what there is to be copied.
fn shown_as(oddity: Oddity, seen: &mut Seen) {
    match oddity {
        Oddity::WholeSeconds => seen.mtime.1 = 0,
        Oddity::FarFuture => seen.mtime.0 += FAR,
        Oddity::FarPast => seen.mtime.0 -= FAR,
        // Nobody can see that names are one.
        Oddity::OneLink => seen.inode = None,
        _ => {}
    }
}

/// Copies by `cp`, as far as it can.
fn copy(how: &[&str], from: &Path, to: &Path) -> Result<()> {
    let copied = Command::new("cp").args(how).args([from, to]).output();
    copied.context("running cp").map(drop)
}

/// Which of `before` were there all the while, by what changes moved.
pub fn throughout(
    before: &[Vec<u8>],
    after: &[Vec<u8>],
    moved: &change::Moved,
) -> BTreeSet<Vec<u8>> {
    let after: BTreeSet<&Vec<u8>> = after.iter().collect();
    let stayed = before.iter();
    stayed
        .filter(|path| after.contains(path) && !moved.has(path))
        .cloned()
        .collect()
}
