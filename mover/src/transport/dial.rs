//! The source's end: connects by what gets through, or by the faster of what does.
//!
//! QUIC and TLS over TCP prove the same keys and carry the same streams. Which one is better is a
//! matter of the network: some drop or throttle UDP, and where they do not, what a core can send
//! by each differs by kernel and card. So it is measured, before the first pass.

use std::{io, net::SocketAddr, time::Duration};

use bytes::Bytes;
use livmig_proto::{
    control::Transport,
    identity::{PrivateKey, PublicKey},
    session::{ToDestination, ToSource},
};
use tokio::time::Instant;

use super::{
    hello::Purpose,
    messages,
    quic::{self, QuicError},
    quic_dial::QuicDialer,
    stream::{RecvStream, SendStream, halves},
    tcp::Dialer,
};

/// How long the other way of connecting may take once one is there.
const PATIENCE: Duration = Duration::from_secs(1);

/// Bytes of a first measurement; each further one is four times as large.
const PROBE: usize = 256 << 10;

/// Bytes of the largest measurement.
const PROBE_MAX: usize = 8 << 20;

/// A measurement that took so long says enough.
const PROBE_ENOUGH: Duration = Duration::from_millis(10);

/// Which mover to connect to, and as whom.
#[derive(Clone, Copy)]
pub struct Peer<'a> {
    /// Where the destination listens, over both protocols.
    pub address: SocketAddr,
    /// Our key.
    pub own: &'a PrivateKey,
    /// Its key.
    pub key: &'a PublicKey,
}

/// A connection to the destination, whatever carries it.
#[derive(Debug)]
pub enum Outgoing {
    /// Over QUIC.
    Quic(QuicDialer),
    /// Over TCP.
    Tcp(Dialer),
}

/// A connection and its first stream, on which nothing is agreed yet.
#[derive(Debug)]
pub struct Dialed {
    /// The connection.
    pub connection: Outgoing,
    /// The control stream, writing.
    pub send: SendStream,
    /// The control stream, reading.
    pub receive: RecvStream,
}

impl Outgoing {
    /// What carries it.
    pub fn transport(&self) -> Transport {
        match self {
            Self::Quic(_) => Transport::Quic,
            Self::Tcp(_) => Transport::Tcp,
        }
    }

    /// Opens what further connections it is faster with; to be done once, when the destination has
    /// answered and before any stream is opened.
    pub async fn widen(&mut self) {
        // Over TCP every stream has one of its own.
        if let Self::Quic(dialer) = self {
            dialer.widen(quic::cores()).await;
        }
    }

    /// Opens a lane, and what tells of its loss where it is a connection of its own.
    pub async fn open_uni(&self) -> io::Result<(SendStream, Option<RecvStream>)> {
        match self {
            Self::Quic(dialer) => Ok((dialer.open_uni().await?, None)),
            Self::Tcp(dialer) => {
                let (send, receive) = halves(dialer.open(Purpose::OneWay).await?);
                Ok((send, Some(receive)))
            }
        }
    }

    /// Opens a stream both ways.
    pub async fn open_bi(&self) -> io::Result<(SendStream, RecvStream)> {
        match self {
            Self::Quic(dialer) => dialer.open_bi().await,
            Self::Tcp(dialer) => Ok(halves(dialer.open(Purpose::BothWays).await?)),
        }
    }

    /// Ends it at once.
    pub fn close(&self, code: u32, reason: &'static str) {
        match self {
            Self::Quic(dialer) => dialer.close(code, reason),
            Self::Tcp(dialer) => dialer.close(),
        }
    }

    /// Waits, not for long, until the peer has heard that it ended.
    pub async fn wait_closed(&self) {
        // What the kernel has to send it goes on sending by itself.
        if let Self::Quic(dialer) = self {
            dialer.wait_closed().await;
        }
    }
}

/// Connects by `transport`, or without one by the faster of those that get through.
pub async fn connect(peer: Peer<'_>, transport: Option<Transport>) -> Result<Dialed, QuicError> {
    match transport {
        Some(Transport::Quic) => by_quic(peer).await,
        Some(Transport::Tcp) => by_tcp(peer).await,
        None => by_the_faster(peer).await,
    }
}

