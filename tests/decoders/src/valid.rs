//! Valid encodings for each target to begin with.

use bytes::Bytes;
use livmig_engine::record::Record;
use livmig_mover::{
    catalog::{
        log::{Key, Log},
        segment::{Entry, Kept, KeptFile, Segment},
        store::{Change, Store},
        tags::TagsRef,
    },
    hash::rolling::Rolling,
    persistent::Head,
    touched::{BlockRange, Touch, Written, WrittenContent},
};
use livmig_proto::{
    control::{self, Listening, MoverRequest, Response},
    entry::{Meta, Node, Xattr},
    frame::{ApartKind, FrameBuilder, Op, OpenMode, Reserve, decode_frame},
    identity::PrivateKey,
    lately::{Lately, Relative},
    name::{Name, RelPath},
    session::{Listed, Query, ToDestination, ToSource},
    tree::Digest,
};

const DIGEST: Digest = Digest([7; 32]);

/// Valid inputs of the target `name`; at least one.
pub(crate) fn encodings(name: &str) -> Vec<Vec<u8>> {
    let valid = match name {
        "control" => messages(&[
            r#"{"id":1,"epoch":2,"body":{"type":"hello"}}"#,
            r#"{"id":1,"epoch":2,"body":{"type":"stopPass","pass":4}}"#,
            r#"{"id":3,"epoch":1,"body":{"type":"pass","pass":1,"kind":"live","destination":"127.0.0.1:4711","verify":"readback"}}"#,
            r#"{"id":3,"body":{"type":"accepted"}}"#,
            r#"{"id":3,"body":{"type":"progress","stage":"settling","entries":1,"entriesExpected":2,"bytesScanned":3,"bytesTotal":4,"bytesSent":5,"seconds":1.5}}"#,
            r#"{"id":3,"body":{"type":"refused","code":"busy","side":"source","message":"m","path":"p"}}"#,
            r#"{"control":"127.0.0.1:1","data":null,"pid":4}"#,
        ]),
        "session" => messages(&[
            r#"{"type":"settle"}"#,
            r#"{"type":"list","path":{"from":0,"up":1,"below":"6162"}}"#,
            r#"{"type":"sums","path":{"from":255,"up":0,"below":""},"name":"61","block":4096,"every":3}"#,
            r#"{"type":"ready","instance":"000102030405060708090a0b0c0d0e0f","empty":true}"#,
            r#"{"type":"applied","lane":1,"up_to":7}"#,
        ]),
        "frame" => vec![frame()],
        "listed" => listed(),
        "shift" => vec![shift()],
        "head" => vec![Head::new().encode()],
        "segment" => vec![segment().encode()],
        "touched" => vec![touched()],
        "log" => vec![log()],
        "store" => vec![store()],
        "keys" => {
            let key = PrivateKey::generate().unwrap();
            vec![key.pkcs8().to_vec(), key.public().unwrap().0]
        }
        "record" => records().into_iter().map(Into::into).collect(),
        "journal" => vec![(records().join("\n") + "\n").into()],
        "quantity" => ["1.5Gi", "500m", "12e-1", "+5k", "99E"]
            .map(Into::into)
            .into(),
        "name" => ["a/b/c", "name", "\u{202e}x\n"].map(Into::into).into(),
        "hexadecimal" => ["000fFF", "é1"].map(Into::into).into(),
        other => panic!("no valid input for {other}"),
    };
    assert!(!valid.is_empty());
    valid
}

/// Whether what the target `name` calls takes `input`. Where a target takes anything there is
/// nothing to ask.
pub(crate) fn is_accepted(name: &str, input: &[u8]) -> bool {
    let body = || Bytes::copy_from_slice(&input[4..]);
    match name {
        "control" => {
            control::decode::<MoverRequest>(&body()).is_ok()
                || control::decode::<Response>(&body()).is_ok()
                || control::decode::<Listening>(&body()).is_ok()
        }
        "session" => {
            control::decode::<ToDestination>(&body()).is_ok()
                || control::decode::<ToSource>(&body()).is_ok()
                || control::decode::<Query>(&body()).is_ok()
        }
        "frame" => decode_frame(body()).is_ok_and(|(_, mut ops)| ops.all(|op| op.is_ok())),
        "listed" => Listed::decode(body()).is_ok(),
        "head" => Head::decode(input).is_some(),
        "segment" => Segment::decode(input.to_vec()).is_ok(),
        "touched" => Touch::decode(input.to_vec()).is_ok(),
        "record" => std::str::from_utf8(input).is_ok_and(|line| Record::decode(line).is_ok()),
        _ => true,
    }
}

fn messages(texts: &[&str]) -> Vec<Vec<u8>> {
    let framed = |text: &&str| {
        serde_json::from_str::<serde_json::Value>(text).unwrap();
        let length = u32::try_from(text.len()).unwrap();
        [&length.to_be_bytes()[..], text.as_bytes()].concat()
    };
    texts.iter().map(framed).collect()
}

