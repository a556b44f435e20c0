//! The source's end of a data session: asynchronous at the socket, blocking for the threads.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use livmig_proto::{
    control::{Fault, FaultCode, Side},
    identity::{PrivateKey, PublicKey},
    session::{Begin, Query, Ready, ToDestination, ToSource},
    wire::DecodeError,
};
use quinn::{Connection, Endpoint, RecvStream, SendStream, VarInt, WriteError};
use tokio::{runtime::Handle, sync::mpsc};

use super::{
    acks::Acks,
    messages::{self, MessageError},
    quic::{self, QuicError},
};
use crate::fault;

/// Frames that wait in one lane's queue before its thread does.
const LANE_QUEUE: usize = 2;

/// A data session, from the source's point of view.
#[derive(Debug)]
pub struct Link {
    runtime: Handle,
    endpoint: Endpoint,
    connection: Connection,
    control: mpsc::UnboundedSender<ToDestination>,
    acks: Arc<Acks>,
    traffic: Arc<Traffic>,
}

/// Bytes of payload that crossed the link.
#[derive(Debug, Default)]
pub struct Traffic {
    sent: AtomicU64,
    received: AtomicU64,
}

/// Which mover to connect to, and as whom.
pub struct Peer<'a> {
    /// Where the destination listens.
    pub address: SocketAddr,
    /// Our key.
    pub own: &'a PrivateKey,
    /// Its key.
    pub key: &'a PublicKey,
}

impl Link {
    /// Connects, says `begin`, and hears what the destination is.
    pub fn open(runtime: &Handle, peer: &Peer<'_>, begin: Begin) -> Result<(Self, Ready), Fault> {
        let acks = Arc::new(Acks::default());
        let traffic = Arc::new(Traffic::default());
        runtime.block_on(async {
            let (endpoint, connection) = quic::connect(peer.address, peer.own, peer.key)
                .await
                .map_err(|error| unconnected(peer.address, &error))?;
            let (mut send, mut receive) = connection
                .open_bi()
                .await
                .map_err(|error| disconnected(peer.address, &error))?;
            // Control is never behind bulk.
            let _ = send.set_priority(10);
            let sent = messages::write_json(&mut send, &ToDestination::Begin(begin))
                .await
                .map_err(|error| disconnected(peer.address, &error))?;
            traffic.sent.fetch_add(sent, Ordering::Relaxed);
            let ready = match messages::read_json(&mut receive).await {
                Ok(Some((ToSource::Ready(ready), received))) => {
                    traffic.received.fetch_add(received, Ordering::Relaxed);
                    ready
                }
                Ok(Some((ToSource::Fault { fault, .. }, _))) => return Err(fault),
                Ok(_) => return Err(not_understood()),
                Err(error) => return Err(disconnected(peer.address, &error)),
            };
            let (control, outgoing) = mpsc::unbounded_channel();
            tokio::spawn(speak(send, outgoing, Arc::clone(&traffic)));
            tokio::spawn(listen(receive, Arc::clone(&acks), Arc::clone(&traffic)));
            let runtime = runtime.clone();
            Ok((
                Self {
                    runtime,
                    endpoint,
                    connection,
                    control,
                    acks,
                    traffic,
                },
                ready,
            ))
        })
    }

    /// Opens a lane: its number and the queue of its frames. The lane ends with the queue.
    pub fn lane(&self) -> Result<(u32, mpsc::Sender<Bytes>), Fault> {
        let number = self.acks.add_lane();
        let mut stream = self
            .runtime
            .block_on(self.connection.open_uni())
            .map_err(|error| fault::disconnected(Side::Source, &error.to_string()))?;
        let (queue, mut frames) = mpsc::channel::<Bytes>(LANE_QUEUE);
        let (traffic, acks) = (Arc::clone(&self.traffic), Arc::clone(&self.acks));
        self.runtime.spawn(async move {
            let mut next = Some(Bytes::copy_from_slice(&number.to_le_bytes()));
            while let Some(frame) = next {
                let len = u64::try_from(frame.len()).unwrap_or(0);
                match stream.write_chunk(frame).await {
                    Ok(()) => {}
                    Err(WriteError::Stopped(_)) => {
                        // The destination has given this lane up and says why on the control
                        // stream, which may come later than this.
                        while frames.recv().await.is_some() {}
                        return;
                    }
                    Err(error) => return acks.lose(&error.to_string()),
                }
                traffic.sent.fetch_add(len, Ordering::Relaxed);
                next = frames.recv().await;
            }
            let _ = stream.finish();
        });
        Ok((number, queue))
    }

