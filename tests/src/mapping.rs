//! A file's pages as a database maps them: shared with the kernel, stored to without a call.

use std::{fs::File, ptr::NonNull};

use anyhow::{Context as _, Result, ensure};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// A whole file, mapped shared and writable until this is dropped.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

impl Mapping {
    /// Maps all of `file`, which must be open for reading and writing, must not be empty and must
    /// keep its size: a store to a page beyond its end kills the process.
    pub fn of(file: &File) -> Result<Self> {
        let length = usize::try_from(file.metadata()?.len())?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses the place, so nothing of this process is replaced.
        let start = unsafe {
            mmap(
                std::ptr::null_mut(),
                length,
                access,
                MapFlags::SHARED,
                file,
                0,
            )
        }
        .context("mapping a file")?;
        let start = NonNull::new(start.cast()).context("mapped at nowhere")?;
        Ok(Self { start, length })
    }

    /// Bytes that are mapped.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Stores `bytes` at `offset`.
    pub fn store(&mut self, offset: usize, bytes: &[u8]) -> Result<()> {
        let end = offset.checked_add(bytes.len());
        ensure!(
            end.is_some_and(|end| end <= self.length),
            "a store beyond the mapping's end"
        );
        // SAFETY: the target lies in the mapping by the check above, which lives as long as
        // `self` and has no reference to it anywhere; `bytes` is other memory.
        unsafe {
            std::ptr::copy_nonoverlapping(
                bytes.as_ptr(),
                self.start.as_ptr().add(offset),
                bytes.len(),
            );
        }
        Ok(())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is this mapping's own, and nothing refers to it.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn what_is_stored_is_in_the_file() {
        let scratch = Scratch::new().unwrap();
        let path = scratch.path().join("f");
        std::fs::write(&path, [0; 8]).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let mut mapping = Mapping::of(&file).unwrap();
        mapping.store(2, b"abc").unwrap();
        assert!(mapping.store(6, b"abc").is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"\0\0abc\0\0\0");
    }
}
