//! The source's end of a data session: asynchronous at the socket, blocking for the threads.

use std::{
    future::pending,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use livmig_proto::{
    control::{Fault, FaultCode, Side, Transport},
    lately::{Lately, Relative},
    name::RelPath,
    session::{Begin, Query, Ready, ToDestination, ToSource},
    wire::DecodeError,
};
use tokio::{
    io::{AsyncReadExt as _, BufReader},
    runtime::Handle,
    sync::mpsc,
};

use super::{
    acks::Acks,
    dial::{self, Dialed, Outgoing, Peer},
    messages::{self, MessageError},
    quic::QuicError,
    stream::{RecvStream, SendStream},
};
use crate::{fault, stop::Stop};

/// Frames that wait in one lane's queue before its thread does.
const LANE_QUEUE: usize = 2;

/// How long a destination that has given a lane up may take to say why.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Waits for the loss of a lane that is a connection of its own: nothing ever comes back on it.
async fn lost(back: Option<RecvStream>) -> io::Error {
    match back {
        Some(mut back) => match back.read_u8().await {
            Ok(_) => io::ErrorKind::InvalidData.into(),
            Err(error) => error,
        },
        None => pending().await,
    }
}

/// A data session, from the source's point of view.
#[derive(Debug)]
pub struct DataSession {
    runtime: Handle,
    connection: Arc<Outgoing>,
    /// Streams for queries that nobody uses now.
    idle: Mutex<Vec<Streams>>,
    control: mpsc::UnboundedSender<ToDestination>,
    acks: Arc<Acks>,
    traffic: Arc<Traffic>,
}

/// Where questions go and answers come from, one after the other: their records are small, and many
/// arrive together.
#[derive(Debug)]
struct Streams {
    send: SendStream,
    receive: BufReader<RecvStream>,
    /// What was asked about lately.
    lately: Lately,
}

/// Bytes of answers that are taken in together.
const TOGETHER: usize = 32 << 10;

/// Bytes of payload that crossed the link.
#[derive(Debug, Default)]
pub struct Traffic {
    sent: AtomicU64,
    received: AtomicU64,
}

impl DataSession {
    /// Connects by `transport`, or by the faster one, says `begin`, and hears what the destination
    /// is. Gives up when it is asked to `stop`.
    pub fn open(
        runtime: &Handle,
        peer: Peer<'_>,
        transport: Option<Transport>,
        begin: Begin,
        stop: &Stop,
    ) -> Result<(Self, Ready), Fault> {
        let acks = Arc::new(Acks::default());
        let traffic = Arc::new(Traffic::default());
        let opened = async {
            let Dialed {
                mut connection,
                mut send,
                mut receive,
            } = dial::connect(peer, transport)
                .await
                .map_err(|error| unconnected(peer.address, &error))?;
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
            connection.widen().await;
            let (control, outgoing) = mpsc::unbounded_channel();
            tokio::spawn(speak(send, outgoing, Arc::clone(&traffic)));
            tokio::spawn(listen(receive, Arc::clone(&acks), Arc::clone(&traffic)));
            let link = Self {
                runtime: runtime.clone(),
                connection: Arc::new(connection),
                idle: Mutex::default(),
                control,
                acks,
                traffic,
            };
            Ok((link, ready))
        };
        runtime.block_on(async {
            tokio::select! {
                opened = opened => opened,
                () = stop.asked() => Err(fault::plain(
                    Side::Source,
                    FaultCode::Stopped,
                    "source: the pass was stopped on request before it was connected",
                )),
            }
        })
    }

    /// Opens a lane: its number and the queue of its frames. The lane ends with the queue.
    pub fn lane(&self) -> Result<(u32, mpsc::Sender<Bytes>), Fault> {
        let number = self.acks.add_lane();
        let (mut stream, back) = self
            .runtime
            .block_on(self.connection.open_uni())
            .map_err(|error| fault::disconnected(Side::Source, &error.to_string()))?;
        let (queue, mut frames) = mpsc::channel::<Bytes>(LANE_QUEUE);
        let (traffic, acks) = (Arc::clone(&self.traffic), Arc::clone(&self.acks));
        self.runtime.spawn(async move {
            let mut lost = pin!(lost(back));
            let mut next = Some(Bytes::copy_from_slice(&number.to_le_bytes()));
            let error = loop {
                let Some(frame) = next else {
                    return stream.finish().await;
                };
                let len = u64::try_from(frame.len()).unwrap_or(0);
                if let Err(error) = stream.write_bytes(frame).await {
                    break error;
                }
                traffic.sent.fetch_add(len, Ordering::Relaxed);
                next = tokio::select! {
                    frame = frames.recv() => frame,
                    // What was written need not have arrived.
                    error = &mut lost => break error,
                };
            };
            // The destination may have given this lane up. Then it says why on the control stream,
            // which may come later than this.
            let told = async { while frames.recv().await.is_some() {} };
            if tokio::time::timeout(LAST_WORDS, told).await.is_err() {
                acks.lose(&error.to_string());
            }
        });
        Ok((number, queue))
    }

    /// Asks the destination about the directory at `path`; the answer is read with [`LinkAnswer::next`].
    pub fn query(
        &self,
        path: &RelPath,
        query: impl FnOnce(Relative) -> Query,
    ) -> Result<LinkAnswer<'_>, Fault> {
        let lost =
            |error: &dyn std::error::Error| fault::disconnected(Side::Source, &error.to_string());
        let idle = lock(&self.idle).pop();
        self.runtime.block_on(async {
            let mut streams = if let Some(streams) = idle {
                streams
            } else {
                let opened = self.connection.open_bi().await;
                let (send, receive) = opened.map_err(|error| lost(&error))?;
                Streams {
                    send,
                    receive: BufReader::with_capacity(TOGETHER, receive),
                    lately: Lately::new(),
                }
            };
            let query = query(streams.lately.refer(path));
            let sent = messages::write_json(&mut streams.send, &query)
                .await
                .map_err(|error| lost(&error))?;
            self.traffic.sent.fetch_add(sent, Ordering::Relaxed);
            Ok(LinkAnswer {
                link: self,
                streams,
            })
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

    /// What carries the session.
    pub fn transport(&self) -> Transport {
        self.connection.transport()
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
        let connection = Arc::clone(&self.connection);
        move || connection.close(1, "abandoned")
    }

    /// Ends the session and waits until the peer has heard of it.
    pub fn close(self) {
        self.connection.close(0, "done");
        self.runtime.block_on(self.connection.wait_closed());
    }
}

/// The answer to a query, as it arrives.
#[derive(Debug)]
pub struct LinkAnswer<'a> {
    link: &'a DataSession,
    streams: Streams,
}

impl LinkAnswer<'_> {
    /// All of it was read: the next query may use its stream. Without this the stream ends, and
    /// what was still to come of the answer with it.
    pub fn end(self) {
        lock(&self.link.idle).push(self.streams);
    }

    /// The next record, its length checked by `check`; nothing at the end.
    pub fn next(
        &mut self,
        check: impl Fn([u8; 4]) -> Result<usize, DecodeError>,
    ) -> Result<Option<Bytes>, Fault> {
        let runtime = self.link.runtime.clone();
        match runtime.block_on(messages::read_frame(&mut self.streams.receive, check)) {
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
