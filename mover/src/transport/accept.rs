//! The destination's end: one port, on which sessions arrive over QUIC and over TCP.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use livmig_proto::identity::{self, PrivateKey, PublicKey};
use quinn::VarInt;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    task::JoinHandle,
};

use super::{
    hello::{Hello, Purpose, Token},
    quic::{self, QuicError},
    stream::{RecvStream, SendStream, Tls, TlsSocket, halves},
    tcp::{self, Sockets},
    tls::ServerTls,
};

/// Handshakes over TCP under way at once; more wait in the kernel's queue.
const HANDSHAKES_MAX: usize = 64;

/// Streams of one session that may wait to be accepted, of each kind.
const WAITING_MAX: usize = 64;

/// Sessions that may wait to be accepted.
const SESSIONS_MAX: usize = 16;

/// How long nothing is accepted after that has failed.
const PAUSE: Duration = Duration::from_millis(100);

/// Ports that are tried until one is free for both protocols.
const PORTS_TRIED: usize = 16;

/// A session that a source has begun.
#[derive(Clone, Debug)]
pub enum Incoming {
    /// Over QUIC.
    Quic(quinn::Connection),
    /// Over TCP.
    Tcp(Arc<Accepted>),
}

/// A session over TCP: its streams, as they arrive.
#[derive(Debug)]
pub struct Accepted {
    one_way: Arrivals,
    both_ways: Arrivals,
    sockets: Sockets,
}

/// Streams on their way to whoever accepts them.
#[derive(Debug)]
struct Arrivals {
    arrived: mpsc::Sender<TlsSocket>,
    waiting: tokio::sync::Mutex<mpsc::Receiver<TlsSocket>>,
}

impl Arrivals {
    fn new() -> Self {
        let (arrived, waiting) = mpsc::channel(WAITING_MAX);
        let waiting = tokio::sync::Mutex::new(waiting);
        Self { arrived, waiting }
    }

    /// The next one. May be dropped at any time: nothing is lost.
    async fn next(&self) -> Option<TlsSocket> {
        self.waiting.lock().await.recv().await
    }
}

impl Incoming {
    /// The next lane; none once the session is over.
    pub async fn accept_uni(&self) -> Option<RecvStream> {
        match self {
            Self::Quic(connection) => connection.accept_uni().await.ok().map(RecvStream::Quic),
            Self::Tcp(session) => session.one_way.next().await.map(|stream| halves(stream).1),
        }
    }

    /// The next stream both ways, of which the first is the control stream; none once the session
    /// is over.
    pub async fn accept_bi(&self) -> Option<(SendStream, RecvStream)> {
        match self {
            Self::Quic(connection) => {
                let (send, receive) = connection.accept_bi().await.ok()?;
                Some((SendStream::Quic(send), RecvStream::Quic(receive)))
            }
            Self::Tcp(session) => session.both_ways.next().await.map(halves),
        }
    }

    /// Ends the session, at both sides.
    pub fn close(&self, code: u32, reason: &'static str) {
        match self {
            Self::Quic(connection) => {
                connection.close(VarInt::from_u32(code), reason.as_bytes());
            }
            Self::Tcp(session) => session.sockets.close(),
        }
    }
}

/// Listens for sessions of one source.
#[derive(Debug)]
pub struct Listener {
    address: SocketAddr,
    endpoint: quinn::Endpoint,
    tasks: [JoinHandle<()>; 2],
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
        let (endpoint, listener) = sockets(address, own, peer)?;
        let (begun, sessions) = mpsc::channel(SESSIONS_MAX);
        let tls = identity::server_config(own, peer, tcp::ALPN)?;
        let doorman = Doorman {
            tls: Arc::new(tls),
            begun: begun.clone(),
            sessions: Mutex::default(),
        };
        Ok((
            Self {
                address: endpoint.local_addr()?,
                tasks: [
                    tokio::spawn(accept_quic(endpoint.clone(), begun)),
                    tokio::spawn(Arc::new(doorman).accept_tcp(listener)),
                ],
                endpoint,
            },
            sessions,
        ))
    }

    /// Where it listens, over both protocols.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it and waits until a peer has heard of it.
    pub async fn close(self) {
        self.endpoint.close(0_u32.into(), b"done");
        for task in &self.tasks {
            task.abort();
        }
        let _ = tokio::time::timeout(Duration::from_secs(1), self.endpoint.wait_idle()).await;
    }
}

