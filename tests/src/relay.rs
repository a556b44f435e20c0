//! A bad network between two movers: forwards UDP datagrams and loses, repeats, reorders and
//! damages some, the same ones for the same seed.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result};

use crate::rng::Rng;

/// Larger than any datagram.
const DATAGRAM_MAX: usize = 65_536;

/// Of 1000 datagrams, how many suffer which fate.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Never arrive.
    pub lost: u64,
    /// Arrive twice.
    pub repeated: u64,
    /// Arrive after the next one.
    pub late: u64,
    /// Arrive with a flipped bit.
    pub damaged: u64,
}

/// A relay that runs until it is dropped.
#[derive(Debug)]
pub struct Relay {
    front: SocketAddr,
    back: SocketAddr,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Relay {
    /// A relay to `destination` for one client at a time.
    pub fn to(destination: SocketAddr, faults: Faults, seed: u64) -> Result<Self> {
        let front = UdpSocket::bind("127.0.0.1:0")?;
        let back = UdpSocket::bind("127.0.0.1:0")?;
        let stop = Arc::new(AtomicBool::new(false));
        let client = Arc::new(Mutex::new(None));
        let mut relay = Self {
            front: front.local_addr()?,
            back: back.local_addr()?,
            stop: Arc::clone(&stop),
            threads: Vec::new(),
        };
        let onward = Direction {
            from: front.try_clone()?,
            to: back.try_clone()?,
            network: Network::new(faults, seed),
            stop: Arc::clone(&stop),
        };
        let known = Arc::clone(&client);
        relay.threads.push(thread::spawn(move || {
            onward.run(|from| {
                *known.lock().ok()? = Some(from);
                Some(destination)
            });
        }));
        let backward = Direction {
            from: back,
            to: front,
            network: Network::new(faults, !seed),
            stop,
        };
        relay.threads.push(thread::spawn(move || {
            backward.run(|_| *client.lock().ok()?);
        }));
        Ok(relay)
    }

    /// Where it takes datagrams for the destination.
    pub fn address(&self) -> SocketAddr {
        self.front
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let wake = || -> Result<()> {
            let socket = UdpSocket::bind("127.0.0.1:0").context("waking the relay")?;
            socket.send_to(&[], self.front)?;
            socket.send_to(&[], self.back)?;
            Ok(())
        };
        if wake().is_ok() {
            for thread in self.threads.drain(..) {
                let _ = thread.join();
            }
        }
    }
}

/// One of the two directions.
struct Direction {
    from: UdpSocket,
    to: UdpSocket,
    network: Network,
    stop: Arc<AtomicBool>,
}

impl Direction {
    /// Forwards to where `target` says, told where each datagram came from.
    fn run(mut self, target: impl Fn(SocketAddr) -> Option<SocketAddr>) {
        let mut buffer = vec![0; DATAGRAM_MAX];
        while let Ok((length, from)) = self.from.recv_from(&mut buffer) {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let datagram = buffer.get(..length).unwrap_or_default().to_vec();
            let Some(target) = target(from) else { continue };
            for datagram in self.network.pass(datagram) {
                // A full socket is one more fault of the network.
                let _ = self.to.send_to(&datagram, target);
            }
        }
    }
}

/// What happens to datagrams.
struct Network {
    faults: Faults,
    rng: Rng,
    late: Option<Vec<u8>>,
}

impl Network {
    fn new(faults: Faults, seed: u64) -> Self {
        Self {
            faults,
            rng: Rng::new(seed),
            late: None,
        }
    }

    /// What comes out when `datagram` goes in.
    fn pass(&mut self, mut datagram: Vec<u8>) -> Vec<Vec<u8>> {
        let Faults {
            lost,
            repeated,
            late,
            damaged,
        } = self.faults;
        let fate = self.rng.below(1000);
        let mut out = Vec::new();
        if fate < lost {
            return out;
        } else if fate < lost + repeated {
            out.push(datagram.clone());
        } else if fate < lost + repeated + late && self.late.is_none() {
            self.late = Some(datagram);
            return out;
        } else if fate < lost + repeated + late + damaged {
            let at = usize::try_from(self.rng.below(datagram.len() as u64)).unwrap_or(0);
            if let Some(byte) = datagram.get_mut(at) {
                *byte ^= 1 << self.rng.below(8);
            }
        }
        out.push(datagram);
        out.extend(self.late.take());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of 1000 datagrams come out, in order or not, whole or not.
    fn fates(faults: Faults) -> (usize, bool, usize) {
        let mut network = Network::new(faults, 1);
        let sent: Vec<Vec<u8>> = (0..1000_u16).map(|n| n.to_be_bytes().repeat(9)).collect();
        let got: Vec<Vec<u8>> = sent
            .iter()
            .flat_map(|datagram| network.pass(datagram.clone()))
            .collect();
        let damaged = got
            .iter()
            .filter(|datagram| !sent.contains(datagram))
            .count();
        (got.len(), got.is_sorted(), damaged)
    }

    #[test]
    fn each_fault_happens_about_as_often_as_asked() {
        let none = Faults::default();
        assert_eq!(fates(none), (1000, true, 0));
        let (count, ..) = fates(Faults { lost: 100, ..none });
        assert!((850..950).contains(&count), "{count}");
        let (count, ..) = fates(Faults {
            repeated: 100,
            ..none
        });
        assert!((1050..1150).contains(&count), "{count}");
        let (count, sorted, _) = fates(Faults { late: 100, ..none });
        assert!(count >= 999 && !sorted);
        let (count, _, damaged) = fates(Faults {
            damaged: 100,
            ..none
        });
        assert!(count == 1000 && (50..150).contains(&damaged), "{damaged}");
    }
}