    /// Asks the destination; the answer is read with [`Answer::next`].
    pub fn query(&self, query: &Query) -> Result<Answer<'_>, Fault> {
        let lost =
            |error: &dyn std::error::Error| fault::disconnected(Side::Source, &error.to_string());
        self.runtime.block_on(async {
            let (mut send, stream) = self
                .connection
                .open_bi()
                .await
                .map_err(|error| lost(&error))?;
            let sent = messages::write_json(&mut send, query)
                .await
                .map_err(|error| lost(&error))?;
            self.traffic.sent.fetch_add(sent, Ordering::Relaxed);
            let _ = send.finish();
            Ok(Answer { link: self, stream })
        })
    }

    /// Every frame is applied: asks the destination to settle.
    pub fn settle(&self) {
        // A closed queue means a lost connection, which whoever waits next is told.
        let _ = self.control.send(ToDestination::Settle);
    }

    /// What the destination has said.
    pub fn acks(&self) -> &Acks {
        &self.acks
    }

    /// Bytes sent and received so far.
    pub fn traffic(&self) -> (u64, u64) {
        (
            self.traffic.sent.load(Ordering::Relaxed),
            self.traffic.received.load(Ordering::Relaxed),
        )
    }

    /// What ends the session at once, for whoever finds that nobody waits for it any more.
    pub fn breaker(&self) -> impl Fn() + Send + 'static {
        let connection = self.connection.clone();
        move || connection.close(VarInt::from_u32(1), b"abandoned")
    }

    /// Ends the session and waits until the peer has heard of it.
    pub fn close(self) {
        self.connection.close(VarInt::from_u32(0), b"done");
        let endpoint = self.endpoint.clone();
        self.runtime.block_on(async {
            // A peer that is gone cannot hear; the drain period of QUIC is short.
            let _ =
                tokio::time::timeout(std::time::Duration::from_secs(1), endpoint.wait_idle()).await;
        });
    }
}

/// The answer to a query, as it arrives.
#[derive(Debug)]
pub struct Answer<'a> {
    link: &'a Link,
    stream: RecvStream,
}

impl Answer<'_> {
    /// The next record, its length checked by `check`; nothing at the end.
    pub fn next(
        &mut self,
        check: impl Fn([u8; 4]) -> Result<usize, DecodeError>,
    ) -> Result<Option<Bytes>, Fault> {
        let runtime = self.link.runtime.clone();
        match runtime.block_on(messages::read_frame(&mut self.stream, check)) {
            Ok(Some(frame)) => {
                let received = u64::try_from(frame.len() + 4).unwrap_or(0);
                self.link
                    .traffic
                    .received
                    .fetch_add(received, Ordering::Relaxed);
                Ok(Some(frame))
            }
            Ok(None) => Ok(None),
            Err(MessageError::Io(error)) => {
                // A fatal fault may have ended the session; it says more than the broken stream.
                Err(self
                    .link
                    .acks
                    .over()
                    .unwrap_or_else(|| fault::disconnected(Side::Source, &error.to_string())))
            }
            Err(MessageError::Control(_) | MessageError::Wire(_)) => Err(not_understood()),
        }
    }
}

async fn speak(
    mut send: SendStream,
    mut outgoing: mpsc::UnboundedReceiver<ToDestination>,
    traffic: Arc<Traffic>,
) {
    while let Some(message) = outgoing.recv().await {
        match messages::write_json(&mut send, &message).await {
            Ok(sent) => traffic.sent.fetch_add(sent, Ordering::Relaxed),
            Err(_) => return,
        };
    }
}

async fn listen(mut receive: RecvStream, acks: Arc<Acks>, traffic: Arc<Traffic>) {
    loop {
        match messages::read_json(&mut receive).await {
            Ok(Some((message, received))) => {
                traffic.received.fetch_add(received, Ordering::Relaxed);
                acks.hear(message);
            }
            Ok(None) => return acks.lose("the destination closed it"),
            Err(error) => return acks.lose(&error.to_string()),
        }
    }
}

/// Why there was no connection: silence is another fault than an answer that ends it.
fn unconnected(address: SocketAddr, error: &QuicError) -> Fault {
    let fault = disconnected(address, error);
    let code = match error {
        QuicError::Timeout => FaultCode::Unreachable,
        _ => fault.code,
    };
    Fault { code, ..fault }
}

fn disconnected(address: SocketAddr, error: &dyn std::error::Error) -> Fault {
    let mut why = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        why = format!("{why}: {cause}");
        source = cause.source();
    }
    fault::plain(
        Side::Source,
        FaultCode::Disconnected,
        format!("source: could not reach the destination mover at {address}: {why}"),
    )
}

fn not_understood() -> Fault {
    fault::plain(
        Side::Source,
        FaultCode::Protocol,
        "source: the destination answered with something that is no livmig message",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_told_from_an_answer_that_ends_the_connection() {
        let address = SocketAddr::from(([192, 0, 2, 1], 7401));
        let silent = unconnected(address, &QuicError::Timeout);
        assert_eq!(silent.code, FaultCode::Unreachable);
        assert!(silent.message.contains("192.0.2.1:7401"), "{silent}");
        let ended = unconnected(
            address,
            &QuicError::Connection(quinn::ConnectionError::Reset),
        );
        assert_eq!(ended.code, FaultCode::Disconnected);
    }
}
