//! Why a connection at the destination's port comes to nothing, and whether that is worth a line.

use std::{fmt, io};

use quinn::{ConnectionError, TransportErrorCode};

/// Why a connection was not let in.
#[derive(Debug)]
pub(super) enum SessionRefusal {
    /// It is late: its session is over. A source that needs a lane or an answer no more does not wait
    /// until the destination has heard of it.
    Late,
    /// Whoever made it has ended it before it said what for.
    GivenUp,
    /// Something is wrong.
    Fault(io::Error),
}

impl SessionRefusal {
    /// Of a connection that was still to say what it is for.
    pub(super) fn unsaid(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::NotConnected => Self::GivenUp,
            _ => Self::Fault(error),
        }
    }

    /// Of a connection over QUIC that never was one.
    pub(super) fn unmade(error: ConnectionError) -> Self {
        match error {
            // The second is how an application's end is told before both have proven who they are.
            ConnectionError::ApplicationClosed(_) | ConnectionError::Reset => Self::GivenUp,
            ConnectionError::ConnectionClosed(close)
                if close.error_code == TransportErrorCode::APPLICATION_ERROR =>
            {
                Self::GivenUp
            }
            ConnectionError::LocallyClosed => Self::Late,
            error => Self::Fault(error.into()),
        }
    }

    /// Of a connection that belongs to a session that is there.
    pub(super) fn of_session(error: io::Error) -> Self {
        match error.kind() {
            // The session has ended meanwhile.
            io::ErrorKind::ConnectionAborted => Self::Late,
            _ => Self::Fault(error),
        }
    }

    /// Whether nobody has to know.
    pub(super) fn is_harmless(&self) -> bool {
        matches!(self, Self::Late | Self::GivenUp)
    }
}

impl From<io::Error> for SessionRefusal {
    fn from(error: io::Error) -> Self {
        Self::Fault(error)
    }
}

impl fmt::Display for SessionRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late => f.write_str("it comes too late for its session"),
            Self::GivenUp => f.write_str("it was given up"),
            Self::Fault(error) => error.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_its_maker_gave_up_or_nobody_needs_is_harmless() {
        let of = |kind: io::ErrorKind| io::Error::from(kind);
        assert!(SessionRefusal::unsaid(of(io::ErrorKind::UnexpectedEof)).is_harmless());
        assert!(!SessionRefusal::unsaid(of(io::ErrorKind::InvalidData)).is_harmless());
        assert!(SessionRefusal::of_session(of(io::ErrorKind::ConnectionAborted)).is_harmless());
        assert!(!SessionRefusal::of_session(io::Error::other("too many")).is_harmless());
        assert!(SessionRefusal::unmade(ConnectionError::LocallyClosed).is_harmless());
        assert!(!SessionRefusal::unmade(ConnectionError::TimedOut).is_harmless());
        assert!(!SessionRefusal::unmade(ConnectionError::VersionMismatch).is_harmless());
    }
}
