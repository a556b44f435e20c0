//! Why a mover could not be asked, or did not do what it was asked.

use std::{fmt, io, net::SocketAddr, time::Duration};

use livmig_proto::{
    control::{ControlDecodeError, Fault},
    identity::IdentityError,
};

/// Where a mover is, for people: an address, or a pod.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MoverAddress(pub String);

impl From<SocketAddr> for MoverAddress {
    fn from(address: SocketAddr) -> Self {
        Self(address.to_string())
    }
}

impl fmt::Display for MoverAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a mover could not be asked, or did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens there.
    #[error("Could not connect to the mover at {peer}")]
    Connect {
        /// Where the mover should listen.
        peer: MoverAddress,
        /// What the socket said.
        #[source]
        source: io::Error,
    },
    /// Somebody listens there who is not this migration's mover, or speaks another version.
    #[error("Whoever listens at {peer} is not this migration's mover")]
    Handshake {
        /// Where the mover should listen.
        peer: MoverAddress,
        /// What TLS said.
        #[source]
        source: io::Error,
    },
    /// The connection ended before the answer came.
    #[error("The connection to the mover at {peer} was lost ({reason})")]
    Lost {
        /// Where the mover listened.
        peer: MoverAddress,
        /// How it ended.
        reason: String,
    },
    /// The mover accepts connections and says nothing.
    #[error("The mover at {peer} has said nothing for {seconds} s", seconds = .limit.as_secs())]
    Silent {
        /// Where the mover listens.
        peer: MoverAddress,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The mover understood and refused.
    #[error("The {side} mover refused", side = .0.side)]
    Refused(#[source] Fault),
    /// The answer does not belong to the question.
    #[error("The mover at {peer} answered something else than it was asked")]
    Unexpected {
        /// Where the mover listens.
        peer: MoverAddress,
    },
    /// The mover does not say what it leaves out as this coordinator would hear it.
    #[error(
        "The mover at {peer} is {program}, which is too old to tell this coordinator what it leaves \
         out; use a livmig-mover of the coordinator's version"
    )]
    Old {
        /// Where the mover listens.
        peer: MoverAddress,
        /// What it calls itself.
        program: String,
    },
    /// The request could not be put on the wire.
    #[error("The request to the mover could not be encoded")]
    Encode(#[source] ControlDecodeError),
    /// The keys are not usable.
    #[error("The migration's keys are not usable")]
    Identity(#[from] IdentityError),
}

impl ControlError {
    /// Whether connecting and asking again may help, perhaps after starting the mover again.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Lost { .. } | Self::Silent { .. } => true,
            Self::Refused(fault) => fault.code.is_transient(),
            Self::Handshake { .. }
            | Self::Unexpected { .. }
            | Self::Old { .. }
            | Self::Encode(_)
            | Self::Identity(_) => false,
        }
    }
}
