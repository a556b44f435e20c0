//! Sessions at the destination: their streams, as they arrive, whatever carries them.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::mpsc;

use super::{
    hello::Purpose,
    quic_connections::Bundle,
    stream::{RecvStream, SendStream},
    tcp::Sockets,
};

/// Streams of one session that may wait to be accepted, of each kind.
const WAITING_MAX: usize = 64;

/// A session that a source has begun. It ends with the last of these.
#[derive(Clone, Debug)]
pub struct Incoming(pub(super) Arc<Arriving>);

/// What has arrived of a session, and what carries it.
#[derive(Debug, Default)]
pub(super) struct Arriving {
    pub(super) one_way: Arrivals<RecvStream>,
    pub(super) both_ways: Arrivals<(SendStream, RecvStream)>,
    /// What carries it over TCP.
    pub(super) sockets: Sockets,
    /// What carries it over QUIC.
    pub(super) bundle: Bundle,
}

impl Incoming {
    /// The next lane; none once the session is over.
    pub async fn accept_uni(&self) -> Option<RecvStream> {
        self.0.one_way.next().await
    }

    /// The next stream both ways, of which the first is the control stream; none once the session
    /// is over.
    pub async fn accept_bi(&self) -> Option<(SendStream, RecvStream)> {
        self.0.both_ways.next().await
    }

    /// Ends the session, at both sides.
    pub fn close(&self, code: u32, reason: &'static str) {
        self.0.close(code, reason);
    }
}

impl Arriving {
    fn close(&self, code: u32, reason: &'static str) {
        self.sockets.close();
        self.bundle.close(code, reason);
        self.one_way.end();
        self.both_ways.end();
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.close(0, "");
    }
}

/// Streams on their way to whoever accepts them.
#[derive(Debug)]
pub(super) struct Arrivals<T> {
    arrived: Mutex<Option<mpsc::Sender<T>>>,
    waiting: tokio::sync::Mutex<mpsc::Receiver<T>>,
}

impl<T> Default for Arrivals<T> {
    fn default() -> Self {
        let (arrived, waiting) = mpsc::channel(WAITING_MAX);
        Self {
            arrived: Mutex::new(Some(arrived)),
            waiting: tokio::sync::Mutex::new(waiting),
        }
    }
}

impl<T> Arrivals<T> {
    /// One more has arrived.
    ///
    /// # Errors
    /// When too many wait already, or the session is over.
    pub(super) fn push(&self, stream: T) -> io::Result<()> {
        let arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        match &*arrived {
            Some(arrived) => arrived
                .try_send(stream)
                .map_err(|_| io::Error::other("too many streams of one session")),
            None => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }

    /// The next one. May be dropped at any time: nothing is lost.
    async fn next(&self) -> Option<T> {
        self.waiting.lock().await.recv().await
    }

    /// No more will come.
    fn end(&self) {
        let mut arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        *arrived = None;
    }
}

/// Brings what arrives on one of a session's QUIC connections to it, until either is over. What of
/// the session came by a connection that is lost is lost, so the session is too.
pub(super) async fn pump(session: Weak<Arriving>, connection: quinn::Connection, purpose: Purpose) {
    let mut used = purpose == Purpose::Begin;
    loop {
        let arrived = tokio::select! {
            lane = connection.accept_uni() => lane.map(Arrived::OneWay),
            query = connection.accept_bi() => query.map(Arrived::BothWays),
        };
        let Some(session) = session.upgrade() else {
            return;
        };
        let pushed = match arrived {
            Ok(Arrived::OneWay(receive)) => session.one_way.push(RecvStream::Quic(receive)),
            Ok(Arrived::BothWays((send, receive))) => session
                .both_ways
                .push((SendStream::Quic(send), RecvStream::Quic(receive))),
            // The source has given it up before it knew that it had joined.
            Err(_) if !used => return session.bundle.remove(&connection),
            Err(error) => Err(error.into()),
        };
        used = true;
        // A source opens streams once it has all of its connections.
        session.bundle.complete();
        if let Err(error) = pushed {
            tracing::debug!("data: a session lost a connection: {error}");
            return session.close(1, "a connection of the session was lost");
        }
    }
}

/// What has arrived on a QUIC connection.
enum Arrived {
    OneWay(quinn::RecvStream),
    BothWays((quinn::SendStream, quinn::RecvStream)),
}
