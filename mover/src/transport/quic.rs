//! QUIC between the movers: endpoints that prove and pin keys, tuned for a data centre.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use livmig_proto::{
    frame,
    identity::{self, IdentityError, PrivateKey, PublicKey, SERVER_NAME},
};
use quinn::{
    AckFrequencyConfig, ClientConfig, Connection, Endpoint, EndpointConfig, MtuDiscoveryConfig,
    ServerConfig, TokioRuntime, TransportConfig, VarInt,
    crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig},
};

/// Bytes that may be under way and unread, in all lanes together. It is part of each side's
/// budget of 48 MiB; lanes, their queues and the threads' buffers are the rest.
const WINDOW: u32 = 12 << 20;

/// Bytes that one lane may have under way.
const STREAM_WINDOW: u32 = 6 << 20;

/// Lanes at once. A mover opens one a thread; each may have some frames in memory.
const LANES_MAX: u32 = 16;

/// Queries at once.
const QUERIES_MAX: u32 = 64;

/// The largest datagram over the loopback device, whose MTU is 65 536; two of them fit what one
/// system call may send at once.
const LOOPBACK_DATAGRAM: u16 = 8_928;

/// The largest datagram elsewhere: a 9000-byte MTU less headers. Discovery finds what holds.
const NETWORK_DATAGRAM: u16 = 8_928;

/// How long nothing may be heard. A destination says nothing while it flushes a slow disk, but
/// keep-alives go on, so only a dead peer or path is quiet.
const IDLE: Duration = Duration::from_secs(30);

/// After how long larger datagrams are tried again when some were lost.
const BLACK_HOLE: Duration = Duration::from_millis(500);

const KEEP_ALIVE: Duration = Duration::from_secs(3);

/// How long a handshake may take, whatever the peer trickles.
pub const HANDSHAKE: Duration = Duration::from_secs(10);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum QuicError {
    /// The keys are unusable.
    #[error("could not set up TLS for the data connection")]
    Identity(#[from] IdentityError),
    /// The cipher suites lack what QUIC needs first.
    #[error("could not set up QUIC's first cipher suite")]
    Cipher(#[from] NoInitialCipherSuite),
    /// No socket.
    #[error("could not open a UDP socket")]
    Socket(#[from] std::io::Error),
    /// The address cannot be connected to.
    #[error("could not start a connection")]
    Connect(#[from] quinn::ConnectError),
    /// The handshake failed.
    #[error("could not connect")]
    Connection(#[from] quinn::ConnectionError),
    /// The connection over TCP failed.
    #[error("could not connect by TCP")]
    Tcp(#[source] std::io::Error),
    /// The handshake did not end.
    #[error("no answer within {} seconds", HANDSHAKE.as_secs())]
    Timeout,
}

/// An endpoint at `address` that accepts connections from the holder of `peer`.
pub fn listen(
    address: SocketAddr,
    own: &PrivateKey,
    peer: &PublicKey,
) -> Result<Endpoint, QuicError> {
    let tls = identity::server_config(own, peer, frame::ALPN)?;
    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    config.transport_config(Arc::new(transport(address)));
    // A mover stays where it is; a peer that moves is not one of ours.
    config.migration(false);
    config.max_incoming(16);
    endpoint(address, Some(config))
}

/// A connection to the holder of `peer` at `address`, and the endpoint that carries it.
pub async fn connect(
    address: SocketAddr,
    own: &PrivateKey,
    peer: &PublicKey,
) -> Result<(Endpoint, Connection), QuicError> {
    let local: SocketAddr = match address {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
    };
    let tls = identity::client_config(own, peer, frame::ALPN)?;
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(Arc::new(transport(address)));
    let endpoint = endpoint(
        if address.ip().is_loopback() {
            loopback(local)
        } else {
            local
        },
        None,
    )?;
    let connecting = endpoint.connect_with(config, address, SERVER_NAME)?;
    let connection = tokio::time::timeout(HANDSHAKE, connecting)
        .await
        .map_err(|_| QuicError::Timeout)??;
    Ok((endpoint, connection))
}

fn loopback(local: SocketAddr) -> SocketAddr {
    match local {
        SocketAddr::V4(_) => ([127, 0, 0, 1], 0).into(),
        SocketAddr::V6(_) => ([0, 0, 0, 0, 0, 0, 0, 1_u16], 0).into(),
    }
}

fn endpoint(address: SocketAddr, server: Option<ServerConfig>) -> Result<Endpoint, QuicError> {
    let socket = std::net::UdpSocket::bind(address)?;
    // A batch of datagrams must fit while the receiving thread is busy. The kernel grants what
    // its limit allows, and that is fine.
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 8 << 20);
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(&socket, 8 << 20);
    let mut config = EndpointConfig::default();
    let largest = if address.ip().is_loopback() {
        LOOPBACK_DATAGRAM
    } else {
        NETWORK_DATAGRAM
    };
    // The only error is a size below QUIC's minimum.
    let _ = config.max_udp_payload_size(largest);
    Ok(Endpoint::new(
        config,
        server,
        socket,
        Arc::new(TokioRuntime),
    )?)
}

fn transport(address: SocketAddr) -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .receive_window(VarInt::from_u32(WINDOW))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .send_window(u64::from(WINDOW))
        .send_fairness(false)
        .max_concurrent_uni_streams(VarInt::from_u32(LANES_MAX))
        .max_concurrent_bidi_streams(VarInt::from_u32(QUERIES_MAX))
        .datagram_receive_buffer_size(None)
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(IDLE.try_into().ok())
        .initial_rtt(Duration::from_millis(2));
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(10));
    config.ack_frequency_config(Some(acks));
    let mut discovery = MtuDiscoveryConfig::default();
    // A burst that a full socket drops looks like a path that no longer takes large datagrams.
    discovery.black_hole_cooldown(BLACK_HOLE);
    if address.ip().is_loopback() {
        // Nothing to discover at first: the device takes any datagram.
        config.initial_mtu(LOOPBACK_DATAGRAM);
        discovery.upper_bound(LOOPBACK_DATAGRAM);
    } else {
        discovery.upper_bound(NETWORK_DATAGRAM);
    }
    config.mtu_discovery_config(Some(discovery));
    config
}
