//! QUIC between the movers: endpoints that prove and pin keys, tuned for a data centre.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use livmig_proto::{
    frame,
    identity::{self, IdentityError, PrivateKey, PublicKey, SERVER_NAME},
};
use quinn::{
    AckFrequencyConfig, ClientConfig, Connecting, Connection, Endpoint, EndpointConfig,
    MtuDiscoveryConfig, ServerConfig, TokioRuntime, TransportConfig, VarInt,
    crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig},
};
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

/// Connections of one session at most.
pub(super) const CONNECTIONS_MAX: usize = 4;

/// Bytes that may be under way and unread, in all lanes of a session. It is part of each side's
/// budget of 48 MiB; lanes, their queues and the threads' buffers are the rest.
const WINDOW: u32 = 12 << 20;

/// Bytes that may be under way on a connection that belongs to no session yet.
const UNKNOWN_WINDOW: u32 = 64 << 10;

/// Bytes that one lane may have under way.
const STREAM_WINDOW: u32 = 6 << 20;

/// Lanes of a connection at once. A mover opens one a thread; each may have some frames in memory.
const LANES_MAX: u32 = 16;

/// Queries at once. A mover asks on a thread each.
const QUERIES_MAX: u32 = 16;

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

/// How long the peer may wait for more to acknowledge. After a loss only a few datagrams may be under
/// way, and where a connection carries lanes alone nothing goes back that an acknowledgement could
/// go with: the usual 25 ms were lost each time.
const ACK_DELAY: Duration = Duration::from_millis(2);

const KEEP_ALIVE: Duration = Duration::from_secs(3);

/// How long a peer may take to hear that a connection is over.
const FAREWELL: Duration = Duration::from_secs(1);

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
    /// The connection ended before its purpose was said.
    #[error("could not say what a connection is for")]
    Hello(#[source] std::io::Error),
    /// The handshake did not end.
    #[error("no answer within {} seconds", HANDSHAKE.as_secs())]
    Timeout,
}

/// Cores that may carry the bytes of a session: as many connections, endpoints and threads.
pub fn cores() -> usize {
    std::thread::available_parallelism()
        .map_or(1, usize::from)
        .clamp(1, CONNECTIONS_MAX)
}

/// Endpoints at one address that accept connections from the holder of `peer`: `count`, or fewer
/// where the kernel does not let them share it. It spreads over them whoever connects.
pub fn listen(
    address: SocketAddr,
    own: &PrivateKey,
    peer: &PublicKey,
    count: usize,
) -> Result<Vec<Endpoint>, QuicError> {
    let tls = identity::server_config(own, peer, frame::ALPN)?;
    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    config.transport_config(Arc::new(transport(address)));
    // A mover stays where it is; a peer that moves is not one of ours.
    config.migration(false);
    config.max_incoming(16);
    let endpoints = sharing(address, count)?
        .into_iter()
        .map(|socket| endpoint(socket, Some(config.clone())))
        .collect::<Result<_, _>>()?;
    Ok(endpoints)
}

/// Sockets at one address.
fn sharing(address: SocketAddr, count: usize) -> io::Result<Vec<UdpSocket>> {
    let first = UdpSocket::bind(address)?;
    let address = first.local_addr()?;
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    // The first one shares its port only now: bound so, it could have been given another's.
    let shared = sockopt::set_socket_reuseport(&first, true);
    let mut sockets = vec![first];
    let further = || {
        shared?;
        let socket = net::socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        sockopt::set_socket_reuseport(&socket, true)?;
        net::bind(&socket, &address)?;
        Ok::<_, rustix::io::Errno>(socket.into())
    };
    for _ in 1..count {
        match further() {
            Ok(socket) => sockets.push(socket),
            Err(errno) => {
                tracing::warn!("data: one UDP socket fewer than cores: {errno}");
                break;
            }
        }
    }
    Ok(sockets)
}

/// How to connect to the holder of `peer` at `address`.
pub(super) fn client(
    address: SocketAddr,
    own: &PrivateKey,
    peer: &PublicKey,
) -> Result<ClientConfig, QuicError> {
    let tls = identity::client_config(own, peer, frame::ALPN)?;
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(Arc::new(transport(address)));
    Ok(config)
}

