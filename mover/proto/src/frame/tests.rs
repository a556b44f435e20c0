//! Frames on the wire and back.

use proptest::prelude::*;

use super::*;
use crate::{
    entry::{
        Node,
        tests::{metas, nodes},
    },
    lately::Relative,
    name::{Name, RelPath},
    tree::Digest,
};

fn names() -> impl Strategy<Value = Name> {
    prop::collection::vec(1_u8.., 1..30)
        .prop_filter_map("not a name", |bytes| Name::new(&bytes).ok())
}

fn paths() -> impl Strategy<Value = RelPath> {
    prop::collection::vec(names(), 0..4).prop_map(|names| {
        names
            .iter()
            .fold(RelPath::ROOT, |path, name| path.child(name).unwrap())
    })
}

fn ops() -> impl Strategy<Value = Op> {
    let digest = || any::<[u8; 32]>().prop_map(Digest);
    let content = || prop::collection::vec(any::<u8>(), 0..100).prop_map(Bytes::from);
    let range = || (0_u64..1 << 50, 0_u64..1 << 50);
    let mode = prop_oneof![
        Just(OpenMode::InPlace),
        Just(OpenMode::Shared),
        Just(OpenMode::Replace),
        Just(OpenMode::Rebuild)
    ];
    let apart = prop_oneof![Just(ApartKind::Directory), Just(ApartKind::File)];
    prop_oneof![
        paths().prop_map(|path| Op::Enter {
            path: Relative::whole(&path)
        }),
        names().prop_map(|name| Op::Remove { name }),
        names().prop_map(|name| Op::Directory { name }),
        (names(), any::<bool>(), metas(), digest(), content()).prop_map(
            |(name, replace, meta, root, content)| Op::File {
                name,
                replace,
                meta,
                root,
                content
            }
        ),
        (names(), metas(), nodes()).prop_filter_map("a file", |(name, meta, node)| {
            (!matches!(node, Node::File { .. } | Node::Directory)).then_some(Op::Node {
                name,
                meta,
                node,
            })
        }),
        (names(), metas(), apart).prop_map(|(name, meta, kind)| Op::Apart { name, meta, kind }),
        (names(), metas(), any::<u32>()).prop_map(|(name, meta, names)| Op::Meta {
            name,
            meta,
            names
        }),
        (names(), mode, any::<(u32, bool)>(), digest()).prop_map(
            |(name, mode, (names, sparse), base)| Op::Open {
                names,
                name,
                mode,
                sparse,
                base
            }
        ),
        (0_u64..1 << 50, digest(), content()).prop_map(|(offset, digest, content)| Op::Data {
            offset,
            digest,
            content
        }),
        range().prop_map(|(offset, len)| Op::Zero { offset, len }),
        range().prop_map(|(offset, len)| Op::Hole { offset, len }),
        (range(), 0_u64..1 << 50).prop_map(|((offset, len), from)| Op::Copy { from, offset, len }),
        (0_u64..1 << 50, range(), metas(), digest()).prop_map(
            |(size, (start, len), meta, root)| {
                Op::Close {
                    size,
                    root,
                    reserved: Reserve { start, len },
                    meta,
                }
            }
        ),
        (names(), paths(), names()).prop_map(|(name, directory, target)| Op::Link {
            name,
            directory: Relative::whole(&directory),
            target
        }),
        (metas(), digest()).prop_map(|(meta, member)| Op::DirectoryMeta { meta, member }),
    ]
}

/// A whole frame, decoded.
fn decoded(frame: Bytes) -> Result<(u64, Vec<Op>), DecodeError> {
    let (sequence, ops) = decode_frame(frame)?;
    Ok((sequence, ops.collect::<Result<_, _>>()?))
}

#[test]
fn ops_are_decoded_one_by_one_up_to_the_first_that_is_none() {
    let mut out = Encoder::new();
    out.u64(7);
    for name in [b"a", b"/", b"b"] {
        out.u8(2);
        out.bytes(name);
    }
    let (sequence, mut ops) = decode_frame(out.into_bytes()).unwrap();
    let name = Name::new(b"a").unwrap();
    assert_eq!((sequence, ops.next()), (7, Some(Ok(Op::Remove { name }))));
    assert!(ops.next().unwrap().is_err());
    assert_eq!(ops.next(), None);
}

proptest! {
    #[test]
    fn frames_survive_the_wire(
        ops in prop::collection::vec(ops(), 0..12),
        sequence: u64,
    ) {
        let mut builder = FrameBuilder::new();
        for op in &ops {
            builder.push(op);
        }
        let mut frame = builder.take(sequence);
        prop_assert!(builder.is_empty());
        let prefix: [u8; 4] = frame.split_to(4)[..].try_into().unwrap();
        prop_assert_eq!(frame_length(prefix).unwrap(), frame.len());
        prop_assert_eq!(decoded(frame).unwrap(), (sequence, ops));
    }

    #[test]
    fn any_bytes_decode_or_are_refused(bytes: Vec<u8>) {
        let _ = decoded(Bytes::from(bytes));
    }

    #[test]
    fn a_flipped_byte_never_panics(
        ops in prop::collection::vec(ops(), 1..4),
        position: prop::sample::Index,
        flip in 1_u8..,
    ) {
        let mut builder = FrameBuilder::new();
        for op in &ops {
            builder.push(op);
        }
        let mut frame = builder.take(0).to_vec();
        let position = position.index(frame.len());
        frame[position] ^= flip;
        let _ = decoded(Bytes::from(frame).slice(4..));
    }
}

#[test]
fn names_that_leave_the_tree_are_refused() {
    for bad in [&b".."[..], b"", b"a/b", b"."] {
        let mut out = Encoder::new();
        out.u64(0);
        out.u8(2);
        out.bytes(bad);
        assert!(decoded(out.into_bytes()).is_err(), "{bad:?}");
    }
}

#[test]
fn a_full_frame_stays_below_the_limit() {
    const { assert!(FRAME_CONTENT_MAX * 2 < FRAME_MAX) };
    assert!(frame_length(u32::MAX.to_le_bytes()).is_err());
    assert!(frame_length(7_u32.to_le_bytes()).is_err());
}
