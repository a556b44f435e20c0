//! The destination's end of TLS over TCP.
//!
//! Nearly all that it receives is content. The usual connection of rustls copies that from the
//! socket's buffer to one that grows anew for every record, and from there twice more. This one
//! decrypts records where they were received and hands them to whoever reads.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use rustls::{
    ServerConfig,
    server::UnbufferedServerConnection,
    unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
};

/// Bytes that are fetched from a socket at once.
pub(super) const FETCH: usize = 256 << 10;

/// Bytes of a record at most, as it travels (RFC 8446, section 5.2).
const RECORD_MAX: usize = 5 + (1 << 14) + 256;

/// Bytes that a record of 2^14 bytes is longer than its content, and some.
const OVERHEAD: usize = 64;

/// Encrypted bytes that may wait for the socket before more are taken.
const WAITING_MAX: usize = 256 << 10;

/// A connection that a source has opened and whose keys are proven.
#[derive(Debug)]
pub struct ServerTls {
    socket: TcpStream,
    records: TlsRecords,
    /// Decrypted bytes that nobody has asked for yet.
    plain: Vec<u8>,
    /// The peer said that nothing more comes.
    ended: bool,
    /// What makes the rest of it worthless.
    broken: Option<io::ErrorKind>,
    /// Our own end was said.
    closed: bool,
}

impl ServerTls {
    /// Shakes hands with whoever opened `socket`.
    ///
    /// # Errors
    /// When it does not hold the pinned key; it is told so.
    pub(super) async fn accept(config: Arc<ServerConfig>, socket: TcpStream) -> io::Result<Self> {
        let tls = UnbufferedServerConnection::new(config).map_err(invalid)?;
        let mut this = Self {
            socket,
            records: TlsRecords {
                tls,
                received: Received::new(),
                sending: Vec::new(),
                sent: 0,
            },
            plain: Vec::new(),
            ended: false,
            broken: None,
            closed: false,
        };
        loop {
            let step = this
                .records
                .step(Write::Nothing, |early| this.plain.extend_from_slice(early));
            if step.is_err() {
                // Why, in an alert.
                let _ = this.records.step(Write::Nothing, |_| {});
            }
            let sent = this.socket.write_all(&this.records.sending).await;
            this.records.sending.clear();
            let step = step?;
            sent?;
            match step {
                TlsStep::Ended => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ if !this.records.tls.is_handshaking() => return Ok(this),
                _ => {}
            }
            let read = this.socket.read(this.records.received.room()).await?;
            this.records.received.add(read)?;
        }
    }

    /// Decrypts into `buffer` what was received, as far as there is room.
    fn decrypt(&mut self, buffer: &mut ReadBuf<'_>) -> io::Result<()> {
        while !self.ended && buffer.remaining() > 0 {
            let step = self.records.step(Write::Nothing, |content| {
                let (now, later) = content.split_at(content.len().min(buffer.remaining()));
                buffer.put_slice(now);
                self.plain.extend_from_slice(later);
            })?;
            match step {
                TlsStep::Read => {}
                TlsStep::Ended => self.ended = true,
                TlsStep::Idle | TlsStep::Wrote => break,
            }
        }
        Ok(())
    }

    /// Hands what is encrypted to the socket.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let TlsRecords { sending, sent, .. } = &mut self.records;
        while let Some(rest) = sending.get(*sent..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.socket).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => *sent += written,
            }
        }
        sending.clear();
        *sent = 0;
        Poll::Ready(Ok(()))
    }

    fn write(&mut self, write: Write<'_>) -> io::Result<()> {
        loop {
            let step = self
                .records
                .step(write, |content| self.plain.extend_from_slice(content))?;
            match step {
                TlsStep::Wrote => return Ok(()),
                TlsStep::Read => {}
                // Said once by the peer; again only after our own end.
                TlsStep::Ended if !self.ended => self.ended = true,
                TlsStep::Ended | TlsStep::Idle => return Err(io::ErrorKind::NotConnected.into()),
            }
        }
    }
}

impl AsyncRead for ServerTls {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.plain.is_empty() {
            let now = this.plain.len().min(buffer.remaining());
            buffer.put_slice(this.plain.drain(..now).as_slice());
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        loop {
            if let Some(kind) = this.broken {
                return Poll::Ready(Err(kind.into()));
            }
            let decrypted = this.decrypt(buffer);
            // What came before an error is still handed out.
            if let Err(error) = decrypted {
                this.broken = Some(error.kind());
                if buffer.filled().len() == before {
                    return Poll::Ready(Err(error));
                }
            }
            if buffer.filled().len() > before || this.ended || buffer.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            // A new key may have to be answered; whether that goes now is not ours to wait for.
            if let Poll::Ready(Err(error)) = this.poll_send(context) {
                return Poll::Ready(Err(error));
            }
            let mut room = ReadBuf::new(this.records.received.room());
            ready!(Pin::new(&mut this.socket).poll_read(context, &mut room))?;
            let read = room.filled().len();
            this.records.received.add(read)?;
        }
    }
}

