//! The destination's end: one port, on which sessions arrive over QUIC and over TCP.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use livmig_proto::identity::{self, PrivateKey, PublicKey};
use quinn::VarInt;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    task::JoinHandle,
    time::error::Elapsed,
};

use super::{
    accepted::{Arriving, pump},
    hello::{Hello, Purpose, Token},
    quic::{self, QuicError},
    refusal::SessionRefusal,
    stream::{RecvStream, SendStream, Tls, TlsSocket, halves},
    tcp,
    tls::ServerTls,
};

pub use super::accepted::Incoming;

/// Handshakes under way at once over each protocol; more wait in the kernel's queue, or QUIC's.
const HANDSHAKES_MAX: usize = 64;

/// Sessions that may wait to be accepted.
const SESSIONS_MAX: usize = 16;

/// Sessions that are remembered, so that what comes too late for one is known as such.
const REMEMBERED_MAX: usize = 64;

/// Why a QUIC connection is ended that belongs to no session.
const REFUSED: VarInt = VarInt::from_u32(3);

/// How long nothing is accepted after that has failed.
const PAUSE: Duration = Duration::from_millis(100);

/// Ports that are tried until one is free for both protocols.
const PORTS_TRIED: usize = 16;

/// Listens for sessions of one source.
#[derive(Debug)]
pub struct Listener {
    address: SocketAddr,
    endpoints: Vec<quinn::Endpoint>,
    tasks: Vec<JoinHandle<()>>,
}

impl Listener {
    /// Listens at `address` for the holder of `peer`: the listener, which ends with [`close`], and
    /// the sessions as they begin. To be called within a runtime.
    ///
    /// [`close`]: Self::close
    pub fn bind(
        address: SocketAddr,
        own: &PrivateKey,
        peer: &PublicKey,
    ) -> Result<(Self, mpsc::Receiver<Incoming>), QuicError> {
        let (endpoints, listener) = sockets(address, own, peer)?;
        let address = listener.local_addr()?;
        let (begun, sessions) = mpsc::channel(SESSIONS_MAX);
        let tls = identity::server_config(own, peer, tcp::ALPN)?;
        let doorman = Arc::new(Doorman {
            tls: Arc::new(tls),
            begun,
            sessions: Mutex::default(),
        });
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        let mut tasks: Vec<_> = endpoints
            .iter()
            .map(|endpoint| {
                let doorman = Arc::clone(&doorman);
                tokio::spawn(doorman.accept_quic(endpoint.clone(), Arc::clone(&handshakes)))
            })
            .collect();
        tasks.push(tokio::spawn(doorman.accept_tcp(listener)));
        let listener = Self {
            address,
            endpoints,
            tasks,
        };
        Ok((listener, sessions))
    }

    /// Where it listens, over both protocols.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it and waits until a peer has heard of it.
    pub async fn close(self) {
        for endpoint in &self.endpoints {
            endpoint.close(0_u32.into(), b"done");
        }
        for task in &self.tasks {
            task.abort();
        }
        quic::farewell(&self.endpoints).await;
    }
}