/// A port for both protocols.
fn sockets(
    address: SocketAddr,
    own: &PrivateKey,
    peer: &PublicKey,
) -> Result<(quinn::Endpoint, TcpListener), QuicError> {
    let mut tried = 0;
    loop {
        let endpoint = quic::listen(address, own, peer)?;
        let listener = std::net::TcpListener::bind(endpoint.local_addr()?).and_then(|listener| {
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        });
        tried += 1;
        match listener {
            Ok(listener) => return Ok((endpoint, listener)),
            // Any port will do, and this one is free for one of the two only.
            Err(error)
                if address.port() == 0
                    && error.kind() == io::ErrorKind::AddrInUse
                    && tried < PORTS_TRIED => {}
            Err(error) => return Err(error.into()),
        }
    }
}

async fn accept_quic(endpoint: quinn::Endpoint, begun: mpsc::Sender<Incoming>) {
    while let Some(incoming) = endpoint.accept().await {
        let begun = begun.clone();
        tokio::spawn(async move {
            let from = incoming.remote_address();
            match tokio::time::timeout(quic::HANDSHAKE, incoming).await {
                Ok(Ok(connection)) => {
                    let _ = begun.send(Incoming::Quic(connection)).await;
                }
                Ok(Err(error)) => tracing::warn!("data: handshake with {from}: {error}"),
                Err(_) => tracing::warn!("data: handshake with {from} took too long"),
            }
        });
    }
}

/// Lets TCP connections in and brings each to its session.
struct Doorman {
    tls: Arc<rustls::ServerConfig>,
    begun: mpsc::Sender<Incoming>,
    sessions: Mutex<HashMap<Token, Weak<Accepted>>>,
}

impl Doorman {
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
                let admitted = tokio::time::timeout(tcp::HANDSHAKE, doorman.admit(socket)).await;
                drop(permit);
                match admitted {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::warn!("data: connection from {from}: {error}"),
                    Err(_) => tracing::warn!("data: handshake with {from} took too long"),
                }
            });
        }
    }

    async fn admit(&self, socket: TcpStream) -> io::Result<()> {
        tcp::prepare(&socket)?;
        let handle = tcp::handle(&socket)?;
        let accepted = ServerTls::accept(Arc::clone(&self.tls), socket).await?;
        let mut tls = Tls::Server(Box::new(accepted));
        let Hello { token, purpose } = Hello::read(&mut tls).await?;
        let session = match purpose {
            Purpose::Begin => self.begin(token)?,
            Purpose::OneWay | Purpose::BothWays => self.session(token)?,
        };
        session.sockets.add(&handle)?;
        let arrivals = match purpose {
            Purpose::OneWay => &session.one_way,
            Purpose::Begin | Purpose::BothWays => &session.both_ways,
        };
        arrivals
            .arrived
            .try_send(TlsSocket { tls, handle })
            .map_err(|_| io::Error::other("too many streams of one session"))?;
        if purpose == Purpose::Begin {
            let _ = self.begun.send(Incoming::Tcp(session)).await;
        }
        Ok(())
    }

    fn begin(&self, token: Token) -> io::Result<Arc<Accepted>> {
        let session = Arc::new(Accepted {
            one_way: Arrivals::new(),
            both_ways: Arrivals::new(),
            sockets: Sockets::default(),
        });
        let mut sessions = self.lock();
        sessions.retain(|_, session| session.strong_count() > 0);
        if sessions.contains_key(&token) {
            return Err(io::Error::other("a session was begun twice"));
        }
        sessions.insert(token, Arc::downgrade(&session));
        Ok(session)
    }

    fn session(&self, token: Token) -> io::Result<Arc<Accepted>> {
        let session = self.lock().get(&token).and_then(Weak::upgrade);
        session.ok_or_else(|| io::Error::other("a stream of a session that is over"))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Token, Weak<Accepted>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
