//! The source's end of a session over QUIC: several connections, each with a socket of its own.
//!
//! ```text
//! source                                             destination, same port as TCP
//!   | == connect (both keys pinned) ====================> |
//!   | -- first stream: Hello{begin}, then control ------> |   a session with this token
//!   | == connect, from another socket ==================> |
//!   | -- first stream: Hello{join, token} --------------> |   one more way into it
//!   | <------------------------------- the same, as a yes |
//! ```
//!
//! A lane or a query takes the next connection in turn. The loss of one is the loss of all: what
//! was under way on it is gone, and only a new session finds out what arrived.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use livmig_proto::identity::{PrivateKey, PublicKey};
use quinn::{ClientConfig, Connecting, Connection, Endpoint};
use tokio::{io::AsyncWriteExt as _, task::JoinSet, time::timeout};

use super::{
    hello::{Hello, Purpose, Token},
    quic::{self, HANDSHAKE, QuicError},
    quic_connections::Bundle,
    stream::{RecvStream, SendStream},
};
use crate::random::random;

/// How long further connections may take once one is there.
const PATIENCE: Duration = Duration::from_secs(1);

/// A session from the source's side: opens its streams.
#[derive(Debug)]
pub struct QuicDialer {
    address: SocketAddr,
    config: ClientConfig,
    pub(super) token: Token,
    pub(super) bundle: Arc<Bundle>,
    endpoints: Vec<Endpoint>,
    lanes: AtomicUsize,
    queries: AtomicUsize,
    /// Tasks that end all connections when one is lost. They end with this.
    watching: JoinSet<()>,
}

impl QuicDialer {
    /// Begins a session with the holder of `peer` at `address`; its control stream.
    pub(super) async fn begin(
        address: SocketAddr,
        own: &PrivateKey,
        peer: &PublicKey,
    ) -> Result<(Self, SendStream, RecvStream), QuicError> {
        let config = quic::client(address, own, peer)?;
        let (endpoint, connecting) = quic::connect(address, config.clone())?;
        let connection = timeout(HANDSHAKE, connecting)
            .await
            .map_err(|_| QuicError::Timeout)??;
        let token = random();
        let hello = Hello {
            token,
            purpose: Purpose::Begin,
        };
        let (send, receive) = connection.open_bi().await?;
        let mut send = SendStream::Quic(send);
        // Control is never behind bulk.
        send.prefer();
        send.write_bytes(Bytes::copy_from_slice(&hello.encode()))
            .await
            .map_err(QuicError::Hello)?;
        let mut this = Self {
            address,
            config,
            token,
            bundle: Arc::default(),
            endpoints: Vec::new(),
            lanes: AtomicUsize::new(0),
            queries: AtomicUsize::new(0),
            watching: JoinSet::new(),
        };
        this.add(endpoint, connection).map_err(QuicError::Hello)?;
        Ok((this, send, RecvStream::Quic(receive)))
    }

    /// Opens further connections, until there are `count`; fewer where some do not get through
    /// soon. The destination must have answered on the control stream before, or it would not know
    /// the session. No stream may have been opened yet, and this is done once.
    pub(super) async fn widen(&mut self, count: usize) {
        let mut joining = JoinSet::new();
        for _ in self.endpoints.len()..count {
            match quic::connect(self.address, self.config.clone()) {
                Ok((endpoint, connecting)) => {
                    joining.spawn(timeout(PATIENCE, join(endpoint, connecting, self.token)));
                }
                Err(error) => tracing::debug!("no further connection: {error}"),
            }
        }
        while let Some(joined) = joining.join_next().await {
            match joined {
                Ok(Ok(Ok((endpoint, connection)))) => {
                    if let Err(error) = self.add(endpoint, connection) {
                        tracing::debug!("no further connection: {error}");
                    }
                }
                Ok(Ok(Err(error))) => tracing::debug!("no further connection: {error}"),
                _ => tracing::debug!("a further connection took too long"),
            }
        }
        self.bundle.complete();
        let connections = self.endpoints.len();
        tracing::debug!(connections, "connected to {} by QUIC", self.address);
    }

    fn add(&mut self, endpoint: Endpoint, connection: Connection) -> io::Result<()> {
        self.bundle.add(&connection)?;
        self.endpoints.push(endpoint);
        let bundle = Arc::clone(&self.bundle);
        self.watching.spawn(async move {
            let why = connection.closed().await;
            tracing::debug!("a connection of the session has ended: {why}");
            bundle.close(1, "a connection of the session was lost");
        });
        Ok(())
    }

    /// Opens a lane.
    pub(super) async fn open_uni(&self) -> io::Result<SendStream> {
        let turns = self.lanes.fetch_add(1, Ordering::Relaxed);
        let stream = self.bundle.turn(turns)?.open_uni().await?;
        Ok(SendStream::Quic(stream))
    }

    /// Opens a stream both ways.
    pub(super) async fn open_bi(&self) -> io::Result<(SendStream, RecvStream)> {
        let turns = self.queries.fetch_add(1, Ordering::Relaxed);
        let (send, receive) = self.bundle.turn(turns)?.open_bi().await?;
        Ok((SendStream::Quic(send), RecvStream::Quic(receive)))
    }

    /// Ends all connections.
    pub(super) fn close(&self, code: u32, reason: &'static str) {
        self.bundle.close(code, reason);
    }

    /// Waits, not for long, until the peer has heard that they ended.
    pub(super) async fn wait_closed(&self) {
        quic::farewell(&self.endpoints).await;
    }
}

/// Joins the session of this token by a connection that is being made.
pub(super) async fn join(
    endpoint: Endpoint,
    connecting: Connecting,
    token: Token,
) -> Result<(Endpoint, Connection), QuicError> {
    let connection = connecting.await?;
    let (mut send, mut receive) = connection.open_bi().await?;
    let hello = Hello {
        token,
        purpose: Purpose::Join,
    };
    let answered = async {
        send.write_all(&hello.encode()).await?;
        send.shutdown().await?;
        Hello::read(&mut receive).await
    };
    if answered.await.map_err(QuicError::Hello)? != hello {
        return Err(QuicError::Hello(io::ErrorKind::InvalidData.into()));
    }
    Ok((endpoint, connection))
}