/// A port for both protocols.
fn sockets(
    address: SocketAddr,
    own: &PrivateKey,
    peer: &PublicKey,
) -> Result<(Vec<quinn::Endpoint>, TcpListener), QuicError> {
    let mut tried = 0;
    loop {
        let endpoints = quic::listen(address, own, peer, quic::cores())?;
        let bound = endpoints
            .first()
            .map_or(Ok(address), quinn::Endpoint::local_addr)?;
        let listener = std::net::TcpListener::bind(bound).and_then(|listener| {
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        });
        tried += 1;
        match listener {
            Ok(listener) => return Ok((endpoints, listener)),
            // Any port will do, and this one is free for one of the two only.
            Err(error)
                if address.port() == 0
                    && error.kind() == io::ErrorKind::AddrInUse
                    && tried < PORTS_TRIED => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Lets connections in and brings each to its session.
struct Doorman {
    tls: Arc<rustls::ServerConfig>,
    begun: mpsc::Sender<Incoming>,
    sessions: Mutex<Sessions>,
}

/// The sessions that were begun last, also those that are over.
type Sessions = VecDeque<(Token, Weak<Arriving>)>;

impl Doorman {
    async fn accept_quic(self: Arc<Self>, endpoint: quinn::Endpoint, handshakes: Arc<Semaphore>) {
        while let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await {
            let Some(incoming) = endpoint.accept().await else {
                return;
            };
            // Whoever only pretends to be at an address would keep others out for nothing.
            if handshakes.available_permits() < HANDSHAKES_MAX / 2 && incoming.may_retry() {
                let _ = incoming.retry();
                continue;
            }
            let doorman = Arc::clone(&self);
            tokio::spawn(async move {
                let from = incoming.remote_address();
                let admitted =
                    tokio::time::timeout(quic::HANDSHAKE, doorman.admit_quic(incoming)).await;
                drop(permit);
                report(from, admitted);
            });
        }
    }

    async fn admit_quic(&self, incoming: quinn::Incoming) -> Result<(), SessionRefusal> {
        let connection = incoming.await.map_err(SessionRefusal::unmade)?;
        let admitted = self.admit_connection(&connection).await;
        if let Err(error) = &admitted {
            connection.close(REFUSED, error.to_string().as_bytes());
        }
        admitted
    }

    async fn admit_connection(&self, connection: &quinn::Connection) -> Result<(), SessionRefusal> {
        let (mut send, mut receive) = connection
            .accept_bi()
            .await
            .map_err(SessionRefusal::unmade)?;
        let hello = Hello::read(&mut receive)
            .await
            .map_err(SessionRefusal::unsaid)?;
        let session = match hello.purpose {
            Purpose::Begin => self.begin(hello.token)?,
            Purpose::Join => self.session(hello.token)?,
            Purpose::OneWay | Purpose::BothWays => return Err(misplaced()),
        };
        (session.bundle.add(connection)).map_err(SessionRefusal::of_session)?;
        let begins = hello.purpose == Purpose::Begin;
        let arriving = pump(Arc::downgrade(&session), connection.clone(), hello.purpose);
        tokio::spawn(arriving);
        if begins {
            let control = (SendStream::Quic(send), RecvStream::Quic(receive));
            (session.both_ways.push(control)).map_err(SessionRefusal::of_session)?;
            let _ = self.begun.send(Incoming(session)).await;
        } else {
            let answered = async {
                send.write_all(&hello.encode()).await?;
                send.shutdown().await
            };
            answered.await.map_err(SessionRefusal::unsaid)?;
        }
        Ok(())
    }

    async fn accept_tcp(self: Arc<Self>, listener: TcpListener) {
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        while let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await {
            let (socket, from) = match listener.accept().await {
                Ok(accepted) => accepted,
                // Out of descriptors, or a connection that has gone already. Nothing tells when
                // there are some again.
                Err(error) => {
                    tracing::warn!("data: could not accept a connection: {error}");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let doorman = Arc::clone(&self);
            tokio::spawn(async move {
                let admitted =
                    tokio::time::timeout(tcp::HANDSHAKE, doorman.admit_tcp(socket)).await;
                drop(permit);
                report(from, admitted);
            });
        }
    }

    async fn admit_tcp(&self, socket: TcpStream) -> Result<(), SessionRefusal> {
        tcp::prepare(&socket)?;
        let handle = tcp::handle(&socket)?;
        let accepted = ServerTls::accept(Arc::clone(&self.tls), socket).await;
        let mut tls = Tls::Server(Box::new(accepted.map_err(SessionRefusal::unsaid)?));
        let Hello { token, purpose } = Hello::read(&mut tls)
            .await
            .map_err(SessionRefusal::unsaid)?;
        let session = match purpose {
            Purpose::Begin => self.begin(token)?,
            Purpose::OneWay | Purpose::BothWays => self.session(token)?,
            Purpose::Join => return Err(misplaced()),
        };
        (session.sockets.add(&handle)).map_err(SessionRefusal::of_session)?;
        let (send, receive) = halves(TlsSocket { tls, handle });
        if purpose == Purpose::OneWay {
            return session
                .one_way
                .push(receive)
                .map_err(SessionRefusal::of_session);
        }
        (session.both_ways.push((send, receive))).map_err(SessionRefusal::of_session)?;
        if purpose == Purpose::Begin {
            let _ = self.begun.send(Incoming(session)).await;
        }
        Ok(())
    }

    fn begin(&self, token: Token) -> Result<Arc<Arriving>, SessionRefusal> {
        let session = Arc::new(Arriving::default());
        let mut sessions = self.lock();
        if sessions.iter().any(|(known, _)| *known == token) {
            return Err(io::Error::other("a session was begun twice").into());
        }
        if sessions.len() >= REMEMBERED_MAX {
            // The oldest of those that are over.
            let over = sessions.iter().position(|(_, at)| at.strong_count() == 0);
            over.and_then(|over| sessions.remove(over));
        }
        sessions.push_back((token, Arc::downgrade(&session)));
        Ok(session)
    }

    fn session(&self, token: Token) -> Result<Arc<Arriving>, SessionRefusal> {
        let sessions = self.lock();
        let known = sessions.iter().find(|(known, _)| *known == token);
        let (_, session) = known.ok_or_else(|| io::Error::other("no such session"))?;
        session.upgrade().ok_or(SessionRefusal::Late)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// It says that it is for something that this protocol has no connections for.
fn misplaced() -> SessionRefusal {
    io::Error::from(io::ErrorKind::InvalidData).into()
}

fn report(from: SocketAddr, admitted: Result<Result<(), SessionRefusal>, Elapsed>) {
    match admitted {
        Ok(Ok(())) => {}
        Ok(Err(refusal)) if refusal.is_harmless() => {
            tracing::debug!("data: connection from {from}: {refusal}");
        }
        Ok(Err(refusal)) => tracing::warn!("data: connection from {from}: {refusal}"),
        Err(_) => tracing::warn!("data: handshake with {from} took too long"),
    }
}

#[cfg(test)]
mod tests;
