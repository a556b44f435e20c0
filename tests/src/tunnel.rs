//! A path between two movers that carries TCP only, and that is cut: forwards connections until so many
//! bytes have gone one way, then ends them; for good, or only those.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result};

/// A tunnel that carries until it is cut or dropped.
#[derive(Debug)]
pub struct Tunnel {
    address: SocketAddr,
    path: Arc<Path>,
    listening: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Path {
    /// Bytes that may still go to the destination.
    left: AtomicU64,
    /// Bytes after each of the cuts to come, last first; where none is left the path is gone.
    pieces: Mutex<Vec<u64>>,
    cuts: AtomicU32,
    cut: AtomicBool,
    /// Whether only the connection is lost that is one too many.
    alone: bool,
    open: Mutex<Vec<TcpStream>>,
}

impl Tunnel {
    /// A tunnel to `destination` that is cut for good after `bytes` to it.
    pub fn to(destination: SocketAddr, bytes: u64) -> Result<Self> {
        Self::in_pieces(destination, &[bytes])
    }

    /// A tunnel to `destination` that loses its connections after the first of `pieces` has gone to it
    /// and takes new ones, and so on; for good after the last.
    pub fn in_pieces(destination: SocketAddr, pieces: &[u64]) -> Result<Self> {
        Self::new(destination, pieces, false)
    }

    /// A tunnel to `destination` that loses one connection, the one that carries the byte after
    /// `bytes`, and carries all others on.
    pub fn losing_one(destination: SocketAddr, bytes: u64) -> Result<Self> {
        Self::new(destination, &[bytes, u64::MAX], true)
    }

    fn new(destination: SocketAddr, pieces: &[u64], alone: bool) -> Result<Self> {
        let mut pieces: Vec<u64> = pieces.iter().rev().copied().collect();
        let first = pieces.pop().unwrap_or(0);
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let path = Arc::new(Path {
            left: AtomicU64::new(first),
            pieces: Mutex::new(pieces),
            cuts: AtomicU32::new(0),
            cut: AtomicBool::new(false),
            alone,
            open: Mutex::default(),
        });
        let address = listener.local_addr()?;
        let listening = {
            let path = Arc::clone(&path);
            thread::spawn(move || {
                while let Ok((near, _)) = listener.accept() {
                    if path.cut.load(Ordering::SeqCst) {
                        return;
                    }
                    if carry(&path, near, destination).is_err() {
                        path.end();
                    }
                }
            })
        };
        Ok(Self {
            address,
            path,
            listening: Some(listening),
        })
    }

    /// Where it takes connections for the destination.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How often its connections were lost.
    pub fn cuts(&self) -> u32 {
        self.path.cuts.load(Ordering::SeqCst)
    }

    /// Waits until it was cut for good and somebody has tried to connect again.
    pub fn await_end(&mut self) {
        if let Some(listening) = self.listening.take() {
            let _ = listening.join();
        }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.path.end();
        let wake = TcpStream::connect(self.address).context("waking the tunnel");
        if let (Ok(_), Some(listening)) = (wake, self.listening.take()) {
            let _ = listening.join();
        }
    }
}

impl Path {
    /// Ends it for good.
    fn end(&self) {
        self.cut.store(true, Ordering::SeqCst);
        self.drop_all();
    }

    fn drop_all(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Loses every connection, once for each piece of the path, whoever notices first.
    fn cut(&self, seen: u32) {
        let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        if self.cuts.load(Ordering::SeqCst) != seen {
            return;
        }
        let next = pieces.pop();
        // First, for a new connection may come at once; the old ones are counted no more.
        self.left.store(next.unwrap_or(0), Ordering::SeqCst);
        self.cuts.fetch_add(1, Ordering::SeqCst);
        if next.is_some() {
            if !self.alone {
                self.drop_all();
            }
        } else {
            self.end();
        }
    }

    /// Takes `bytes` of what may still pass; whether that was there.
    fn pass(&self, bytes: usize) -> bool {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let take = |left: u64| left.checked_sub(bytes);
        let (success, failure) = (Ordering::SeqCst, Ordering::SeqCst);
        self.left.fetch_update(success, failure, take).is_ok()
    }
}

/// Carries one connection, on threads that end with it.
fn carry(path: &Arc<Path>, near: TcpStream, destination: SocketAddr) -> Result<()> {
    let far = TcpStream::connect(destination)?;
    let mut open = path.open.lock().unwrap_or_else(PoisonError::into_inner);
    open.push(near.try_clone()?);
    open.push(far.try_clone()?);
    drop(open);
    let cuts = path.cuts.load(Ordering::SeqCst);
    for (from, to, counts) in [
        (near.try_clone()?, far.try_clone()?, true),
        (far, near, false),
    ] {
        let path = Arc::clone(path);
        thread::spawn(move || forward(&path, from, to, counts.then_some(cuts)));
    }
    Ok(())
}

/// Carries one direction; `counted` is how many cuts had come when the connection did, where its bytes
/// count.
fn forward(path: &Path, mut from: TcpStream, mut to: TcpStream, counted: Option<u32>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if let Some(cuts) = counted
            && !path.pass(read)
        {
            path.cut(cuts);
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
            return;
        }
        let carried = to.write_all(buffer.get(..read).unwrap_or_default());
        if carried.is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
