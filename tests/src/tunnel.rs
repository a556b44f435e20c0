//! A path between two movers that carries TCP only, and that can be cut: forwards connections, and
//! none any more once so many bytes have gone one way.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
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
    cut: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl Tunnel {
    /// A tunnel to `destination` that is cut after `bytes` to it.
    pub fn to(destination: SocketAddr, bytes: u64) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let path = Arc::new(Path {
            left: AtomicU64::new(bytes),
            cut: AtomicBool::new(false),
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
                        path.cut();
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

    /// Whether it was cut.
    pub fn is_cut(&self) -> bool {
        self.path.cut.load(Ordering::SeqCst)
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.path.cut();
        let wake = TcpStream::connect(self.address).context("waking the tunnel");
        if let (Ok(_), Some(listening)) = (wake, self.listening.take()) {
            let _ = listening.join();
        }
    }
}

impl Path {
    fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
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
    for (from, to, counts) in [
        (near.try_clone()?, far.try_clone()?, true),
        (far, near, false),
    ] {
        let path = Arc::clone(path);
        thread::spawn(move || forward(&path, from, to, counts));
    }
    Ok(())
}

fn forward(path: &Path, mut from: TcpStream, mut to: TcpStream, counts: bool) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if counts && !path.pass(read) {
            path.cut();
            return;
        }
        let carried = to.write_all(buffer.get(..read).unwrap_or_default());
        if carried.is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
