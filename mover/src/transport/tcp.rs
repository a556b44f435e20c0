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
    io::{AsyncWriteExt as _, BufReader},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::{
    hello::{Hello, Purpose, Token},
    stream::{Tls, TlsSocket},
    tls,
};
use crate::random::random;

/// What TLS over TCP is agreed on as.
pub(super) const ALPN: &[u8] = b"livmig-data-tcp/1";

/// How long a connection and its handshake may take, whatever the peer trickles.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(10);

/// Bytes of a frame that TLS encrypts before they are handed to the socket.
const SEAL: usize = 256 << 10;

/// What may stay unanswered before the path counts as lost, as over QUIC.
const LOST_AFTER: Duration = Duration::from_secs(30);
/// When a quiet connection is asked for a sign of life, and how often.
const KEEP_ALIVE: Duration = Duration::from_secs(3);

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
        let socket = BufReader::with_capacity(tls::FETCH, socket);
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
    use tokio::io::AsyncReadExt as _;

    use super::*;

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
