//! What a connection between the movers says first: which session it belongs to, and what for.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Names the session that a stream belongs to.
pub(super) type Token = [u8; 16];

/// What a connection is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Purpose {
    /// The first of a session, which it begins.
    Begin,
    /// A lane.
    OneWay,
    /// Queries and their answers.
    BothWays,
    /// Any streams of a session, over QUIC.
    Join,
}

/// The first bytes of every connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Hello {
    pub(super) token: Token,
    pub(super) purpose: Purpose,
}

impl Hello {
    const LEN: usize = 17;

    /// Its bytes.
    pub(super) fn encode(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let purpose = match self.purpose {
            Purpose::Begin => 1,
            Purpose::OneWay => 2,
            Purpose::BothWays => 3,
            Purpose::Join => 4,
        };
        let (token, rest) = bytes.split_at_mut(self.token.len());
        token.copy_from_slice(&self.token);
        rest.fill(purpose);
        bytes
    }

    fn decode(bytes: [u8; Self::LEN]) -> Option<Self> {
        let (token, purpose) = bytes.split_at(16);
        let purpose = match purpose {
            [1] => Purpose::Begin,
            [2] => Purpose::OneWay,
            [3] => Purpose::BothWays,
            [4] => Purpose::Join,
            _ => return None,
        };
        Some(Self {
            token: Token::try_from(token).ok()?,
            purpose,
        })
    }

    /// Reads one.
    pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        let mut bytes = [0; Self::LEN];
        stream.read_exact(&mut bytes).await?;
        Self::decode(bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_survives_its_bytes_and_nothing_else_is_one() {
        for purpose in [
            Purpose::Begin,
            Purpose::OneWay,
            Purpose::BothWays,
            Purpose::Join,
        ] {
            let hello = Hello {
                token: [7; 16],
                purpose,
            };
            assert_eq!(Hello::decode(hello.encode()), Some(hello));
        }
        for purpose in [0, 5, 255] {
            let mut bytes = [7; Hello::LEN];
            bytes[16] = purpose;
            assert_eq!(Hello::decode(bytes), None);
        }
    }
}