fn records() -> [String; 2] {
    [
        r#"{"schema":1,"seq":7,"epoch":2,"at":1750000000123,"event":{"type":"intent","step":{"name":"pass","number":3,"kind":"live"}}}"#,
        r#"{"schema":1,"seq":8,"epoch":3,"at":1750000000124,"event":{"type":"adopted"}}"#,
    ]
    .map(str::to_owned)
}

fn named(name: &[u8]) -> Name {
    Name::new(name).unwrap()
}

fn meta() -> Meta {
    Meta {
        mode: 0o640,
        xattrs: vec![Xattr {
            name: b"user.x".to_vec(),
            value: b"value".to_vec(),
        }],
        ..Meta::default()
    }
}

fn frame() -> Vec<u8> {
    let mut builder = FrameBuilder::new();
    let ops = [
        Op::Enter {
            path: Relative::whole(&RelPath::new(b"a/b").unwrap()),
        },
        Op::Directory { name: named(b"d") },
        Op::Open {
            name: named(b"f"),
            mode: OpenMode::InPlace,
            names: 1,
            sparse: true,
            base: DIGEST,
        },
        Op::Data {
            offset: 8192,
            digest: DIGEST,
            content: Bytes::from_static(b"content"),
        },
        Op::Hole { offset: 0, len: 9 },
        Op::Copy {
            from: 1,
            offset: 2,
            len: 3,
        },
        Op::Close {
            size: 9000,
            root: DIGEST,
            reserved: Reserve {
                start: 9000,
                len: 100,
            },
            meta: meta(),
        },
        Op::Node {
            name: named(b"s"),
            meta: meta(),
            node: Node::Symlink {
                target: b"target".to_vec(),
            },
        },
        Op::Link {
            name: named(b"l"),
            directory: Lately::new().refer(&RelPath::new(b"a/b").unwrap()),
            target: named(b"f"),
        },
        Op::Apart {
            name: named(b"m"),
            meta: meta(),
            kind: ApartKind::Directory,
        },
        Op::DirectoryMeta {
            meta: meta(),
            member: DIGEST,
        },
    ];
    for op in &ops {
        builder.push(op);
    }
    builder.take(3).to_vec()
}

fn listed() -> Vec<Vec<u8>> {
    let records = [
        Listed::Directory { meta: meta() },
        Listed::Entry {
            name: named(b"n"),
            meta: meta(),
            node: Node::CharDevice { device: (1, 3) },
            links: 4,
            count: 2,
        },
        Listed::Tags {
            tags: vec![1; 64].into(),
        },
        Listed::Content { size: 99 },
        Listed::End,
    ];
    records.map(|record| record.to_frame().to_vec()).into()
}

/// Checksums of blocks of content, and that content, shifted.
fn shift() -> Vec<u8> {
    let old: Vec<u8> = (0..40_000_u32).flat_map(u32::to_le_bytes).collect();
    let sums = old.chunks_exact(512).step_by(3).take(64);
    let sums = sums.flat_map(|block| Rolling::of(block).value().to_le_bytes());
    sums.chain(*b"something new")
        .chain(old.iter().copied())
        .collect()
}

fn segment() -> Segment {
    let entry = |name: &[u8], kept| Entry {
        name: named(name),
        seen: None,
        kept,
    };
    let file = KeptFile {
        digest: DIGEST,
        size: 200_000,
        root: DIGEST,
        tags: Some(TagsRef {
            offset: 4096,
            count: 13,
            capacity: 32,
            block_log2: 13,
        }),
        reserved: Some(Reserve {
            start: 1 << 20,
            len: 4096,
        }),
    };
    Segment {
        path: RelPath::ROOT,
        meta: meta(),
        seen: None,
        entries: vec![
            entry(b"a", Kept::File(file)),
            entry(b"b", Kept::Directory),
            entry(b"c", Kept::Link { group: 9 }),
            entry(b"d", Kept::Other { digest: DIGEST }),
        ],
    }
}

fn touched() -> Vec<u8> {
    let range = BlockRange {
        offset: 8192,
        len: 10,
        digest: Some(DIGEST),
    };
    let contents = [
        WrittenContent::None,
        WrittenContent::Whole {
            size: 3,
            root: DIGEST,
        },
        WrittenContent::Ranges {
            size: 9,
            root: DIGEST,
            base: DIGEST,
            ranges: vec![range, range],
        },
    ];
    let touch = Touch {
        complete: true,
        member: Some(DIGEST),
        writes: contents
            .map(|content| Written {
                name: named(b"x"),
                digest: DIGEST,
                content,
            })
            .into(),
    };
    touch.encode(&RelPath::new(b"a/b").unwrap())
}

fn log() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let file = std::fs::File::options()
        .create_new(true)
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    let mut log = Log::open(file, |_| {}).unwrap();
    log.append(1, Key([1; 16]), b"one").unwrap();
    log.append(2, Key([2; 16]), b"").unwrap();
    log.flush().unwrap();
    std::fs::read(path).unwrap()
}

fn store() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.reset(&Head::new().encode()).unwrap();
    store.put(&segment(), Change::Made).unwrap();
    store.put_group(9, b"shared").unwrap();
    store.flush().unwrap();
    std::fs::read(dir.path().join("catalog")).unwrap()
}
