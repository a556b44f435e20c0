//! Length-prefixed messages on a byte stream.

use bytes::Bytes;
use livmig_proto::control;
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Why a message did not come or go.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// The stream broke.
    #[error("stream broke")]
    Io(#[from] std::io::Error),
    /// The bytes are no message.
    #[error("peer sent something that is no message")]
    Control(#[from] control::ControlDecodeError),
    /// The bytes are no frame.
    #[error("peer sent something that is no frame")]
    Wire(#[from] livmig_proto::wire::DecodeError),
}

/// Writes `message`; how many bytes it took.
pub async fn write_json<T: Serialize>(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &T,
) -> Result<u64, MessageError> {
    let frame = control::encode(message)?;
    stream.write_all(&frame).await?;
    stream.flush().await?;
    Ok(u64::try_from(frame.len()).unwrap_or(0))
}

/// Reads a message and how many bytes it took; nothing at the end of the stream.
pub async fn read_json<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<Option<(T, u64)>, MessageError> {
    let Some(prefix) = read_prefix(stream).await? else {
        return Ok(None);
    };
    let length = control::decode_length(prefix)?;
    let body = read_body(stream, length).await?;
    let message = control::decode(&body)?;
    Ok(Some((message, u64::try_from(length + 4).unwrap_or(0))))
}

/// Reads a binary frame, its length checked by `check`; nothing at the end of the stream.
pub async fn read_frame(
    stream: &mut (impl AsyncRead + Unpin),
    check: impl Fn([u8; 4]) -> Result<usize, livmig_proto::wire::DecodeError>,
) -> Result<Option<Bytes>, MessageError> {
    let Some(prefix) = read_prefix(stream).await? else {
        return Ok(None);
    };
    let length = check(prefix)?;
    Ok(Some(read_body(stream, length).await?))
}

/// Reads a body as it comes: memory grows with what was received, not with what was announced.
async fn read_body(
    stream: &mut (impl AsyncRead + Unpin),
    length: usize,
) -> Result<Bytes, MessageError> {
    let mut body = Vec::with_capacity(length.min(2 << 20));
    let limit = u64::try_from(length).unwrap_or(u64::MAX);
    let read = stream.take(limit).read_to_end(&mut body).await?;
    if read < length {
        return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
    }
    Ok(Bytes::from(body))
}

async fn read_prefix(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<Option<[u8; 4]>, MessageError> {
    let mut prefix = [0; 4];
    let mut filled = 0;
    while let Some(rest) = prefix.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match stream.read(rest).await? {
            0 if filled == 0 => return Ok(None),
            0 => return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
            read => filled += read,
        }
    }
    Ok(Some(prefix))
}