/// A connection to `address`, on its way, and an endpoint of its own that carries it.
pub(super) fn connect(
    address: SocketAddr,
    config: ClientConfig,
) -> Result<(Endpoint, Connecting), QuicError> {
    let local: SocketAddr = match address {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
    };
    let local = if address.ip().is_loopback() {
        loopback(local)
    } else {
        local
    };
    let endpoint = endpoint(UdpSocket::bind(local)?, None)?;
    let connecting = endpoint.connect_with(config, address, SERVER_NAME)?;
    Ok((endpoint, connecting))
}

/// Gives a connection its part of the window among `count`, both ways.
pub(super) fn share_window(connection: &Connection, count: usize) {
    let share = WINDOW / u32::try_from(count).unwrap_or(u32::MAX).max(1);
    connection.set_receive_window(VarInt::from_u32(share));
    connection.set_send_window(u64::from(share));
}

/// Waits, not for long, until the peers of `endpoints` have heard that their connections ended.
pub(super) async fn farewell(endpoints: &[Endpoint]) {
    let all = async {
        for endpoint in endpoints {
            endpoint.wait_idle().await;
        }
    };
    // A peer that is gone cannot hear; the drain period of QUIC is short.
    let _ = tokio::time::timeout(FAREWELL, all).await;
}

fn loopback(local: SocketAddr) -> SocketAddr {
    match local {
        SocketAddr::V4(_) => ([127, 0, 0, 1], 0).into(),
        SocketAddr::V6(_) => ([0, 0, 0, 0, 0, 0, 0, 1_u16], 0).into(),
    }
}

fn endpoint(socket: UdpSocket, server: Option<ServerConfig>) -> Result<Endpoint, QuicError> {
    // A batch of datagrams must fit while the receiving thread is busy. The kernel grants what
    // its limit allows, and that is fine.
    let _ = sockopt::set_socket_recv_buffer_size(&socket, 8 << 20);
    let _ = sockopt::set_socket_send_buffer_size(&socket, 8 << 20);
    let mut config = EndpointConfig::default();
    let largest = if socket.local_addr()?.ip().is_loopback() {
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
        // All that a peer gets before it has said what the connection is for.
        .receive_window(VarInt::from_u32(UNKNOWN_WINDOW))
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
    acks.max_ack_delay(Some(ACK_DELAY));
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

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    #[tokio::test]
    async fn who_connects_is_spread_over_the_endpoints_of_a_port() {
        let [own, peer] = [(); 2].map(|()| PrivateKey::generate().unwrap());
        let (public, peer_public) = (own.public().unwrap(), peer.public().unwrap());
        let endpoints = listen(ANY, &own, &peer_public, CONNECTIONS_MAX).unwrap();
        assert_eq!(endpoints.len(), CONNECTIONS_MAX);
        let address = endpoints[0].local_addr().unwrap();
        for endpoint in &endpoints {
            assert_eq!(endpoint.local_addr().unwrap(), address);
            let endpoint = endpoint.clone();
            tokio::spawn(async move {
                while let Some(incoming) = endpoint.accept().await {
                    incoming.await.unwrap().closed().await;
                }
            });
        }
        for _ in 0..32 {
            let config = client(address, &peer, &public).unwrap();
            let (_endpoint, connecting) = connect(address, config).unwrap();
            connecting.await.unwrap();
        }
        let taken = |endpoint: &&Endpoint| endpoint.stats().accepted_handshakes > 0;
        assert!(endpoints.iter().filter(taken).count() > 1);
    }

    #[test]
    fn a_port_is_shared_with_nobody_else() {
        let sockets = sharing(ANY, CONNECTIONS_MAX).unwrap();
        let address = sockets[0].local_addr().unwrap();
        let other = sharing(address, CONNECTIONS_MAX).unwrap_err();
        assert_eq!(other.kind(), io::ErrorKind::AddrInUse);
    }
}
