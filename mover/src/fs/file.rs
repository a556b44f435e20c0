//! Files: opened for reading without trusting what lies at the name, read and written whole.

use std::os::fd::{AsFd, OwnedFd};

use livmig_proto::name::Name;
use rustix::{
    fs::{Advice, FileType, Mode, OFlags, SeekFrom},
    io::Errno,
};

use super::dir;

/// A handle for reading the entry `name` in `dir`, expected to be a regular file. It never blocks
/// (a fifo may have taken the name), never becomes a controlling terminal and, where allowed,
/// leaves the access time alone. The caller must look at what it got.
pub fn open_read(dir: impl AsFd, name: &Name) -> Result<OwnedFd, Errno> {
    match open_patiently(dir.as_fd(), name, OFlags::RDONLY | OFlags::NOATIME) {
        // Only the owner and the privileged may leave the access time alone.
        Err(Errno::PERM) => open_patiently(dir, name, OFlags::RDONLY),
        result => result,
    }
}

/// A handle of the entry `name` in `dir`, expected to be a regular file, opened with `flags`. It never
/// becomes a controlling terminal, and waits for nothing but for whoever holds a lease on a regular
/// file, or a delegation: the kernel gives them a while to let go (`/proc/sys/fs/lease-break-time`).
///
/// # Errors
/// Those of opening it; `LOOP` for a symbolic link.
pub fn open_patiently(dir: impl AsFd, name: &Name, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::NOCTTY | OFlags::CLOEXEC;
    let here = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    match dir::open_once(dir.as_fd(), name.as_bytes(), here) {
        Err(Errno::AGAIN) => {}
        result => return result,
    }
    // A lease, or a rename elsewhere. Held first: what is waited for must be a regular file.
    let path = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let held = dir::open_confined(dir.as_fd(), name.as_bytes(), path)?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&held)?.st_mode);
    if kind != FileType::RegularFile {
        return dir::open_confined(dir, name.as_bytes(), here);
    }
    let link = super::metadata::xattr::proc_link(&held);
    loop {
        match rustix::fs::open(link.as_str(), flags, Mode::empty()) {
            Err(Errno::INTR) => {}
            // Not the file is missing but the way to it.
            Err(Errno::NOENT) => return dir::open_confined(dir, name.as_bytes(), here),
            result => return result,
        }
    }
}

/// A handle for reading the file `name` in `dir` from its device, without the page cache; nothing
/// where that cannot be had. Reads must be aligned. The caller must look at what it got.
pub fn open_direct(dir: impl AsFd, name: &Name) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
    let direct = flags | OFlags::NONBLOCK | OFlags::DIRECT;
    dir::open_confined(dir, name.as_bytes(), direct).ok()
}

/// A handle on the entry `name` in `dir`, whatever it is, without opening it.
pub fn open_handle(dir: impl AsFd, name: &Name) -> Result<OwnedFd, Errno> {
    // `NO_SYMLINKS` spares a final link that is opened as itself only with `O_PATH|O_NOFOLLOW`.
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name.as_os_str(), flags, rustix::fs::Mode::empty())
}

/// Bytes that are asked for at once. Without readahead that is what a device is kept busy with by one
/// thread, and what somebody else's commit waits for; a disk that reads a gigabyte a second is as
/// fast with four times as much (mover/DESIGN.md, Manners).
pub const AT_ONCE: usize = 256 << 10;

/// Fills `buffer` from `offset`, short only at the end of the file.
pub fn read_at(fd: impl AsFd, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let at = offset + u64::try_from(filled).unwrap_or(0);
        let most = rest.len().min(AT_ONCE);
        let rest = rest.get_mut(..most).unwrap_or_default();
        match rustix::io::pread(fd.as_fd(), rest, at) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(filled)
}

/// Writes all of `content` at `offset`.
pub fn write_at(fd: impl AsFd, content: &[u8], offset: u64) -> Result<(), Errno> {
    let mut written = 0;
    while let Some(rest) = content.get(written..).filter(|rest| !rest.is_empty()) {
        let at = offset + u64::try_from(written).unwrap_or(0);
        match rustix::io::pwrite(fd.as_fd(), rest, at) {
            Ok(0) => return Err(Errno::IO),
            Ok(count) => written += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Waits for the end of a write to the file that is under way, where the file system lets one write
/// at a time go through the page cache: looking for data takes the same lock there (ext4, xfs, btrfs,
/// tmpfs). A write holds it from when it stamps the file until all its bytes are stored.
pub fn await_writer(fd: impl AsFd) {
    // Where it cannot be asked, a margin of time has to do.
    let _ = rustix::fs::seek(fd, SeekFrom::Data(0));
}

/// Asks the kernel to read ahead of a sequential read.
pub fn expect_sequential(fd: impl AsFd) {
    let _ = rustix::fs::fadvise(fd, 0, None, Advice::Sequential);
}

/// Asks the kernel to read no more than it is asked for. What it reads ahead, megabytes on some
/// disks, whoever commits has to wait for.
pub fn expect_nothing(fd: impl AsFd) {
    let _ = rustix::fs::fadvise(fd, 0, None, Advice::Random);
}

/// Drops the file's clean pages from the cache, so that the next read is the device's. Whether
/// that came true: false where pages stay (tmpfs, a mapping, a writer).
pub fn drop_cache(fd: impl AsFd) -> bool {
    rustix::fs::fadvise(fd.as_fd(), 0, None, Advice::DontNeed).is_ok()
        && super::sys::cached_pages(fd.as_fd()) == Ok(0)
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write as _};

    use super::*;

    #[test]
    fn what_was_not_asked_for_is_not_read() {
        const PAGE: u64 = 4096;
        let mut named = tempfile::NamedTempFile::new().unwrap();
        named.write_all(&vec![7; 4 << 20]).unwrap();
        named.as_file().sync_all().unwrap();
        let file = File::open(named.path()).unwrap();
        if !drop_cache(&file) {
            eprintln!("skipped: this file system keeps its pages, or does not tell");
            return;
        }
        expect_nothing(&file);
        let mut buffer = vec![0; 3 * 4096];
        assert_eq!(read_at(&file, &mut buffer, 64 * PAGE), Ok(buffer.len()));
        assert_eq!(crate::fs::sys::cached_pages(file.as_fd()), Ok(3));
    }

    #[test]
    fn a_long_read_comes_in_parts_and_ends_with_the_file() {
        let mut named = tempfile::NamedTempFile::new().unwrap();
        let content: Vec<u8> = (0..=250).cycle().take(AT_ONCE * 2 + 5).collect();
        named.write_all(&content).unwrap();
        let mut buffer = vec![0; AT_ONCE * 3];
        let read = read_at(named.as_file(), &mut buffer, 0).unwrap();
        assert_eq!(read, content.len());
        assert!(buffer[..read] == content);
    }
}
