//! Streams a file past its content tree, holes included.

mod buffer;
mod parallel;
pub mod rolling;

use std::{
    convert::Infallible,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use livmig_proto::tree::{BLOCK, ContentTree, Digest, leaf};
use rustix::io::Errno;

pub use self::buffer::Buffer;
use self::parallel::ParallelReading;
use crate::fs::{
    file,
    space::{
        extents::{self, Extent},
        footprint::{CacheUse, Footprint},
    },
};

/// Bytes that are read at once.
pub const WINDOW: usize = 1 << 20;

/// Whether a file of `size` bytes takes more than one read, so that it matters what the kernel expects
/// to come next.
pub fn takes_several(size: u64) -> bool {
    size > to_u64(WINDOW)
}

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
pub struct StreamOptions {
    /// Where to stop; a file that ends earlier ends earlier.
    pub size: u64,
    /// Whether the file system's word on holes is believed.
    pub true_holes: bool,
    /// Bytes of a piece at most; a multiple of `align`.
    pub window: usize,
    /// Where pieces may begin: at multiples of this, itself a multiple of the block size.
    pub align: u64,
    /// What is left in the page cache.
    pub cache: CacheUse,
}

impl StreamOptions {
    /// All of a file of `size` bytes, holes read like everything else.
    pub fn new(size: u64) -> Self {
        Self {
            size,
            true_holes: false,
            window: WINDOW,
            align: BLOCK as u64,
            cache: CacheUse::Fills,
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

/// Reads the file `fd` from the beginning and shows each piece to `each`, in order. A large file is
/// read and hashed on several threads.
pub fn stream<E>(
    fd: impl AsFd,
    options: StreamOptions,
    buffer: &mut Vec<u8>,
    each: impl FnMut(Piece<'_>) -> Result<(), E>,
) -> Result<Hashed, StreamError<E>> {
    let fd = fd.as_fd();
    match parallel::Crew::for_size(options.size) {
        Some(crew) => parallel::stream(&crew, fd, ParallelReading::Cached, options, each),
        None => stream_alone(fd, options, buffer, each),
    }
}

fn stream_alone<E>(
    fd: BorrowedFd<'_>,
    options: StreamOptions,
    buffer: &mut Vec<u8>,
    each: impl FnMut(Piece<'_>) -> Result<(), E>,
) -> Result<Hashed, StreamError<E>> {
    let mut stretches = Stretches::of(fd, options);
    let mut footprint = Footprint::new(options.cache);
    let mut sum = Sum::new(each);
    while let Some(stretch) = stretches.next().map_err(StreamError::Read)? {
        let read = match stretch {
            Stretch::Hole { .. } => Vec::new(),
            Stretch::Data { offset, len } => {
                footprint.before(fd, offset, to_u64(len), options.size);
                read(fd, offset, len, buffer).map_err(StreamError::Read)?
            }
        };
        let more = sum
            .add(stretch, buffer, &read)
            .map_err(StreamError::Stopped)?;
        if let Stretch::Data { offset, .. } = stretch {
            footprint.behind(fd, offset, to_u64(buffer.len()));
        }
        if !more {
            break;
        }
    }
    Ok(sum.finish())
}

/// A stretch of a file before it is read.
#[derive(Clone, Copy, Debug)]
enum Stretch {
    Data { offset: u64, len: usize },
    Hole { offset: u64, len: u64 },
}

/// The stretches of a file, in order.
#[derive(Debug)]
struct Stretches<'f> {
    fd: BorrowedFd<'f>,
    options: StreamOptions,
    offset: u64,
    /// Up to where there are no holes.
    data_end: u64,
}

impl<'f> Stretches<'f> {
    fn of(fd: BorrowedFd<'f>, options: StreamOptions) -> Self {
        Self {
            fd,
            options,
            offset: 0,
            data_end: if options.true_holes { 0 } else { options.size },
        }
    }

    fn next(&mut self) -> Result<Option<Stretch>, Errno> {
        let (offset, size) = (self.offset, self.options.size);
        if offset >= size {
            return Ok(None);
        }
        if offset >= self.data_end {
            match extents::at(self.fd, offset, size, self.options.align)? {
                Extent::Data { end } => self.data_end = end,
                Extent::Hole { end } => {
                    self.offset = end;
                    let len = end - offset;
                    return Ok(Some(Stretch::Hole { offset, len }));
                }
            }
        }
        let len = usize::try_from(self.data_end - offset)
            .unwrap_or(usize::MAX)
            .min(self.options.window);
        self.offset += u64::try_from(len).unwrap_or(0);
        Ok(Some(Stretch::Data { offset, len }))
    }
}

/// Fills `buffer` with up to `len` bytes at `offset`; the leaves of what was there.
fn read(
    fd: BorrowedFd<'_>,
    offset: u64,
    len: usize,
    buffer: &mut Vec<u8>,
) -> Result<Vec<Digest>, Errno> {
    buffer.resize(len, 0);
    let (read, leaves) = read_leaves(fd, buffer, offset)?;
    buffer.truncate(read);
    Ok(leaves)
}

/// Fills `buffer` from `offset`, short only at the end of the file: how many bytes there were, and
/// their leaves. Each part is hashed while a core's own cache still holds it.
fn read_leaves(
    fd: BorrowedFd<'_>,
    buffer: &mut [u8],
    offset: u64,
) -> Result<(usize, Vec<Digest>), Errno> {
    let mut leaves = Vec::with_capacity(buffer.len().div_ceil(BLOCK));
    let mut filled = 0;
    for part in buffer.chunks_mut(file::AT_ONCE) {
        let read = file::read_at(fd, part, offset + to_u64(filled))?;
        let content = part.get(..read).unwrap_or_default();
        leaves.extend(content.chunks(BLOCK).map(leaf));
        filled += read;
        if read < part.len() {
            break;
        }
    }
    Ok((filled, leaves))
}

fn to_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// The leaves of the blocks in `content`.
pub fn leaves_of(content: &[u8]) -> Vec<Digest> {
    content.chunks(BLOCK).map(leaf).collect()
}

/// Stretches as they come, in order, summed up and shown.
struct Sum<F> {
    tree: ContentTree,
    each: F,
}

impl<E, F: FnMut(Piece<'_>) -> Result<(), E>> Sum<F> {
    fn new(each: F) -> Self {
        let tree = ContentTree::new();
        Self { tree, each }
    }

    /// Adds a stretch, of which `content` was read. Whether more may follow: a file that is shorter
    /// than expected ends where it ends.
    fn add(&mut self, stretch: Stretch, content: &[u8], leaves: &[Digest]) -> Result<bool, E> {
        match stretch {
            Stretch::Hole { offset, len } => {
                self.tree.push_zeros(len);
                (self.each)(Piece::Hole { offset, len })?;
                Ok(true)
            }
            Stretch::Data { offset, len } => {
                for (leaf, block) in leaves.iter().zip(content.chunks(BLOCK)) {
                    self.tree.push_leaf(*leaf, block.len());
                }
                if !content.is_empty() {
                    (self.each)(Piece::Data {
                        offset,
                        content,
                        leaves,
                    })?;
                }
                Ok(content.len() == len)
            }
        }
    }

    fn finish(self) -> Hashed {
        Hashed {
            size: self.tree.len(),
            root: self.tree.finish(),
        }
    }
}

/// The content of the file `fd`, summed up and not looked at.
pub fn sum(fd: impl AsFd, options: StreamOptions, buffer: &mut Vec<u8>) -> Result<Hashed, Errno> {
    if takes_several(options.size) {
        file::expect_sequential(&fd);
    }
    stream(fd, options, buffer, |_| Ok(())).map_err(Errno::from)
}

/// As [`sum`], of a file that was opened for direct reads, so that what counts is what the device
/// holds; nothing when that is not worth it for a file of this size, or others are at it.
pub fn sum_directly(
    options: StreamOptions,
    open: impl FnOnce() -> Option<OwnedFd>,
) -> Option<Result<Hashed, Errno>> {
    let crew = parallel::Crew::for_size(options.size)?;
    let fd = open()?;
    let hashed = parallel::stream(&crew, fd.as_fd(), ParallelReading::Direct, options, |_| {
        Ok(())
    });
    Some(hashed.map_err(Errno::from))
}

impl From<StreamError<Infallible>> for Errno {
    fn from(error: StreamError<Infallible>) -> Self {
        match error {
            StreamError::Read(errno) => errno,
            StreamError::Stopped(never) => match never {},
        }
    }
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
                let options = StreamOptions {
                    size: plain.len() as u64,
                    true_holes,
                    window,
                    align,
                    cache: if window == WINDOW {
                        CacheUse::Spares
                    } else {
                        CacheUse::Fills
                    },
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
    fn a_crew_finds_what_one_finds_alone() {
        let file = tempfile::tempfile().unwrap();
        let len = parallel::FROM + 12_345;
        let plain: Vec<u8> = (0..len)
            .map(|at| (at / 4096 % 251) as u8 ^ (at % 7) as u8)
            .collect();
        file.write_all_at(&plain, 0).unwrap();
        let show = |seen: &mut Vec<u8>, piece: Piece<'_>| {
            let Piece::Data {
                offset,
                content,
                leaves,
            } = piece
            else {
                panic!("there are no holes")
            };
            assert_eq!(seen.len() as u64, offset, "out of order");
            assert_eq!(leaves.len(), content.len().div_ceil(BLOCK));
            seen.extend_from_slice(content);
        };
        // Also of a file that is shorter than it was thought to be.
        for size in [len, len + 5_000_000] {
            let options = StreamOptions::new(size);
            let crew = parallel::Crew::of(3);
            let mut seen = Vec::new();
            let hashed = parallel::stream(
                &crew,
                file.as_fd(),
                ParallelReading::Cached,
                options,
                |piece| {
                    show(&mut seen, piece);
                    Ok::<_, ()>(())
                },
            )
            .unwrap();
            let expected = Hashed {
                size: len,
                root: root_of(&plain),
            };
            assert_eq!(hashed, expected);
            assert!(seen == plain);
        }
        // Whoever has seen enough ends it.
        let crew = parallel::Crew::of(2);
        let mut shown = 0;
        let ended = parallel::stream(
            &crew,
            file.as_fd(),
            ParallelReading::Cached,
            StreamOptions::new(len),
            |_| {
                shown += 1;
                if shown == 3 { Err("enough") } else { Ok(()) }
            },
        );
        assert!(matches!(ended, Err(StreamError::Stopped("enough"))));
        assert_eq!(shown, 3);
    }

    #[test]
    fn what_is_read_directly_is_what_was_written() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let name = livmig_proto::name::Name::new(b"file").unwrap();
        let handle = std::fs::File::open(dir.path()).unwrap();
        for extra in [0, 1, 4095, 4096, 12_345] {
            let plain: Vec<u8> = (0..parallel::FROM + extra)
                .map(|at| (at / 512 % 253) as u8)
                .collect();
            std::fs::write(dir.path().join("file"), &plain).unwrap();
            let options = StreamOptions::new(plain.len() as u64);
            let crew = parallel::Crew::of(2);
            let Some(fd) = file::open_direct(&handle, &name) else {
                eprintln!("skipped: no direct reads on the file system of this checkout");
                return;
            };
            let (fd, direct) = (fd.as_fd(), ParallelReading::Direct);
            let hashed = parallel::stream(&crew, fd, direct, options, |_| Ok::<_, ()>(()));
            let expected = Hashed {
                size: plain.len() as u64,
                root: root_of(&plain),
            };
            assert_eq!(hashed.unwrap(), expected, "{extra}");
        }
    }

    #[test]
    fn a_file_that_is_shorter_than_expected_ends_there() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[1; 100], 0).unwrap();
        let hashed = sum(&file, StreamOptions::new(5000), &mut Vec::new()).unwrap();
        assert_eq!(
            hashed,
            Hashed {
                size: 100,
                root: root_of(&[1; 100])
            }
        );
    }
}
