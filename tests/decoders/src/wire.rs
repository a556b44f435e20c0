//! What crosses a connection.

use bytes::Bytes;
use livmig_proto::{
    control::{self as messages, Listening, MoverRequest, Response, Session},
    frame::{FrameBuilder, decode_frame, frame_length},
    hex,
    identity::{PrivateKey, PublicKey, client_config},
    limits::{CONTROL_MESSAGE_MAX, DEPTH_MAX, FRAME_MAX, NAME_MAX, PATH_BYTES_MAX},
    name::{Name, RelPath, escape},
    session::{Listed, Query, ToDestination, ToSource},
};
use serde::{Serialize, de::DeserializeOwned};

/// A data frame with its length.
pub fn frame(data: &[u8]) {
    let Some((prefix, body)) = data.split_first_chunk::<4>() else {
        return;
    };
    assert!(
        frame_length(*prefix).is_ok_and(|length| length <= FRAME_MAX)
            || frame_length(*prefix).is_err()
    );
    let Ok((sequence, ops)) = decode_frame(Bytes::copy_from_slice(body)) else {
        return;
    };
    let mut builder = FrameBuilder::new();
    let mut decoded = Vec::new();
    for op in ops.map_while(Result::ok) {
        builder.push(&op);
        decoded.push(op);
    }
    let again = builder.take(sequence).slice(4..);
    assert!(again.len() <= body.len(), "ops grew");
    let Ok((number, ops)) = decode_frame(again) else {
        unreachable!("a frame without its number");
    };
    assert_eq!(number, sequence);
    assert_eq!(ops.collect::<Result<Vec<_>, _>>(), Ok(decoded));
}

/// A record of a listing with its length.
pub fn listed(data: &[u8]) {
    let Some((prefix, body)) = data.split_first_chunk::<4>() else {
        return;
    };
    assert!(Listed::frame_length(*prefix).is_err() || u32::from_le_bytes(*prefix) <= 4 << 20);
    if let Ok(record) = Listed::decode(Bytes::copy_from_slice(body)) {
        let frame = record.to_frame();
        assert_eq!(frame.get(4..), Some(body), "one record, two encodings");
    }
}

/// Messages between a coordinator and a mover.
pub fn control(data: &[u8]) {
    if let Some((prefix, _)) = data.split_first_chunk::<4>()
        && let Ok(length) = messages::decode_length(*prefix)
    {
        assert!(length <= CONTROL_MESSAGE_MAX);
    }
    let json = data.get(4..).unwrap_or_default();
    if let Some((once, again)) = twice::<MoverRequest>(json) {
        assert_eq!(once, again);
    }
    if let Some((once, again)) = twice::<Listening>(json) {
        assert_eq!(once, again);
    }
    // They hold seconds: a fraction need not survive its text to the last bit.
    twice::<Response>(json);
    twice::<Session>(json);
}

/// Messages between the two movers.
pub fn session(data: &[u8]) {
    let json = data.get(4..).unwrap_or_default();
    if let Some((once, again)) = twice::<ToDestination>(json) {
        assert_eq!(once, again);
    }
    if let Some((once, again)) = twice::<Query>(json) {
        assert_eq!(once, again);
    }
    twice::<ToSource>(json);
}

/// The message in `json`, and what its own encoding decodes to.
fn twice<T: DeserializeOwned + Serialize>(json: &[u8]) -> Option<(T, T)> {
    let once: T = messages::decode(json).ok()?;
    let Ok(frame) = messages::encode(&once) else {
        unreachable!("a message that was decoded has no encoding");
    };
    let Ok(again) = messages::decode(frame.get(4..).unwrap_or_default()) else {
        unreachable!("a message does not survive its encoding");
    };
    Some((once, again))
}

/// Names, paths, and how they are shown.
pub fn name(data: &[u8]) {
    if let Ok(name) = Name::new(data) {
        assert_eq!(name.as_bytes(), data);
        assert!(!data.is_empty() && data.len() <= NAME_MAX);
        assert!(!data.contains(&b'/') && !data.contains(&0) && data != b"." && data != b"..");
        assert!(RelPath::ROOT.child(&name).is_ok());
    }
    if let Ok(path) = RelPath::new(data) {
        assert!(data.len() <= PATH_BYTES_MAX);
        let mut built = RelPath::ROOT;
        for component in path.components() {
            let child = Name::new(component).and_then(|name| built.child(&name));
            assert!(child.is_ok(), "a component of a path is no name");
            built = child.unwrap_or_default();
        }
        assert_eq!(built, path);
        assert!(path.components().count() <= DEPTH_MAX);
        assert_eq!(path.split().is_none(), path.is_root());
    }
    assert!(!escape(data).chars().any(char::is_control));
}

/// Hexadecimal text.
pub fn hexadecimal(data: &[u8]) {
    assert_eq!(hex::decode(&hex::encode(data)).as_deref(), Some(data));
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Some(bytes) = hex::decode(text) {
        assert_eq!(hex::encode(&bytes), text.to_lowercase());
    }
}

/// Keys, private and public.
pub fn keys(data: &[u8]) {
    let own = PrivateKey::from_pkcs8(data.to_vec());
    let public = own.public();
    let peer = PublicKey(data.to_vec());
    let config = client_config(&own, &peer, b"any");
    assert_eq!(public.is_ok(), config.is_ok());
}
