//! What the engine does beside hashing: frames and segments are written and read, directories are
//! scanned, shifted content is searched for.
#![expect(
    clippy::expect_used,
    reason = "what cannot be set up cannot be measured"
)]

use std::{convert::Infallible, fs::File, hint::black_box};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use livmig_mover::{
    catalog::{
        segment::{Entry, Kept, KeptFile, Segment},
        tags::{self, Tag},
    },
    dir,
    hash::{self, rolling::Rolling},
    rolling_match::{Old, Search, WindowPlace},
    stat::Stat,
};
use livmig_proto::{
    entry::{Meta, Time},
    frame::{FileOp, FrameBuilder, decode_frame},
    name::{Name, RelPath},
    tree::{BLOCK, Digest},
};
use livmig_tests::rng::Rng;

const MIB: usize = 1 << 20;

/// Files of a frame of small files, each of [`SMALL`] bytes.
const FILES: usize = 28;
const SMALL: usize = 9 << 10;

/// Entries of the directory that is remembered and scanned.
const ENTRIES: usize = 10_000;

fn meta() -> Meta {
    Meta {
        mode: 0o644,
        uid: 1000,
        gid: 1000,
        mtime: Time {
            seconds: 1_700_000_000,
            nanoseconds: 1,
        },
        xattrs: Vec::new(),
    }
}

fn name(number: usize) -> Name {
    Name::new(format!("file-{number:05}").as_bytes()).expect("a name")
}

fn frames(c: &mut Criterion) {
    let mut group = c.benchmark_group("frame of small files");
    group.throughput(Throughput::Elements(FILES as u64));
    let content = Rng::new(1).bytes(SMALL);
    let (meta, names) = (meta(), (0..FILES).map(name).collect::<Vec<_>>());
    let build = || {
        let mut frame = FrameBuilder::new();
        for name in &names {
            frame.push_file(&FileOp {
                name,
                replace: false,
                meta: &meta,
                root: Digest([7; 32]),
                content: &content,
            });
        }
        frame.take(1)
    };
    group.bench_function("written", |b| b.iter(build));
    let frame = build().slice(4..);
    group.bench_function("read", |b| {
        b.iter(|| {
            let (_, ops) = decode_frame(black_box(frame.clone())).expect("a frame");
            ops.flatten().count()
        });
    });
    group.finish();
}

fn segments(c: &mut Criterion) {
    let mut group = c.benchmark_group("segment");
    group.throughput(Throughput::Elements(ENTRIES as u64));
    let segment = Segment {
        path: RelPath::ROOT,
        meta: meta(),
        seen: None,
        entries: (0..ENTRIES)
            .map(|number| Entry {
                name: name(number),
                seen: None,
                kept: Kept::File(KeptFile {
                    digest: Digest([7; 32]),
                    size: 9000,
                    root: Digest([8; 32]),
                    tags: None,
                    reserved: None,
                }),
            })
            .collect(),
    };
    group.bench_function("written", |b| b.iter(|| black_box(&segment).encode()));
    let bytes = segment.encode();
    group.bench_function("read", |b| {
        b.iter_batched(
            || bytes.clone(),
            |bytes| Segment::decode(bytes).expect("a segment"),
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

fn scans(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    for number in 0..ENTRIES {
        File::create(folder.path().join(format!("file-{number:05}"))).expect("a file");
    }
    let root = File::open(folder.path()).expect("the folder");
    let mut group = c.benchmark_group("directory");
    group.throughput(Throughput::Elements(ENTRIES as u64));
    group.bench_function("listed and looked at", |b| {
        b.iter(|| {
            let names = dir::list(&root).expect("its names");
            let found = names
                .iter()
                .filter(|name| Stat::of_entry(&root, name).is_ok());
            found.count()
        });
    });
    group.finish();
}

/// The speed at which shifted content is followed, and that at which it is looked for in vain.
fn shifts(c: &mut Criterion) {
    let key = [9; 32];
    let mut rng = Rng::new(2);
    let old = rng.bytes(16 * MIB);
    let new = [&rng.bytes(1000), &old[..]].concat();
    let other = rng.bytes(16 * MIB);
    let subject = Old {
        size: old.len() as u64,
        block: BLOCK,
        every: 8,
    };
    let all: Vec<Tag> = tags::of_blocks(&key, &hash::leaves_of(&old), BLOCK as u64).collect();
    let sums: Vec<u32> = old
        .chunks_exact(BLOCK)
        .step_by(8)
        .map(|block| Rolling::of(block).value())
        .collect();
    let known = |first, count| {
        let first = usize::try_from(first).unwrap_or(usize::MAX);
        let known = all.iter().skip(first).take(count);
        Ok::<_, Infallible>(known.copied().collect::<Vec<_>>())
    };
    let mut group = c.benchmark_group("shifted content");
    for (what, content) in [("followed", &new), ("looked for in vain", &other)] {
        group.throughput(Throughput::Bytes(content.len() as u64));
        group.bench_function(what, |b| {
            b.iter(|| {
                let mut search = Search::new(subject, key, &sums);
                let Ok(decided) =
                    search.window(black_box(content), WindowPlace::Last, BLOCK, known);
                decided.parts.len()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, frames, segments, scans, shifts);
criterion_main!(benches);
