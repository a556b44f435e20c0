//! The primitives of every binary encoding: fixed-width little-endian numbers and byte strings
//! with a 4-byte length, decoded within bounds.

use bytes::{Buf as _, Bytes};

use crate::{
    limits::FILE_SIZE_MAX,
    name::{Name, NameError, RelPath},
    tree::Digest,
};

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DecodeError {
    /// They end too early.
    #[error("message ends too early")]
    Short,
    /// A length or count is beyond its bound.
    #[error("message holds a length beyond its bound")]
    TooLong,
    /// They go on after the end.
    #[error("message goes on after its end")]
    Trailing,
    /// A value is not one of those allowed.
    #[error("message holds an invalid {0}")]
    Invalid(&'static str),
    /// A name is not one.
    #[error("message holds an invalid name")]
    Name(#[from] NameError),
}

/// Appends values to a buffer.
#[derive(Clone, Debug, Default)]
pub struct Encoder(Vec<u8>);

impl Encoder {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty buffer with room for `bytes`.
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// Appends one byte.
    pub fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    /// Appends a number.
    pub fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Appends a number.
    pub fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Appends a number.
    pub fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Appends a number.
    pub fn i64(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Appends a count. Counts beyond 32 bits cannot arise: everything counted is in memory and
    /// bounded by a frame.
    pub fn count(&mut self, value: usize) {
        self.u32(u32::try_from(value).unwrap_or(u32::MAX));
    }

    /// Appends bytes with their length.
    pub fn bytes(&mut self, value: &[u8]) {
        self.count(value.len());
        self.0.extend_from_slice(value);
    }

    /// Appends bytes without their length.
    pub fn raw(&mut self, value: &[u8]) {
        self.0.extend_from_slice(value);
    }

    /// Appends a digest.
    pub fn digest(&mut self, value: &Digest) {
        self.0.extend_from_slice(&value.0);
    }

    /// Appends a name.
    pub fn name(&mut self, value: &Name) {
        self.bytes(value.as_bytes());
    }

    /// Appends a path.
    pub fn path(&mut self, value: &RelPath) {
        self.bytes(value.as_bytes());
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes so far.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, for good.
    pub fn into_bytes(self) -> Bytes {
        Bytes::from(self.0)
    }
}

/// Takes values from a buffer.
#[derive(Clone, Debug)]
pub struct Decoder(Bytes);

impl Decoder {
    /// Decodes `bytes`.
    pub fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// Whether everything was taken.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes one byte.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        self.0.try_get_u8().map_err(|_| DecodeError::Short)
    }

    /// Takes a number.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        self.0.try_get_u16_le().map_err(|_| DecodeError::Short)
    }

    /// Takes a number.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.0.try_get_u32_le().map_err(|_| DecodeError::Short)
    }

    /// Takes a number.
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        self.0.try_get_u64_le().map_err(|_| DecodeError::Short)
    }

    /// Takes a number.
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        self.0.try_get_i64_le().map_err(|_| DecodeError::Short)
    }

    /// Takes a file's size or an offset in one.
    pub fn file_offset(&mut self) -> Result<u64, DecodeError> {
        match self.u64()? {
            offset if offset <= FILE_SIZE_MAX => Ok(offset),
            _ => Err(DecodeError::TooLong),
        }
    }

    /// Takes a boolean.
    pub fn flag(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Invalid("flag")),
        }
    }

    /// Takes a count of at most `max`.
    pub fn count(&mut self, max: usize) -> Result<usize, DecodeError> {
        match usize::try_from(self.u32()?) {
            Ok(count) if count <= max => Ok(count),
            _ => Err(DecodeError::TooLong),
        }
    }

    /// Takes at most `max` bytes with their length.
    pub fn bytes(&mut self, max: usize) -> Result<Bytes, DecodeError> {
        let len = self.count(max)?;
        self.raw(len)
    }

    /// Takes `len` bytes.
    pub fn raw(&mut self, len: usize) -> Result<Bytes, DecodeError> {
        if len > self.0.len() {
            return Err(DecodeError::Short);
        }
        Ok(self.0.split_to(len))
    }

    /// Takes a digest.
    pub fn digest(&mut self) -> Result<Digest, DecodeError> {
        let mut digest = [0; 32];
        self.0
            .try_copy_to_slice(&mut digest)
            .map_err(|_| DecodeError::Short)?;
        Ok(Digest(digest))
    }

    /// Takes a name.
    pub fn name(&mut self) -> Result<Name, DecodeError> {
        Ok(Name::new(&self.bytes(crate::limits::NAME_MAX)?)?)
    }

    /// Takes a path.
    pub fn path(&mut self) -> Result<RelPath, DecodeError> {
        Ok(RelPath::new(&self.bytes(crate::limits::PATH_BYTES_MAX)?)?)
    }

    /// Ends: nothing may be left.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Trailing)
        }
    }
}
