//! The odd file system is what it says, and nothing else: plain it is a copy of what lies below it,
//! and each oddity shows where it should.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read as _},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    panic,
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};
use livmig_tests::{
    compare,
    odd::{self, OddFs, Oddity},
    require,
    rng::Rng,
    scratch::Scratch,
    snapshot::Snapshot,
    tree::{every_kind, posix, random},
};
use rustix::io::Errno;

/// A tree below, and the same shown oddly.
struct Shown {
    backing: PathBuf,
    odd: OddFs,
    _scratch: Scratch,
}

impl Shown {
    fn new(oddity: Oddity, victim: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<Self> {
        let scratch = Scratch::new()?;
        let (backing, at) = (scratch.dir("backing")?, scratch.dir("at")?);
        make(&backing)?;
        let odd = OddFs::mount(&backing, &at, oddity, victim)?;
        Ok(Self {
            backing,
            odd,
            _scratch: scratch,
        })
    }

    fn at(&self, name: &str) -> PathBuf {
        self.odd.path().join(name)
    }
}

/// Two linked files, another one, a directory with three entries.
fn small(root: &Path) -> Result<()> {
    fs::write(root.join("a"), "content of a")?;
    fs::hard_link(root.join("a"), root.join("b"))?;
    fs::write(root.join("c"), "content of c")?;
    posix::set_mtime(&root.join("c"), 1_600_000_000, 5)?;
    fs::create_dir(root.join("d"))?;
    for name in ["x", "y", "z"] {
        fs::write(root.join("d").join(name), name)?;
    }
    Ok(())
}

fn names(dir: &Path) -> Result<Vec<String>, std::io::Error> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn errno_of<T>(result: std::io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

#[test]
fn plain_it_is_equal_to_what_lies_below_it() -> Result<()> {
    require!(odd::available());
    let shown = Shown::new(Oddity::Plain, "", |root| every_kind::make(root).map(drop))?;
    compare::expect_equal(&shown.backing, shown.odd.path())
}

#[test]
fn what_is_written_through_it_is_below_it() -> Result<()> {
    require!(odd::available());
    let shown = Shown::new(Oddity::Plain, "", |_| Ok(()))?;
    random::make(shown.odd.path(), 60, &mut Rng::new(3))?;
    let file = File::create(shown.at("before 1970"))?;
    file.write_all_at(b"tail", 1 << 20)?;
    posix::set_mtime(&shown.at("before 1970"), -7, 500_000_000)?;
    compare::expect_equal(&shown.backing, shown.odd.path())?;
    ensure!(posix::mtime(&shown.backing.join("before 1970"))? == (-7, 500_000_000));
    let made = Snapshot::of(&shown.backing)?.entries.len();
    ensure!(made > 60, "{made} entries");
    Ok(())
}

#[test]
fn it_goes_when_a_test_panics() -> Result<()> {
    require!(odd::available());
    let shown = Shown::new(Oddity::Plain, "", small)?;
    let (at, backing) = (shown.odd.path().to_owned(), shown.backing.clone());
    let Shown { odd, _scratch, .. } = shown;
    let panicked = panic::catch_unwind(panic::AssertUnwindSafe(move || {
        let _mounted = odd;
        // A panic that prints nothing.
        panic::resume_unwind(Box::new("on purpose"));
    }));
    ensure!(panicked.is_err());
    ensure!(names(&at)?.is_empty() && names(&backing)?.len() == 4);
    Ok(())
}

#[test]
fn inode_numbers_are_odd() -> Result<()> {
    require!(odd::available());
    let inode = |shown: &Shown, name: &str| -> Result<u64> { Ok(shown.at(name).metadata()?.ino()) };
    let anew = Shown::new(Oddity::InodesAnew, "", small)?;
    ensure!(inode(&anew, "a")? != inode(&anew, "a")?);
    ensure!(inode(&anew, "d")? == inode(&anew, "d")?);
    let anew = Shown::new(Oddity::AllInodesAnew, "", small)?;
    ensure!(inode(&anew, "d")? != inode(&anew, "d")?);
    let collide = Shown::new(Oddity::InodesCollide, "", |root| {
        small(root)?;
        fs::hard_link(root.join("c"), root.join("d/c"))?;
        Ok(())
    })?;
    ensure!(inode(&collide, "a")? == inode(&collide, "c")?);
    ensure!(inode(&collide, "a")? != inode(&collide, "d/x")?);
    ensure!(fs::read(collide.at("a"))? != fs::read(collide.at("c"))?);
    let one = Shown::new(Oddity::OneLink, "", small)?;
    ensure!(one.at("a").metadata()?.nlink() == 1 && inode(&one, "a")? == inode(&one, "b")?);
    Ok(())
}

#[test]
fn what_is_struck_fails_and_nothing_else() -> Result<()> {
    require!(odd::available());
    for (oddity, errno) in [(Oddity::Stale, Errno::STALE), (Oddity::Broken, Errno::IO)] {
        let errno = Some(errno.raw_os_error());
        let shown = Shown::new(oddity, "c", small)?;
        ensure!(errno_of(fs::read(shown.at("c"))) == errno, "{oddity:?}");
        ensure!(fs::read(shown.at("a"))? == b"content of a");
        let shown = Shown::new(oddity, "d", small)?;
        ensure!(errno_of(names(&shown.at("d"))) == errno, "{oddity:?}");
        ensure!(names(shown.odd.path())?.len() == 4);
    }
    let half = Shown::new(Oddity::BreaksHalfWay, "c", |root| {
        fs::write(root.join("c"), Rng::new(1).bytes(1 << 20))?;
        Ok(())
    })?;
    let mut first = vec![0; 1 << 16];
    let mut file = File::open(half.at("c"))?;
    file.read_exact(&mut first)?;
    ensure!(errno_of(file.read_to_end(&mut first)) == Some(Errno::IO.raw_os_error()));
    let listing = Shown::new(Oddity::ListingBreaks, "d", small)?;
    ensure!(errno_of(names(&listing.at("d"))) == Some(Errno::IO.raw_os_error()));
    ensure!(fs::read(listing.at("d/x"))? == b"x");
    Ok(())
}

#[test]
fn a_name_is_missed_and_is_there() -> Result<()> {
    require!(odd::available());
    let counts = |oddity| -> Result<Vec<usize>> {
        let shown = Shown::new(oddity, "y", small)?;
        ensure!(fs::read(shown.at("d/y"))? == b"y");
        (0..4).map(|_| Ok(names(&shown.at("d"))?.len())).collect()
    };
    ensure!(counts(Oddity::MissedOnce)? == [2, 3, 3, 3]);
    ensure!(counts(Oddity::MissedOften)? == [2, 3, 2, 3]);
    let absent = Shown::new(Oddity::AbsentOnce, "y", small)?;
    ensure!(names(&absent.at("d"))?.len() == 3);
    ensure!(fs::read(absent.at("d/y")).unwrap_err().kind() == ErrorKind::NotFound);
    ensure!(fs::read(absent.at("d/y"))? == b"y");
    Ok(())
}

#[test]
fn sizes_and_times_are_odd() -> Result<()> {
    require!(odd::available());
    let empty = Shown::new(Oddity::SizeZero, "c", small)?;
    ensure!(empty.at("c").metadata()?.size() == 0 && fs::read(empty.at("c"))? == b"content of c");
    ensure!(empty.at("a").metadata()?.size() == 12);
    let whole = Shown::new(Oddity::WholeSeconds, "", small)?;
    ensure!(posix::mtime(&whole.at("c"))? == (1_600_000_000, 0));
    let future = Shown::new(Oddity::FarFuture, "c", small)?;
    ensure!(posix::mtime(&future.at("c"))?.0 > 1 << 40);
    let past = Shown::new(Oddity::FarPast, "c", small)?;
    ensure!(posix::mtime(&past.at("c"))?.0 < -(1 << 39));
    ensure!(posix::mtime(&past.at("a"))?.0 > 0);
    Ok(())
}

#[test]
fn names_handles_and_attributes_are_odd() -> Result<()> {
    require!(odd::available());
    let folded = Shown::new(Oddity::FoldedCase, "", small)?;
    ensure!(fs::read(folded.at("D/X"))? == b"x");
    ensure!(File::create_new(folded.at("A")).unwrap_err().kind() == ErrorKind::AlreadyExists);
    fs::remove_file(folded.at("C"))?;
    ensure!(!folded.backing.join("c").exists());

    let gone = Shown::new(Oddity::GoneWhenUnlinked, "", small)?;
    let mut file = File::open(gone.at("c"))?;
    fs::remove_file(gone.backing.join("c"))?;
    let read = file.read_to_end(&mut Vec::new());
    ensure!(errno_of(read) == Some(Errno::STALE.raw_os_error()));

    let refused = Shown::new(Oddity::AttributesRefused, "c", |root| {
        small(root)?;
        ensure!(posix::set_xattr(&root.join("c"), "user.x", b"1")?);
        Ok(())
    })?;
    let mut names = Vec::with_capacity(100);
    let at = refused.at("c");
    rustix::fs::listxattr(&at, rustix::buffer::spare_capacity(&mut names))?;
    ensure!(names.starts_with(b"user.x\0"));
    let read = rustix::fs::getxattr(&at, "user.x", rustix::buffer::spare_capacity(&mut names));
    ensure!(read == Err(Errno::ACCESS));
    Ok(())
}
