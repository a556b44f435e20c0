//! What it costs to identify content: the hash tree that both ends compute over every file.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use livmig_proto::tree::{ContentTree, leaf, root_of};

const BLOCK: usize = 8192;
const MIB: usize = 1 << 20;

/// Bytes without a pattern that a hash could profit from, made once.
fn content(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn blocks(c: &mut Criterion) {
    let mut group = c.benchmark_group("block");
    let block = content(BLOCK);
    group.throughput(Throughput::Bytes(BLOCK as u64));
    group.bench_function("digest of 8 KiB", |b| b.iter(|| leaf(black_box(&block))));
    group.finish();
}

fn files(c: &mut Criterion) {
    let mut group = c.benchmark_group("file");
    let file = content(16 * MIB);
    for (name, length) in [("4 KiB", 4096), ("1 MiB", MIB), ("16 MiB", 16 * MIB)] {
        let file = file.get(..length).unwrap_or_default();
        group.throughput(Throughput::Bytes(length as u64));
        group.bench_function(format!("root of {name}"), |b| {
            b.iter(|| root_of(black_box(file)));
        });
    }
    group.finish();
    // Its cost is in steps, not in bytes.
    c.bench_function("root of a hole of 10 GiB", |b| {
        b.iter(|| {
            let mut tree = ContentTree::new();
            tree.push_zeros(black_box(10 << 30));
            tree.finish()
        });
    });
}

criterion_group!(benches, blocks, files);
criterion_main!(benches);
