//! Reads and hashes one file on several threads, and shows it in order.

use std::{
    collections::BTreeMap,
    os::fd::BorrowedFd,
    sync::{
        LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use livmig_proto::tree::Digest;
use rustix::io::Errno;

use crate::fs::space::footprint::Footprint;

use super::{
    Hashed, Piece, StreamError, StreamOptions, Stretch, Stretches, Sum, buffer::Buffer, leaves_of,
    to_u64,
};

/// Bytes of a file from which on several threads are worth their start.
pub(super) const FROM: u64 = 8 << 20;

/// Threads that read one file at most.
const THREADS_MAX: usize = 4;

/// Windows of one file in memory, for each of its threads.
const WINDOWS_EACH: usize = 2;

/// Asking reads the limits of every control group above this process: too slow for every file.
static CORES: LazyLock<usize> =
    LazyLock::new(|| thread::available_parallelism().map_or(1, usize::from));

/// Threads of all crews that are at work now. Who finds enough of them works alone: they would only
/// wait for processors, and each has its windows in memory.
static AT_WORK: AtomicUsize = AtomicUsize::new(0);

/// Threads for one file, for as long as it takes.
#[derive(Debug)]
pub(super) struct Crew {
    threads: usize,
}

impl Crew {
    /// A crew for a file of `size` bytes, if that is worth it and there are processors for it.
    pub(super) fn for_size(size: u64) -> Option<Self> {
        if size < FROM {
            return None;
        }
        let cores = *CORES;
        let threads = cores.min(THREADS_MAX);
        if threads < 2 {
            return None;
        }
        let free =
            |at_work: usize| (at_work + threads <= cores.max(2)).then_some(at_work + threads);
        AT_WORK
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, free)
            .ok()?;
        Some(Self { threads })
    }

    /// A crew of so many.
    #[cfg(test)]
    pub(super) fn of(threads: usize) -> Self {
        AT_WORK.fetch_add(threads, Ordering::Relaxed);
        Self { threads }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        AT_WORK.fetch_sub(self.threads, Ordering::Relaxed);
    }
}

/// Where bytes come from.
#[derive(Clone, Copy, Debug)]
pub(super) enum ParallelReading {
    /// Through the page cache.
    Cached,
    /// From the device: the file was opened for that.
    Direct,
}

/// A window that was read.
struct ReadWindow {
    number: u64,
    stretch: Stretch,
    buffer: Buffer,
    leaves: Vec<Digest>,
}

/// The stretches of the file, numbered as they are given out.
struct ReadPlan<'f> {
    fd: BorrowedFd<'f>,
    size: u64,
    stretches: Stretches<'f>,
    footprint: Footprint,
    next: u64,
}

impl ReadPlan<'_> {
    fn next(&mut self) -> Result<Option<(u64, Stretch)>, Errno> {
        let Some(stretch) = self.stretches.next()? else {
            return Ok(None);
        };
        if let Stretch::Data { offset, len } = stretch {
            self.footprint
                .before(self.fd, offset, to_u64(len), self.size);
        }
        self.next += 1;
        Ok(Some((self.next - 1, stretch)))
    }
}

/// As [`super::stream`], on the threads of `crew`.
pub(super) fn stream<E>(
    crew: &Crew,
    fd: BorrowedFd<'_>,
    source: ParallelReading,
    options: StreamOptions,
    each: impl FnMut(Piece<'_>) -> Result<(), E>,
) -> Result<Hashed, StreamError<E>> {
    let plan = Mutex::new(ReadPlan {
        fd,
        size: options.size,
        footprint: Footprint::new(options.cache),
        stretches: Stretches::of(fd, options),
        next: 0,
    });
    // Who wants a stretch must have a buffer first: so the one that comes next always has one, and
    // what is read ahead is bounded.
    let (give, free) = mpsc::channel();
    for _ in 0..crew.threads * WINDOWS_EACH {
        let _ = give.send(Buffer::default());
    }
    let free = Mutex::new(free);
    thread::scope(|scope| {
        let (done, windows) = mpsc::channel();
        for _ in 0..crew.threads {
            let (plan, free, done) = (&plan, &free, done.clone());
            scope.spawn(move || work(fd, source, plan, free, &done));
        }
        drop(done);
        // Gone at the end of this closure, whatever it returns: then nobody gets a buffer any more.
        let give = give;
        let mut sum = Sum::new(each);
        let mut waiting = BTreeMap::new();
        let mut next = 0;
        for window in windows {
            let window: ReadWindow = window.map_err(StreamError::Read)?;
            waiting.insert(window.number, window);
            while let Some(window) = waiting.remove(&next) {
                let more = sum
                    .add(window.stretch, window.buffer.content(), &window.leaves)
                    .map_err(StreamError::Stopped)?;
                if let Stretch::Data { offset, .. } = window.stretch {
                    let read = to_u64(window.buffer.content().len());
                    lock(&plan).footprint.behind(fd, offset, read);
                }
                if !more {
                    return Ok(sum.finish());
                }
                next += 1;
                let _ = give.send(window.buffer);
            }
        }
        Ok(sum.finish())
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads stretches until there are no more or nobody wants them.
fn work(
    fd: BorrowedFd<'_>,
    source: ParallelReading,
    plan: &Mutex<ReadPlan<'_>>,
    free: &Mutex<mpsc::Receiver<Buffer>>,
    done: &mpsc::Sender<Result<ReadWindow, Errno>>,
) {
    loop {
        let buffer = lock(free).recv();
        let Ok(mut buffer) = buffer else { return };
        let next = lock(plan).next();
        let window = match next {
            Ok(None) => return,
            Ok(Some((number, stretch))) => {
                let leaves = match stretch {
                    Stretch::Hole { .. } => Ok(Vec::new()),
                    Stretch::Data { offset, len } => match source {
                        ParallelReading::Cached => buffer.fill_hashed(fd, offset, len),
                        // A device is asked for all at once.
                        ParallelReading::Direct => buffer
                            .fill_directly(fd, offset, len)
                            .map(|()| leaves_of(buffer.content())),
                    },
                };
                leaves.map(|leaves| ReadWindow {
                    number,
                    stretch,
                    buffer,
                    leaves,
                })
            }
            Err(errno) => Err(errno),
        };
        let failed = window.is_err();
        if done.send(window).is_err() || failed {
            return;
        }
    }
}
