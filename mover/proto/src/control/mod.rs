//! Control: what a coordinator and a mover say to each other.
//!
//! ```text
//! coordinator                                   mover (source or destination)
//!     | -- Request{id, epoch, Hello} ------------> |
//!     | <-------------------- Response{id, Welcome} |
//!     | -- Request{id, epoch, Pass(..)} ----------> |   source only
//!     | <------------------- Response{id, Progress} |   zero or more, about four a second
//!     | <--------------------- Response{id, Report} |   the last word on `id`
//!     | -- Request{id, epoch, Acknowledge{pass}} -> |
//! ```
//!
//! A message is a 4-byte big-endian length, at most [`limits::CONTROL_MESSAGE_MAX`], then that
//! many bytes of JSON. Several requests may be under way on one connection; `id` pairs the
//! answers. The mover's side of TLS is the server's on both ends, on TCP, with ALPN [`ALPN`].
//!
//! Requests are idempotent by (epoch, pass): a `Pass` that is under way is joined, one that has
//! ended answers with its stored report. A request with an epoch lower than the highest seen is
//! refused with [`FaultCode::StaleEpoch`].
//!
//! The major version is in the ALPN; [`VERSION`] is the minor one. Unknown fields are ignored
//! and new fields have defaults, so minors differ freely; but a mover before minor 2 does not say by
//! reasons what it leaves out, and a coordinator would take its silence for nothing.

mod fault;
mod left;
mod message;
mod pass;
mod report;
mod session;
mod side;
mod throttle;
mod welcome;

use serde::{Deserialize, Serialize};

pub use self::{
    fault::{Fault, FaultCode},
    left::{Gravity, LeftEntry, LeftOut, Reason, Reasons, UnknownReason, unconsented},
    message::{MoverRequest, RequestBody, Response, ResponseBody},
    pass::{PassKind, PassRequest, Transport, VerifyLevel},
    report::{ManifestReport, PassReport, PassSeconds, Progress, Stage},
    session::{Listening, Session},
    side::Side,
    throttle::{Bandwidth, IoPriority, Limits, TooLow},
    welcome::{RootFacts, Welcome},
};
use crate::limits;

/// The ALPN of the control protocol; its number is the major version.
pub const ALPN: &[u8] = b"livmig-control/1";

/// The minor version of the control protocol.
pub const VERSION: u32 = 2;

/// The frame of `message`: its length, then its JSON.
///
/// # Errors
/// When the message exceeds [`limits::CONTROL_MESSAGE_MAX`].
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, ControlDecodeError> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message)?;
    let length = frame.len() - 4;
    let prefix = length_prefix(length)?;
    frame.splice(..4, prefix);
    Ok(frame)
}

/// How many bytes of JSON follow this prefix.
///
/// # Errors
/// When they exceed [`limits::CONTROL_MESSAGE_MAX`].
pub fn decode_length(prefix: [u8; 4]) -> Result<usize, ControlDecodeError> {
    let length = usize::try_from(u32::from_be_bytes(prefix)).unwrap_or(usize::MAX);
    length_prefix(length).map(|_| length)
}

/// The message in `json`, the bytes after the prefix.
///
/// # Errors
/// When they are not this message's JSON.
pub fn decode<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, ControlDecodeError> {
    Ok(serde_json::from_slice(json)?)
}

/// The 4-byte prefix of a message of `length` bytes.
fn length_prefix(length: usize) -> Result<[u8; 4], ControlDecodeError> {
    match u32::try_from(length) {
        Ok(short) if length <= limits::CONTROL_MESSAGE_MAX => Ok(short.to_be_bytes()),
        _ => Err(ControlDecodeError::TooLong(length)),
    }
}

/// Why bytes are not a control message.
#[derive(Debug, thiserror::Error)]
pub enum ControlDecodeError {
    /// Longer than allowed.
    #[error("control message of {0} bytes exceeds {max}", max = limits::CONTROL_MESSAGE_MAX)]
    TooLong(usize),
    /// Not the JSON that was expected.
    #[error("control message is not valid")]
    Json(#[from] serde_json::Error),
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::ids::{Epoch, PassNumber};

    #[test]
    fn a_message_survives_its_frame() {
        let request = MoverRequest {
            id: 7,
            epoch: Epoch(3),
            body: RequestBody::Pass(PassRequest {
                pass: PassNumber::FIRST,
                kind: PassKind::Live,
                destination: SocketAddr::from(([127, 0, 0, 1], 4711)),
                verify: VerifyLevel::Readback,
                adopt: false,
                allow_empty: false,
                may_leave_read_back: false,
            }),
        };
        let frame = encode(&request).unwrap();
        let (prefix, json) = frame.split_at(4);
        assert_eq!(
            decode_length(prefix.try_into().unwrap()).unwrap(),
            json.len()
        );
        assert_eq!(decode::<MoverRequest>(json).unwrap(), request);
    }

    #[test]
    fn the_json_of_a_request_is_fixed() {
        let request = MoverRequest {
            id: 1,
            epoch: Epoch(2),
            body: RequestBody::StopPass {
                pass: PassNumber(4),
            },
        };
        assert_eq!(
            serde_json::to_string(&request).unwrap(),
            r#"{"id":1,"epoch":2,"body":{"type":"stopPass","pass":4}}"#
        );
    }

    #[test]
    fn a_limit_is_said_in_one_flat_object() {
        let request = |body: &str| {
            decode::<MoverRequest>(format!(r#"{{"id":1,"epoch":2,"body":{body}}}"#).as_bytes())
        };
        let load = Limits {
            bandwidth: Some(Bandwidth::try_from(1_000_000).unwrap()),
            io_priority: IoPriority::Idle,
        };
        let said = r#"{"type":"limit","bandwidth":1000000,"ioPriority":"idle"}"#;
        assert_eq!(request(said).unwrap().body, RequestBody::Limit(load));
        let nothing = request(r#"{"type":"limit"}"#).unwrap();
        assert_eq!(nothing.body, RequestBody::Limit(Limits::default()));
        for hostile in ["0", "1", "-5", "1e30", "null, \"ioPriority\":\"realtime\""] {
            let body = format!(r#"{{"type":"limit","bandwidth":{hostile}}}"#);
            assert!(request(&body).is_err(), "{body}");
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused() {
        assert!(decode_length(u32::MAX.to_be_bytes()).is_err());
        assert!(decode_length([0; 4]).is_ok());
    }
}
