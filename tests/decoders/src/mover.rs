//! What a mover reads from its peer's signatures and from its own state.

use std::{fs, io::Write as _, ops::ControlFlow};

use livmig_mover::{
    catalog::{log::Log, segment::Segment, store::Store},
    destination::touched::Touch,
    source::{
        delta::{Command, checked_signature, commands},
        head::Head,
    },
};
use livmig_proto::name::RelPath;

/// A rolling delta as it is taken apart.
pub fn delta(data: &[u8]) {
    let (mut literal, mut count) = (0, 0);
    let flow = commands(data, |command| {
        count += 1;
        if let Command::Literal(len) = command {
            literal += len;
        }
        Ok(())
    });
    assert!(count <= data.len() && literal <= data.len());
    if let ControlFlow::Continue(()) = flow {
        assert!(data.contains(&0), "a delta without its end");
    }
}

/// A rolling signature, as it is checked before it is searched.
pub fn signature(data: &[u8]) {
    if let Ok(signature) = checked_signature(data, 4096) {
        let mut out = Vec::new();
        let index = signature.index();
        let content = [7; 10_000];
        assert!(fast_rsync::diff(&index, &content, &mut out).is_ok());
        assert!(out.len() <= 2 * content.len());
        let flow = commands(&out, |_| Ok(()));
        assert!(flow.is_continue(), "a delta of our own");
    }
}

/// What is known of a directory.
pub fn segment(data: &[u8]) {
    let head = Segment::decode_head(data.to_vec());
    if let Ok(segment) = Segment::decode(data.to_vec()) {
        assert_eq!(segment.encode(), data, "one segment, two encodings");
        assert_eq!(head, Ok((segment.path, segment.meta)));
    }
}

/// What was touched in a directory.
pub fn touched(data: &[u8]) {
    if let Ok((path, touch)) = Touch::decode(data.to_vec()) {
        let again = Touch::decode(touch.encode(&path));
        assert_eq!(again, Ok((path, touch)));
    }
}

/// The log under a catalog.
pub fn log(data: &[u8]) {
    let Ok(mut file) = tempfile::tempfile() else {
        return;
    };
    if file.write_all(data).is_err() {
        return;
    }
    let mut bytes = 0;
    let log = Log::open(file, |found| bytes += found.body.len());
    assert!(log.is_ok_and(|log| log.len() <= data.len() as u64));
    assert!(bytes <= data.len());
}

/// A whole catalog: it opens, whatever its file holds.
pub fn store(data: &[u8]) {
    let Ok(dir) = tempfile::tempdir() else {
        return;
    };
    if fs::write(dir.path().join("catalog"), data).is_err() {
        return;
    }
    let store = Store::open(dir.path());
    assert!(store.is_ok(), "{store:?}");
    if let Ok(store) = store {
        let _ = (store.head(), store.members(), store.get(&RelPath::ROOT));
    }
}

/// What a source remembers of itself.
pub fn head(data: &[u8]) {
    if let Some(head) = Head::decode(data) {
        assert!(Head::decode(&head.encode()).is_some());
    }
}
