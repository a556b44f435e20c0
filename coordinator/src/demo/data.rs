//! The demonstration's volume: one large file, many small ones, and one of every odd thing that a
//! file system can hold.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileExt as _, PermissionsExt as _, symlink},
    },
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, SystemTime},
};

use rustix::fs::{CWD, Mode, XattrFlags, mkfifoat, setxattr};

use super::{
    layout,
    script::{Dice, PAGE},
};

/// Bytes written at once.
const CHUNK: usize = 1 << 20;

/// Small files in one folder.
const FILES_IN_FOLDER: u64 = 100;

/// Bytes of the sparse file, of which only a little is data.
const SPARSE: u64 = 16 << 20;

/// Makes the volume in an empty directory: `size` bytes of content in all, half of it in one file
/// and the rest in `files` small ones. Returns the pages of the large file. Gives up soon after
/// `stop` is set.
pub fn build(
    volume: &Path,
    size: u64,
    files: u64,
    seed: u64,
    stop: &AtomicBool,
) -> io::Result<u64> {
    let mut dice = Dice(seed);
    let page = u64::try_from(PAGE).unwrap_or(1);
    let pages = (size / 2 / page).max(1);
    let large = File::create(layout::large_of(volume))?;
    fill(large, pages * page, &mut dice, stop)?;

    let mean = size.saturating_sub(pages * page) / files.max(1);
    for number in 0..files {
        let folder = volume
            .join("small")
            .join(format!("{:04}", number / FILES_IN_FOLDER));
        if number % FILES_IN_FOLDER == 0 {
            fs::create_dir_all(&folder)?;
        }
        let length = mean / 2 + dice.below(mean + 1);
        fill(
            File::create(folder.join(format!("{number:06}")))?,
            length,
            &mut dice,
            stop,
        )?;
    }
    odd(&volume.join("odd"), &mut dice)?;
    fs::create_dir_all(layout::files_of(volume))?;
    Ok(pages)
}

/// Fills a new file with bytes that do not compress.
fn fill(mut file: File, length: u64, dice: &mut Dice, stop: &AtomicBool) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    let mut left = length;
    while left > 0 {
        if stop.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let now = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        if let Some(part) = chunk.get_mut(..now) {
            dice.fill(part);
            file.write_all(part)?;
        }
        left -= u64::try_from(now).unwrap_or(left);
    }
    Ok(())
}

/// One of every odd thing.
fn odd(folder: &Path, dice: &mut Dice) -> io::Result<()> {
    fs::create_dir_all(folder.join("empty-directory"))?;
    let long = "x".repeat(255);
    for name in [
        OsStr::new("new\nline"),
        OsStr::from_bytes(b"not-utf8-\xe9\xff"),
        OsStr::new(" blank ends "),
        OsStr::new("-rf"),
        OsStr::new(&long),
    ] {
        fs::write(folder.join(name), name.as_bytes())?;
    }
    fs::write(folder.join("empty"), "")?;

    symlink("../large.bin", folder.join("link"))?;
    symlink("nowhere/at/all", folder.join("dangling-link"))?;
    fs::write(folder.join("hard-1"), "one file, three names")?;
    fs::hard_link(folder.join("hard-1"), folder.join("hard-2"))?;
    fs::hard_link(
        folder.join("hard-1"),
        folder.join("empty-directory/../hard-3"),
    )?;
    mkfifoat(CWD, folder.join("fifo"), Mode::from(0o640))?;

    let sparse = File::create(folder.join("sparse"))?;
    sparse.set_len(SPARSE)?;
    let mut block = vec![0; PAGE];
    for place in [0, SPARSE / 3 / 4096 * 4096, SPARSE - 4096 * 5] {
        dice.fill(&mut block);
        sparse.write_all_at(&block, place)?;
    }

    for (name, mode) in [("setuid", 0o4711), ("private", 0o400), ("open", 0o666)] {
        let path = folder.join(name);
        fs::write(&path, name)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    let sticky = folder.join("sticky-directory");
    fs::create_dir(&sticky)?;
    fs::set_permissions(&sticky, fs::Permissions::from_mode(0o3775))?;

    let attributed = folder.join("attribute");
    fs::write(&attributed, "with an attribute")?;
    // Not every file system holds attributes; then there is none to carry.
    let _ = setxattr(
        &attributed,
        "user.livmig.demo",
        b"any \0 bytes \xff",
        XattrFlags::empty(),
    );
    let old = folder.join("old");
    fs::write(&old, "from another age")?;
    File::options()
        .write(true)
        .open(&old)?
        .set_modified(SystemTime::UNIX_EPOCH + Duration::new(86_400, 123_456_789))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_has_the_size_that_was_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let pages = build(folder.path(), 4 << 20, 250, 1, &AtomicBool::new(false)).unwrap();
        assert_eq!(pages, 256);
        let content: u64 = walkdir::WalkDir::new(folder.path())
            .into_iter()
            .map(Result::unwrap)
            .filter(|entry| entry.file_type().is_file() && entry.file_name() != "sparse")
            .map(|entry| entry.metadata().unwrap().len())
            .sum();
        assert!((3 << 20..6 << 20).contains(&content), "{content}");
    }
}
