//! The data that is copied, and how it changes. The same seed makes the same.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use anyhow::Result;
use livmig_tests::rng::Rng;

/// Files in a directory of small files.
const FOLDER: u64 = 1000;

/// Bytes of the median small file; half of all are smaller. With [`SPREAD`] the mean is 9 KB, as in
/// source trees and mail stores.
const MEDIAN: f64 = 3686.0;

/// The standard deviation of the logarithm of the sizes.
const SPREAD: f64 = 1.34;

/// The largest small file.
const SMALL_MAX: f64 = 4e6;

/// Bytes of a page of a database.
const PAGE: u64 = 8192;

const MIB: usize = 1 << 20;

/// Makes `count` small files below `root`, their sizes log-normal.
pub(crate) fn small_files(root: &Path, count: u64) -> Result<()> {
    let mut rng = Rng::new(1);
    for folder in 0..count.div_ceil(FOLDER) {
        let at = folder_of(root, folder);
        fs::create_dir_all(&at)?;
        for number in 0..FOLDER.min(count - folder * FOLDER) {
            let size = (MEDIAN * (SPREAD * normal(&mut rng)).exp()).min(SMALL_MAX);
            fs::write(at.join(format!("{number:03}")), rng.bytes(whole(size)))?;
        }
    }
    Ok(())
}

/// Makes `count` files of 100 to 1100 bytes below `root`: many entries, little content.
pub(crate) fn tiny_files(root: &Path, count: u64) -> Result<()> {
    let mut rng = Rng::new(4);
    for folder in 0..count.div_ceil(FOLDER) {
        let at = folder_of(root, folder);
        fs::create_dir_all(&at)?;
        for number in 0..FOLDER.min(count - folder * FOLDER) {
            let size = 100 + usize::try_from(rng.below(1000))?;
            fs::write(at.join(format!("{number:03}")), rng.bytes(size))?;
        }
    }
    Ok(())
}

/// Rewrites one of a hundred of the `count` files below `root`, round for round other ones, with 10
/// KB each.
pub(crate) fn rewrite_files(root: &Path, count: u64, round: u64) -> Result<()> {
    let mut rng = Rng::new(300 + round);
    for _ in 0..count / 100 {
        let file = rng.below(count);
        let at = folder_of(root, file / FOLDER).join(format!("{:03}", file % FOLDER));
        fs::write(at, rng.bytes(10_000))?;
    }
    Ok(())
}

fn folder_of(root: &Path, folder: u64) -> PathBuf {
    root.join(format!("{:02}", folder % 10))
        .join(format!("{folder:05}"))
}

/// Makes one file of `bytes` bytes.
pub(crate) fn large_file(path: &Path, bytes: u64) -> Result<()> {
    let mut rng = Rng::new(2);
    let mut file = File::create(path)?;
    let mut left = bytes;
    while left > 0 {
        let part = left.min(MIB as u64);
        file.write_all(&rng.bytes(usize::try_from(part)?))?;
        left -= part;
    }
    Ok(())
}

/// Rewrites one of a hundred pages of the file, `round` for `round` other ones.
pub(crate) fn rewrite_pages(path: &Path, round: u64) -> Result<u64> {
    let file = File::options().write(true).open(path)?;
    let pages = file.metadata()?.len() / PAGE;
    let mut rng = Rng::new(100 + round);
    let count = pages / 100;
    for _ in 0..count {
        let page = rng.below(pages);
        file.write_all_at(&rng.bytes(usize::try_from(PAGE)?), page * PAGE)?;
    }
    Ok(count * PAGE)
}

/// Inserts a mebibyte and 13 bytes at the front of the file.
pub(crate) fn insert_in_front(path: &Path, round: u64) -> Result<()> {
    let mut content = Vec::new();
    let mut file = File::options().read(true).write(true).open(path)?;
    file.read_to_end(&mut content)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&Rng::new(200 + round).bytes(MIB + 13))?;
    file.write_all(&content)?;
    Ok(())
}

/// Makes a copy of `from` an older one: some files differ, some are missing, some are too many.
pub(crate) fn age(root: &Path, count: u64) -> Result<()> {
    let mut rng = Rng::new(3);
    for _ in 0..count / 20 {
        let folder = rng.below(count.div_ceil(FOLDER));
        let at = folder_of(root, folder);
        let file = at.join(format!("{:03}", rng.below(FOLDER)));
        match rng.below(3) {
            0 if file.exists() => fs::remove_file(&file)?,
            1 => fs::write(at.join(format!("x{}", rng.draw())), rng.bytes(5000))?,
            _ => fs::write(&file, rng.bytes(3000))?,
        }
    }
    Ok(())
}

/// A number with the standard normal distribution (Box and Muller, 1958).
fn normal(rng: &mut Rng) -> f64 {
    let mut unit = || {
        let bits = u32::try_from(rng.below(1 << 32)).unwrap_or(u32::MAX);
        (f64::from(bits) + 1.0) / f64::from(u32::MAX)
    };
    let (radius, angle) = ((-2.0 * unit().ln()).sqrt(), std::f64::consts::TAU * unit());
    radius * angle.cos()
}

fn whole(size: f64) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and SMALL_MAX"
    )]
    let whole = size as usize;
    whole
}