impl AsyncWrite for ServerTls {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.records.sending.len() >= WAITING_MAX {
            ready!(this.poll_send(context))?;
        }
        let now = bytes.get(..WAITING_MAX).unwrap_or(bytes);
        this.write(Write::Content(now))?;
        Poll::Ready(Ok(now.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_send(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.closed {
            this.write(Write::End)?;
            this.closed = true;
        }
        ready!(this.poll_send(context))?;
        Pin::new(&mut this.socket).poll_shutdown(context)
    }
}

/// What is to be encrypted.
#[derive(Clone, Copy)]
enum Write<'b> {
    Nothing,
    Content(&'b [u8]),
    /// That nothing more comes.
    End,
}

/// What came of a step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum TlsStep {
    /// A record was decrypted.
    Read,
    /// What was to be encrypted is.
    Wrote,
    /// The peer said that nothing more comes.
    Ended,
    /// More must be received first.
    Idle,
}

/// The protocol between what was received and what is to be sent.
struct TlsRecords {
    tls: UnbufferedServerConnection,
    received: Received,
    /// Encrypted, of which the first bytes are `sent`.
    sending: Vec<u8>,
    sent: usize,
}

impl fmt::Debug for TlsRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records").finish_non_exhaustive()
    }
}

impl TlsRecords {
    /// Goes on until something is decrypted, for `take`, or encrypted, or nothing can be done.
    fn step(&mut self, write: Write<'_>, mut take: impl FnMut(&[u8])) -> io::Result<TlsStep> {
        loop {
            let UnbufferedStatus { mut discard, state } =
                self.tls.process_tls_records(self.received.filled());
            let step = match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(invalid)?;
                        discard += record.discard;
                        take(record.payload);
                    }
                    Ok(Some(TlsStep::Read))
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    encode(&mut data, &mut self.sending).map(|()| None)
                }
                // It is in `sending`, in front of all that follows.
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    Ok(None)
                }
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    let sending = &mut self.sending;
                    let result = match write {
                        Write::Nothing => Ok(TlsStep::Idle),
                        Write::Content(content) => {
                            let records = content.len().div_ceil(1 << 14).max(1);
                            let room = content.len() + records * OVERHEAD;
                            append(sending, room, |room| traffic.encrypt(content, room))
                        }
                        Write::End => {
                            append(sending, OVERHEAD, |room| traffic.queue_close_notify(room))
                        }
                    };
                    result.map(Some).map_err(io::Error::other)
                }
                Ok(ConnectionState::BlockedHandshake) => Ok(Some(TlsStep::Idle)),
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                    Ok(Some(TlsStep::Ended))
                }
                // Early data is never agreed on.
                Ok(_) => Err(io::ErrorKind::InvalidData.into()),
                Err(error) => Err(invalid(error)),
            };
            self.received.discard(discard);
            if let Some(step) = step? {
                return Ok(step);
            }
        }
    }
}

/// Appends what `write` puts into at most `room` bytes.
fn append(
    sending: &mut Vec<u8>,
    room: usize,
    write: impl FnOnce(&mut [u8]) -> Result<usize, EncryptError>,
) -> Result<TlsStep, EncryptError> {
    let at = sending.len();
    sending.resize(at + room, 0);
    let written = write(sending.get_mut(at..).unwrap_or_default());
    sending.truncate(at + written.as_ref().map_or(0, |written| *written));
    written.map(|_| TlsStep::Wrote)
}

/// Appends a record of the handshake.
fn encode<D>(data: &mut EncodeTlsData<'_, D>, sending: &mut Vec<u8>) -> io::Result<()> {
    let at = sending.len();
    let mut room = RECORD_MAX;
    loop {
        sending.resize(at + room, 0);
        match data.encode(sending.get_mut(at..).unwrap_or_default()) {
            Ok(written) => {
                sending.truncate(at + written);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(needed)) if needed.required_size > room => {
                room = needed.required_size;
            }
            Err(error) => {
                sending.truncate(at);
                return Err(io::Error::other(error));
            }
        }
    }
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// What the socket gave, from the first byte that is not decrypted.
#[derive(Debug)]
struct Received {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Received {
    fn new() -> Self {
        Self {
            bytes: vec![0; FETCH + RECORD_MAX],
            start: 0,
            end: 0,
        }
    }

    fn filled(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..self.end).unwrap_or_default()
    }

    /// Room for more.
    fn room(&mut self) -> &mut [u8] {
        self.bytes.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        self.bytes.get_mut(self.end..).unwrap_or_default()
    }

    /// So many bytes were put there.
    ///
    /// # Errors
    /// `UnexpectedEof` when none were: an end of the connection must be said.
    fn add(&mut self, read: usize) -> io::Result<()> {
        self.end += read;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    fn discard(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }
}

#[cfg(test)]
mod tests;
