//! What a mover reads from its peer's checksums and from its own state.

use std::{convert::Infallible, fs, io::Write as _};

use livmig_mover::{
    catalog::{log::Log, segment::Segment, store::Store, tags::Tag},
    persistent::Head,
    rolling_match::{Old, Part, Search, WindowPlace},
    touched::Touch,
};
use livmig_proto::name::RelPath;

/// Checksums that a destination may send, and content that they are searched in: 64 of them, then
/// the content, all of whose blocks the source believes to know.
pub fn shift(data: &[u8]) {
    const BLOCK: usize = 512;
    let (sums, content) = data.split_at(data.len().min(4 * 64));
    let sums: Vec<u32> = sums
        .chunks_exact(4)
        .filter_map(|sum| sum.try_into().ok())
        .map(u32::from_le_bytes)
        .collect();
    let old = Old {
        size: data.len() as u64,
        block: BLOCK,
        every: 3,
    };
    let known = |first: u64, count: usize| {
        let tag = |number: usize| Tag([number.to_le_bytes()[0]; 16]);
        let first = usize::try_from(first).unwrap_or(0);
        Ok::<_, Infallible>((first..first.saturating_add(count)).map(tag).collect())
    };
    let mut search = Search::new(old, [0; 32], &sums);
    let Ok(decided) = search.window(content, WindowPlace::Last, BLOCK, known);
    let mut at = 0;
    for part in decided.parts {
        let (Part::Literal(range) | Part::Copy { at: range, .. }) = part;
        assert_eq!(range.start, at, "a gap, or bytes decided twice");
        at = range.end;
    }
    assert_eq!((at, decided.consumed), (content.len(), content.len()));
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
