//! A bad network between two movers: forwards UDP datagrams and loses, repeats, reorders and
//! damages some, the same ones for the same seed.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::Result;

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
    address: SocketAddr,
    shared: Arc<Shared>,
    onward: Option<JoinHandle<()>>,
}

impl Relay {
    /// A relay to `destination`.
    pub fn to(destination: SocketAddr, faults: Faults, seed: u64) -> Result<Self> {
        let front = UdpSocket::bind("127.0.0.1:0")?;
        let address = front.local_addr()?;
        let shared = Arc::new(Shared {
            front,
            destination,
            faults,
            seed,
            stop: AtomicBool::new(false),
            clients: Mutex::default(),
            silenced: AtomicUsize::new(usize::MAX),
            after: AtomicU64::new(u64::MAX),
        });
        let onward = Arc::clone(&shared);
        Ok(Self {
            address,
            shared,
            onward: Some(thread::spawn(move || onward.run())),
        })
    }

    /// Where it takes datagrams for the destination.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many sockets have sent something.
    pub fn clients(&self) -> usize {
        self.shared.clients().len()
    }

    /// Cuts the socket off, in both directions, that is the `client`th to send something, counted
    /// from zero, once it has sent so many datagrams.
    pub fn silence(&self, client: usize, after: u64) {
        self.shared.after.store(after, Ordering::SeqCst);
        self.shared.silenced.store(client, Ordering::SeqCst);
    }

    /// Whether that has happened.
    pub fn has_silenced(&self) -> bool {
        let client = self.shared.silenced.load(Ordering::SeqCst);
        let clients = self.shared.clients();
        clients
            .get(client)
            .is_some_and(|client| self.shared.is_silent(client))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        let wake = || UdpSocket::bind("127.0.0.1:0")?.send_to(&[], self.address);
        if wake().is_ok()
            && let Some(onward) = self.onward.take()
        {
            let _ = onward.join();
        }
    }
}

/// What the threads of a relay share.
#[derive(Debug)]
struct Shared {
    front: UdpSocket,
    destination: SocketAddr,
    faults: Faults,
    seed: u64,
    stop: AtomicBool,
    clients: Mutex<Vec<Arc<Client>>>,
    /// Which client is cut off, and after how many datagrams.
    silenced: AtomicUsize,
    after: AtomicU64,
}

/// A socket that sends to the destination. The relay answers for it from one of its own.
#[derive(Debug)]
struct Client {
    number: usize,
    address: SocketAddr,
    back: UdpSocket,
    datagrams: AtomicU64,
}

impl Shared {
    /// Forwards what comes from clients, until it is stopped.
    fn run(self: Arc<Self>) {
        let mut network = Network::new(self.faults, self.seed);
        let mut answers: Vec<JoinHandle<()>> = Vec::new();
        let mut buffer = vec![0; DATAGRAM_MAX];
        while let Ok((length, from)) = self.front.recv_from(&mut buffer) {
            if self.stop.load(Ordering::SeqCst) {
                break;
            }
            let known = self.clients().iter().find(|c| c.address == from).cloned();
            let Ok(client) = known.map_or_else(|| self.add(from), Ok) else {
                continue;
            };
            if client.datagrams.fetch_add(1, Ordering::SeqCst) == 0 {
                let (shared, client) = (Arc::clone(&self), Arc::clone(&client));
                answers.push(thread::spawn(move || shared.answer(&client)));
            }
            if self.is_silent(&client) {
                continue;
            }
            let datagram = buffer.get(..length).unwrap_or_default().to_vec();
            for datagram in network.pass(datagram) {
                // A full socket is one more fault of the network.
                let _ = client.back.send_to(&datagram, self.destination);
            }
        }
        for client in self.clients().iter() {
            let own = client.back.local_addr();
            let _ = own.and_then(|own| self.front.send_to(&[], own));
        }
        for thread in answers {
            let _ = thread.join();
        }
    }

    /// Forwards what comes back for one client.
    fn answer(&self, client: &Client) {
        let mut network = Network::new(self.faults, !self.seed);
        let mut buffer = vec![0; DATAGRAM_MAX];
        while let Ok((length, _)) = client.back.recv_from(&mut buffer) {
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            if self.is_silent(client) {
                continue;
            }
            let datagram = buffer.get(..length).unwrap_or_default().to_vec();
            for datagram in network.pass(datagram) {
                let _ = self.front.send_to(&datagram, client.address);
            }
        }
    }

    fn add(&self, address: SocketAddr) -> std::io::Result<Arc<Client>> {
        let back = UdpSocket::bind("127.0.0.1:0")?;
        let mut clients = self.clients();
        let client = Arc::new(Client {
            number: clients.len(),
            address,
            back,
            datagrams: AtomicU64::new(0),
        });
        clients.push(Arc::clone(&client));
        Ok(client)
    }

    fn is_silent(&self, client: &Client) -> bool {
        client.number == self.silenced.load(Ordering::SeqCst)
            && client.datagrams.load(Ordering::SeqCst) > self.after.load(Ordering::SeqCst)
    }

    fn clients(&self) -> MutexGuard<'_, Vec<Arc<Client>>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
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
