//! One direction of a stream between the movers, whatever carries it.

use std::{
    io,
    os::fd::OwnedFd,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use quinn::VarInt;
use tokio::{
    io::{
        AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader, ReadBuf, ReadHalf, WriteHalf, split,
    },
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use super::tls::ServerTls;

/// TLS over TCP, at either end.
#[derive(Debug)]
pub enum Tls {
    /// At the source. It reads in small pieces, so that what the socket has is fetched ahead of it.
    Client(Box<TlsStream<BufReader<TcpStream>>>),
    /// At the destination.
    Server(Box<ServerTls>),
}

impl AsyncRead for Tls {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Client(tls) => Pin::new(tls).poll_read(context, buffer),
            Self::Server(tls) => Pin::new(tls).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Tls {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Client(tls) => Pin::new(tls).poll_write(context, bytes),
            Self::Server(tls) => Pin::new(tls).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Client(tls) => Pin::new(tls).poll_flush(context),
            Self::Server(tls) => Pin::new(tls).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Client(tls) => Pin::new(tls).poll_shutdown(context),
            Self::Server(tls) => Pin::new(tls).poll_shutdown(context),
        }
    }
}

/// A TLS connection, and a second handle of its socket, which ends with it.
#[derive(Debug)]
pub(super) struct TlsSocket {
    pub(super) tls: Tls,
    pub(super) handle: Arc<OwnedFd>,
}

/// The writing end of a stream.
#[derive(Debug)]
pub enum SendStream {
    /// A stream of a QUIC connection.
    Quic(quinn::SendStream),
    /// Half of a TLS connection of its own.
    Tcp(
        WriteHalf<Tls>,
        #[expect(dead_code, reason = "held: the socket is open as long as a half is")] Arc<OwnedFd>,
    ),
}

/// The reading end of a stream.
#[derive(Debug)]
pub enum RecvStream {
    /// A stream of a QUIC connection.
    Quic(quinn::RecvStream),
    /// Half of a TLS connection of its own.
    Tcp(
        ReadHalf<Tls>,
        #[expect(dead_code, reason = "held: the socket is open as long as a half is")] Arc<OwnedFd>,
    ),
}

/// Both ends of a TLS connection. It is closed when neither is left.
pub(super) fn halves(socket: TlsSocket) -> (SendStream, RecvStream) {
    let TlsSocket { tls, handle } = socket;
    let (read, write) = split(tls);
    (
        SendStream::Tcp(write, Arc::clone(&handle)),
        RecvStream::Tcp(read, handle),
    )
}

impl SendStream {
    /// Writes all of `bytes`, and what was written before, to the network.
    pub async fn write_bytes(&mut self, bytes: Bytes) -> io::Result<()> {
        match self {
            Self::Quic(stream) => Ok(stream.write_chunk(bytes).await?),
            Self::Tcp(stream, _) => {
                stream.write_all(&bytes).await?;
                stream.flush().await
            }
        }
    }

    /// Says that nothing more will come.
    pub async fn finish(&mut self) {
        // Whoever reads notices an end that was not said: it is an error there.
        match self {
            Self::Quic(stream) => {
                let _ = stream.finish();
            }
            Self::Tcp(stream, _) => {
                let _ = stream.shutdown().await;
            }
        }
    }

    /// Ends the stream so that its reader knows that something is missing.
    pub fn break_off(mut self) {
        // A TLS connection that is dropped without a farewell says that by itself.
        if let Self::Quic(stream) = &mut self {
            let _ = stream.reset(VarInt::from_u32(1));
        }
    }

    /// Has it sent before other streams of its connection. A TLS connection has no others.
    pub fn prefer(&self) {
        if let Self::Quic(stream) = self {
            let _ = stream.set_priority(10);
        }
    }
}

impl AsyncWrite for SendStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Quic(stream) => AsyncWrite::poll_write(Pin::new(stream), context, bytes),
            Self::Tcp(stream, _) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Quic(stream) => Pin::new(stream).poll_flush(context),
            Self::Tcp(stream, _) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Quic(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tcp(stream, _) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

impl AsyncRead for RecvStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Quic(stream) => AsyncRead::poll_read(Pin::new(stream), context, buffer),
            Self::Tcp(stream, _) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}
