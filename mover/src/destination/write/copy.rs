//! Copies content from one file of the destination to another, holes as holes.

use std::os::fd::OwnedFd;

use rustix::{fs::FallocateFlags, io::Errno};

use crate::fs::{
    file,
    space::extents::{self, Extent},
    stat::Stat,
};

/// What a hole of a copy is cut to.
const PAGE: u64 = 4096;

/// Makes `new`, which is empty, hold what `old` does; `stat` is what `old` is. Holes stay holes, and
/// what takes all of its space does so again.
pub(crate) fn whole(old: &OwnedFd, stat: &Stat, new: &OwnedFd) -> Result<(), Errno> {
    let size = stat.identity.size;
    if size > 0 && !stat.is_sparse() {
        // So that it cannot run out half-way. Where that is unknown, writing will tell.
        match rustix::fs::fallocate(new, FallocateFlags::empty(), 0, size) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
            Err(errno) => return Err(errno),
        }
    }
    rustix::fs::ftruncate(new, size)?;
    let mut at = 0;
    while at < size {
        let end = match extents::at(old, at, size, PAGE)? {
            Extent::Data { end } => {
                range(old, at, new, at, end.saturating_sub(at))?;
                end
            }
            Extent::Hole { end } => end,
        };
        if end <= at {
            return Err(Errno::IO);
        }
        at = end;
    }
    Ok(())
}

/// Copies `len` bytes at `from` of `old` to `offset` in `new`.
pub(crate) fn range(
    old: &OwnedFd,
    from: u64,
    new: &OwnedFd,
    offset: u64,
    len: u64,
) -> Result<(), Errno> {
    let (mut from, mut to) = (from, offset);
    let mut left = usize::try_from(len).map_err(|_| Errno::FBIG)?;
    while left > 0 {
        match rustix::fs::copy_file_range(old, Some(&mut from), new, Some(&mut to), left) {
            Ok(0) => return Err(Errno::IO),
            Ok(copied) => left -= copied.min(left),
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::INVAL | Errno::NOSYS) => {
                return through_memory(old, from, new, to, left);
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn through_memory(
    old: &OwnedFd,
    mut from: u64,
    new: &OwnedFd,
    mut to: u64,
    mut left: usize,
) -> Result<(), Errno> {
    let mut buffer = vec![0; left.min(1 << 20)];
    while left > 0 {
        let step = left.min(buffer.len());
        let Some(part) = buffer.get_mut(..step) else {
            return Err(Errno::IO);
        };
        if file::read_at(old, part, from)? < step {
            return Err(Errno::IO);
        }
        file::write_at(new, part, to)?;
        let step_u64 = u64::try_from(step).unwrap_or(0);
        (from, to, left) = (from + step_u64, to + step_u64, left - step);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    #[test]
    fn a_copy_holds_the_same_and_has_the_same_holes() {
        let old = tempfile::tempfile().unwrap();
        old.set_len(3 << 20).unwrap();
        old.write_all_at(b"begin", 0).unwrap();
        old.write_all_at(b"end", (2 << 20) + 77).unwrap();
        let new = tempfile::tempfile().unwrap();
        let (old, new): (OwnedFd, OwnedFd) = (old.into(), new.into());
        let stat = Stat::of_fd(&old).unwrap();
        whole(&old, &stat, &new).unwrap();
        let read = |fd: &OwnedFd| {
            let mut content = vec![1; 4 << 20];
            let read = file::read_at(fd, &mut content, 0).unwrap();
            content.truncate(read);
            content
        };
        assert!(read(&old) == read(&new));
        assert_eq!(Stat::of_fd(&new).unwrap().is_sparse(), stat.is_sparse());
    }
}
