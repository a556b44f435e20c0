//! TLS 1.3 over TCP between the movers: a connection of its own for every stream, so that none
//! waits behind another.
//!
//! ```text
//! source                                             destination, same port as QUIC
//!   | == connect (both keys pinned), Hello{begin} ======> |   a session with this token
//!   | == connect, Hello{one way, token} ================> |   a lane of it
//!   | == connect, Hello{both ways, token} ==============> |   queries
//! ```
//!
//! Every connection proves the same keys; the token, drawn by the source, only tells the streams
//! of one session from those of the one before.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use livmig_proto::identity::{self, IdentityError, PrivateKey, PublicKey, SERVER_NAME};
use rustix::net::{Shutdown, sockopt};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::stream::{Tls, TlsSocket};
use crate::random::random;

/// What TLS over TCP is agreed on as.
pub(super) const ALPN: &[u8] = b"livmig-data-tcp/1";

/// How long a connection and its handshake may take, whatever the peer trickles.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(10);

/// Bytes that are fetched from a socket at once.
pub(super) const FETCH: usize = 256 << 10;

/// Bytes of a frame that TLS encrypts before they are handed to the socket.
const SEAL: usize = 256 << 10;

/// What may stay unanswered before the path counts as lost, as over QUIC.
const LOST_AFTER: Duration = Duration::from_secs(30);
/// When a quiet connection is asked for a sign of life, and how often.
const KEEP_ALIVE: Duration = Duration::from_secs(3);

/// Names the session that a stream belongs to.
pub(super) type Token = [u8; 16];

/// What a connection is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Purpose {
    /// The first of a session, which it begins.
    Begin,
    /// A lane.
    OneWay,
    /// Queries and their answers.
    BothWays,
}

/// The first bytes of every connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Hello {
    pub(super) token: Token,
    pub(super) purpose: Purpose,
}

impl Hello {
    const LEN: usize = 17;

    fn encode(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let purpose = match self.purpose {
            Purpose::Begin => 1,
            Purpose::OneWay => 2,
            Purpose::BothWays => 3,
        };
        let (token, rest) = bytes.split_at_mut(self.token.len());
        token.copy_from_slice(&self.token);
        rest.fill(purpose);
        bytes
    }

    fn decode(bytes: [u8; Self::LEN]) -> Option<Self> {
        let (token, purpose) = bytes.split_at(16);
        let purpose = match purpose {
            [1] => Purpose::Begin,
            [2] => Purpose::OneWay,
            [3] => Purpose::BothWays,
            _ => return None,
        };
        Some(Self {
            token: Token::try_from(token).ok()?,
            purpose,
        })
    }

    /// Reads one.
    pub(super) async fn read(stream: &mut Tls) -> io::Result<Self> {
        let mut bytes = [0; Self::LEN];
        stream.read_exact(&mut bytes).await?;
        Self::decode(bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

/// The sockets of a session that are still in use, to end all of them at once.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    open: Mutex<Vec<Weak<OwnedFd>>>,
    closed: AtomicBool,
}

impl Sockets {
    /// Remembers a socket by a second handle of it.
    pub(super) fn add(&self, handle: &Arc<OwnedFd>) -> io::Result<()> {
        {
            let mut open = self.lock();
            open.retain(|handle| handle.strong_count() > 0);
            open.push(Arc::downgrade(handle));
        }
        // Closed meanwhile: this one too.
        if self.closed.load(Ordering::SeqCst) {
            self.close();
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }

    /// Ends every connection, for both sides. What was written before still arrives.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        for handle in self.lock().drain(..).filter_map(|handle| handle.upgrade()) {
            let _ = rustix::net::shutdown(handle, Shutdown::Both);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<OwnedFd>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A second handle of `socket`.
pub(super) fn handle(socket: impl AsFd) -> io::Result<Arc<OwnedFd>> {
    Ok(Arc::new(socket.as_fd().try_clone_to_owned()?))
}

/// A session from the source's side: opens its streams.
#[derive(Debug)]
pub struct Dialer {
    address: SocketAddr,
    tls: Arc<rustls::ClientConfig>,
    token: Token,
    sockets: Sockets,
}

impl Dialer {
    /// A session with the holder of `peer` at `address`; nothing is connected yet.
    pub fn new(
        address: SocketAddr,
        own: &PrivateKey,
        peer: &PublicKey,
    ) -> Result<Self, IdentityError> {
        Ok(Self {
            address,
            tls: Arc::new(identity::client_config(own, peer, ALPN)?),
            token: random(),
            sockets: Sockets::default(),
        })
    }

    /// Opens a stream.
    ///
    /// # Errors
    /// `TimedOut` when nobody answers.
    pub(super) async fn open(&self, purpose: Purpose) -> io::Result<TlsSocket> {
        tokio::time::timeout(HANDSHAKE, self.connect(purpose))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    async fn connect(&self, purpose: Purpose) -> io::Result<TlsSocket> {
        let socket = TcpStream::connect(self.address).await?;
        prepare(&socket)?;
        let handle = handle(&socket)?;
        self.sockets.add(&handle)?;
        let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?;
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        let socket = BufReader::with_capacity(FETCH, socket);
        let mut tls = connector.connect(name, socket).await?;
        tls.get_mut().1.set_buffer_limit(Some(SEAL));
        let mut tls = Tls::Client(Box::new(tls));
        let hello = Hello {
            token: self.token,
            purpose,
        };
        tls.write_all(&hello.encode()).await?;
        tls.flush().await?;
        Ok(TlsSocket { tls, handle })
    }

    /// Ends all streams.
    pub(super) fn close(&self) {
        self.sockets.close();
    }
}

/// Sets what every connection has: no waiting for more to send, and an end when the path is lost.
pub(super) fn prepare(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, KEEP_ALIVE)?;
    sockopt::set_tcp_keepintvl(socket, KEEP_ALIVE)?;
    // A socket that has something to send is not asked for signs of life; this ends it then.
    let lost_after = u32::try_from(LOST_AFTER.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(socket, lost_after)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_survives_its_bytes_and_nothing_else_is_one() {
        for purpose in [Purpose::Begin, Purpose::OneWay, Purpose::BothWays] {
            let hello = Hello {
                token: [7; 16],
                purpose,
            };
            assert_eq!(Hello::decode(hello.encode()), Some(hello));
        }
        for purpose in [0, 4, 255] {
            let mut bytes = [7; Hello::LEN];
            bytes[16] = purpose;
            assert_eq!(Hello::decode(bytes), None);
        }
    }

    #[tokio::test]
    async fn sockets_that_come_after_the_end_end_too() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connect = || TcpStream::connect(listener.local_addr().unwrap());
        let sockets = Sockets::default();
        let mut early = connect().await.unwrap();
        let early_handle = handle(&early).unwrap();
        sockets.add(&early_handle).unwrap();
        sockets.close();
        assert_eq!(early.read(&mut [0]).await.unwrap(), 0);
        let mut late = connect().await.unwrap();
        let late_handle = handle(&late).unwrap();
        assert!(sockets.add(&late_handle).is_err());
        assert_eq!(late.read(&mut [0]).await.unwrap(), 0);
    }
}
