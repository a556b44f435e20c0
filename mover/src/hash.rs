//! Streams a file past its content tree, holes included.

use std::os::fd::AsFd;

use livmig_proto::tree::{BLOCK, ContentTree, Digest, leaf};
use rustix::io::Errno;

use crate::fs::{
    extents::{self, Extent},
    file,
};

/// Bytes that are read at once.
pub const WINDOW: usize = 1 << 20;

/// A stretch of a file as it streams past. Offsets are multiples of the block size.
#[derive(Debug)]
pub enum Piece<'a> {
    /// Bytes that were read.
    Data {
        /// Where they are.
        offset: u64,
        /// They.
        content: &'a [u8],
        /// The leaves of their blocks.
        leaves: &'a [Digest],
    },
    /// Zeros that take no space.
    Hole {
        /// Where they are.
        offset: u64,
        /// How many.
        len: u64,
    },
}

/// A file's content, summed up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Hashed {
    /// Bytes of it.
    pub size: u64,
    /// Its root.
    pub root: Digest,
}

/// How to stream.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Where to stop; a file that ends earlier ends earlier.
    pub size: u64,
    /// Whether the file system's word on holes is believed.
    pub true_holes: bool,
    /// Bytes of a piece at most; a multiple of `align`.
    pub window: usize,
    /// Where pieces may begin: at multiples of this, itself a multiple of the block size.
    pub align: u64,
}

impl Options {
    /// All of a file of `size` bytes.
    pub fn new(size: u64, true_holes: bool) -> Self {
        Self {
            size,
            true_holes,
            window: WINDOW,
            align: BLOCK as u64,
        }
    }
}

/// Why streaming ended early.
#[derive(Debug)]
pub enum StreamError<E> {
    /// The file could not be read.
    Read(Errno),
    /// Whoever looked at the pieces had enough.
    Stopped(E),
}

/// Reads the file `fd` from the beginning and shows each piece to `each`.
pub fn stream<E>(
    fd: impl AsFd,
    options: Options,
    buffer: &mut Vec<u8>,
    mut each: impl FnMut(Piece<'_>) -> Result<(), E>,
) -> Result<Hashed, StreamError<E>> {
    let fd = fd.as_fd();
    let mut tree = ContentTree::new();
    let mut offset = 0;
    let mut data_end = if options.true_holes { 0 } else { options.size };
    if options.size > u64::try_from(WINDOW).unwrap_or(u64::MAX) {
        file::expect_sequential(fd);
    }
    while offset < options.size {
        if offset >= data_end {
            match extents::at(fd, offset, options.size, options.align).map_err(StreamError::Read)? {
                Extent::Data { end } => data_end = end,
                Extent::Hole { end } => {
                    let len = end - offset;
                    tree.push_zeros(len);
                    each(Piece::Hole { offset, len }).map_err(StreamError::Stopped)?;
                    offset = end;
                    continue;
                }
            }
        }
        let wanted = usize::try_from(data_end - offset)
            .unwrap_or(usize::MAX)
            .min(options.window);
        buffer.resize(wanted, 0);
        let read = file::read_at(fd, buffer, offset).map_err(StreamError::Read)?;
        let content = buffer.get(..read).unwrap_or_default();
        let leaves: Vec<Digest> = content.chunks(BLOCK).map(leaf).collect();
        for (leaf, block) in leaves.iter().zip(content.chunks(BLOCK)) {
            tree.push_leaf(*leaf, block.len());
        }
        if read > 0 {
            each(Piece::Data {
                offset,
                content,
                leaves: &leaves,
            })
            .map_err(StreamError::Stopped)?;
        }
        offset += u64::try_from(read).unwrap_or(0);
        if read < wanted {
            break;
        }
    }
    Ok(Hashed {
        size: tree.len(),
        root: tree.finish(),
    })
}

/// The content of the file `fd`, summed up and not looked at.
pub fn sum(fd: impl AsFd, options: Options, buffer: &mut Vec<u8>) -> Result<Hashed, Errno> {
    stream(fd, options, buffer, |_| {
        Ok::<_, std::convert::Infallible>(())
    })
    .map_err(|error| match error {
        StreamError::Read(errno) => errno,
        StreamError::Stopped(never) => match never {},
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use livmig_proto::tree::root_of;

    use super::*;

    #[test]
    fn holes_and_data_sum_up_like_plain_bytes() {
        let file = tempfile::tempfile().unwrap();
        let mut plain = vec![0; 5 * BLOCK + 100];
        for (at, len) in [(0, 10), (BLOCK, BLOCK), (3 * BLOCK + 5, 1), (5 * BLOCK, 40)] {
            plain[at..at + len].fill(7);
            file.write_all_at(&plain[at..at + len], at as u64).unwrap();
        }
        file.set_len(plain.len() as u64).unwrap();
        file.sync_all().unwrap();
        for true_holes in [false, true] {
            for window in [BLOCK, 2 * BLOCK, WINDOW] {
                let align = window.min(2 * BLOCK) as u64;
                let options = Options {
                    size: plain.len() as u64,
                    true_holes,
                    window,
                    align,
                };
                let mut seen = vec![9; plain.len()];
                let hashed = stream(&file, options, &mut Vec::new(), |piece| {
                    match piece {
                        Piece::Data {
                            offset, content, ..
                        } => {
                            let at = usize::try_from(offset).unwrap();
                            seen[at..at + content.len()].copy_from_slice(content);
                        }
                        Piece::Hole { offset, len } => {
                            let at = usize::try_from(offset).unwrap();
                            seen[at..at + usize::try_from(len).unwrap()].fill(0);
                        }
                    }
                    Ok::<_, ()>(())
                })
                .unwrap();
                assert_eq!(
                    hashed,
                    Hashed {
                        size: plain.len() as u64,
                        root: root_of(&plain)
                    }
                );
                assert_eq!(seen, plain);
            }
        }
    }

    #[test]
    fn a_file_that_is_shorter_than_expected_ends_there() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[1; 100], 0).unwrap();
        let hashed = sum(&file, Options::new(5000, false), &mut Vec::new()).unwrap();
        assert_eq!(
            hashed,
            Hashed {
                size: 100,
                root: root_of(&[1; 100])
            }
        );
    }
}
