//! Data frames: what the source tells the destination to do.
//!
//! A *lane* is one stream from the source. It carries frames in order, and the destination
//! applies them in order on one thread:
//!
//! ```text
//! frame  := length u32 | sequence u64 | op*          length: bytes after itself, at most FRAME_MAX
//! op     := tag u8 | fields
//! ```
//!
//! Ops stand for absolute facts ("this name is this file"), so applying one twice, or over what
//! an interrupted pass left behind, ends in the same state. [`Op::Enter`] names the directory
//! that the following ops speak of and [`Op::Open`] the file that the following content belongs
//! to; both hold within one lane until the next of their kind. Of a path only what differs from
//! those before it travels ([`Relative`](crate::lately::Relative)), once per directory, and every
//! other name is a single component.

mod op;

use bytes::Bytes;

pub use self::op::{ApartKind, FileOp, Op, OpenMode, Reserve};
use crate::{
    limits::{FRAME_CONTENT_MAX, FRAME_MAX},
    tree::Digest,
    wire::{DecodeError, Decoder, Encoder},
};

/// The ALPN of the data protocol; its number is the major version.
pub const ALPN: &[u8] = b"livmig-data/3";

/// Frames and the ops in them, as they are built.
#[derive(Debug)]
pub struct FrameBuilder {
    out: Encoder,
}

const HEADER: usize = 4 + 8;

impl FrameBuilder {
    /// An empty frame.
    pub fn new() -> Self {
        let mut out = Encoder::with_capacity(FRAME_CONTENT_MAX + (FRAME_CONTENT_MAX >> 3));
        out.raw(&[0; HEADER]);
        Self { out }
    }

    /// Appends an op.
    pub fn push(&mut self, op: &Op) {
        op.encode(&mut self.out);
    }

    /// Appends an [`Op::File`].
    pub fn push_file(&mut self, file: &FileOp<'_>) {
        file.encode(&mut self.out);
    }

    /// Appends an [`Op::Data`], whose content need not be owned for that.
    pub fn push_data(&mut self, offset: u64, digest: &Digest, content: &[u8]) {
        op::encode_data(offset, digest, content, &mut self.out);
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether no op was appended yet.
    pub fn is_empty(&self) -> bool {
        self.out.len() <= HEADER
    }

    /// Whether the frame should be sent before an op with `content` bytes is appended.
    pub fn is_full_for(&self, content: usize) -> bool {
        !self.is_empty() && self.out.len() + content > FRAME_CONTENT_MAX
    }

    /// The finished frame; the builder is empty again.
    pub fn take(&mut self, sequence: u64) -> Bytes {
        let frame = std::mem::take(self);
        let mut bytes: Vec<u8> = frame.out.into_bytes().into();
        let length = u32::try_from(bytes.len().saturating_sub(4)).unwrap_or(u32::MAX);
        let mut header = [0; HEADER];
        let (first, second) = header.split_at_mut(4);
        first.copy_from_slice(&length.to_le_bytes());
        second.copy_from_slice(&sequence.to_le_bytes());
        if let Some(place) = bytes.get_mut(..HEADER) {
            place.copy_from_slice(&header);
        }
        Bytes::from(bytes)
    }
}

impl Default for FrameBuilder {
    fn default() -> Self {
        Self::new()
    }
}

/// How many bytes of frame follow this prefix.
///
/// # Errors
/// When they are beyond [`FRAME_MAX`] or too few for a sequence number.
pub fn frame_length(prefix: [u8; 4]) -> Result<usize, DecodeError> {
    match usize::try_from(u32::from_le_bytes(prefix)) {
        Ok(length) if length < 8 => Err(DecodeError::Short),
        Ok(length) if length <= FRAME_MAX => Ok(length),
        _ => Err(DecodeError::TooLong),
    }
}

/// The sequence number and ops of a frame, without its length prefix. Each op is decoded when it
/// is asked for, so that a frame of nothing but tiny ops takes no more memory than its bytes.
///
/// # Errors
/// When there is no sequence number.
pub fn decode_frame(frame: Bytes) -> Result<(u64, Ops), DecodeError> {
    let mut input = Decoder::new(frame);
    Ok((input.u64()?, Ops(input)))
}

/// The ops of a frame, in order. An error is the last item: what follows it means nothing.
#[derive(Debug)]
pub struct Ops(Decoder);

impl Iterator for Ops {
    type Item = Result<Op, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let op = Op::decode(&mut self.0);
        if op.is_err() {
            self.0 = Decoder::new(Bytes::new());
        }
        Some(op)
    }
}

#[cfg(test)]
mod tests;