async fn by_quic(peer: Peer<'_>) -> Result<Dialed, QuicError> {
    let (dialer, send, receive) = QuicDialer::begin(peer.address, peer.own, peer.key).await?;
    Ok(Dialed {
        connection: Outgoing::Quic(dialer),
        send,
        receive,
    })
}

async fn by_tcp(peer: Peer<'_>) -> Result<Dialed, QuicError> {
    let dialer = Dialer::new(peer.address, peer.own, peer.key)?;
    let opened = dialer.open(Purpose::Begin).await;
    let (send, receive) = halves(opened.map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => QuicError::Timeout,
        _ => QuicError::Tcp(error),
    })?);
    Ok(Dialed {
        connection: Outgoing::Tcp(dialer),
        send,
        receive,
    })
}

async fn by_the_faster(peer: Peer<'_>) -> Result<Dialed, QuicError> {
    let (quic, tcp) = both(by_quic(peer), by_tcp(peer)).await;
    let (mut quic, mut tcp) = match (quic, tcp) {
        (Some(Ok(quic)), Some(Ok(tcp))) => (quic, tcp),
        (Some(Ok(one)), _) | (_, Some(Ok(one))) => return Ok(one),
        // What QUIC says is what both found, unless only TCP was answered, with a refusal.
        (Some(Err(error)), _) | (_, Some(Err(error))) => return Err(error),
        (None, None) => return Err(QuicError::Timeout),
    };
    let by_quic = rate(&mut quic).await.ok();
    let by_tcp = rate(&mut tcp).await.ok();
    let is_quic = by_quic > by_tcp;
    tracing::info!(
        quic = by_quic,
        tcp = by_tcp,
        "measured what gets through, in bytes per second"
    );
    let (chosen, other) = if is_quic { (quic, tcp) } else { (tcp, quic) };
    other.connection.close(0, "the other transport is faster");
    Ok(chosen)
}

/// Awaits both, but the second to end no longer than [`PATIENCE`] after the first has succeeded.
async fn both<T, E>(
    one: impl Future<Output = Result<T, E>>,
    other: impl Future<Output = Result<T, E>>,
) -> (Option<Result<T, E>>, Option<Result<T, E>>) {
    let (mut one, mut other) = (std::pin::pin!(one), std::pin::pin!(other));
    tokio::select! {
        first = &mut one => match first {
            Ok(_) => (Some(first), tokio::time::timeout(PATIENCE, other).await.ok()),
            Err(_) => (Some(first), Some(other.await)),
        },
        first = &mut other => match first {
            Ok(_) => (tokio::time::timeout(PATIENCE, one).await.ok(), Some(first)),
            Err(_) => (Some(one.await), Some(first)),
        },
    }
}

/// Bytes per second that get through.
async fn rate(dialed: &mut Dialed) -> Result<f64, messages::MessageError> {
    let mut len = PROBE;
    loop {
        let begun = Instant::now();
        let bytes = u64::try_from(len).unwrap_or(0);
        messages::write_json(&mut dialed.send, &ToDestination::Probe { bytes }).await?;
        dialed.send.write_bytes(Bytes::from(vec![0; len])).await?;
        match messages::read_json(&mut dialed.receive).await? {
            Some((ToSource::Probed, _)) => {}
            _ => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        }
        let took = begun.elapsed();
        if took >= PROBE_ENOUGH || len * 4 > PROBE_MAX {
            #[expect(clippy::cast_precision_loss, reason = "a rate is an estimate")]
            return Ok(bytes as f64 / took.as_secs_f64().max(1e-9));
        }
        len *= 4;
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_that_hangs_does_not_hold_up_one_that_is_there() {
        let hangs = || pending::<Result<u8, ()>>();
        assert_eq!(both(ready(Ok(1)), hangs()).await, (Some(Ok(1)), None));
        assert_eq!(both(hangs(), ready(Ok(2))).await, (None, Some(Ok(2))));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_fails_leaves_the_other_all_its_time() {
        let late = async {
            tokio::time::sleep(PATIENCE * 5).await;
            Ok::<u8, ()>(3)
        };
        assert_eq!(
            both(ready(Err(())), late).await,
            (Some(Err(())), Some(Ok(3)))
        );
    }
}
