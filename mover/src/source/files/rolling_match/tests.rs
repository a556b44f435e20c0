use std::convert::Infallible;

use livmig_proto::tree::BLOCK;

use super::*;

const KEY: [u8; 32] = [9; 32];

/// Numbers without a pattern (Knuth's MMIX generator).
struct Rng(u64);

impl Rng {
    fn draw(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.draw()).unwrap() % limit.max(1)
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.draw().to_le_bytes()[0]).collect()
    }
}

/// What came of a search: the new content built from the old, and how much of it was sent.
struct Built {
    content: Vec<u8>,
    literal: usize,
}

/// Searches `new`, window by window, and builds it.
fn build(old: &[u8], new: &[u8], block: usize, every: u64, window: usize) -> Built {
    let known = |first: u64, count: usize| {
        let first = usize::try_from(first).unwrap();
        let tags = old.chunks(block).skip(first).take(count);
        Ok::<_, Infallible>(
            tags.map(|content| tags::tag(&KEY, &hash::leaves_of(content)))
                .collect(),
        )
    };
    let step = usize::try_from(every).unwrap();
    let sums: Vec<u32> = old
        .chunks_exact(block)
        .step_by(step)
        .map(|content| Rolling::of(content).value())
        .collect();
    let subject = Old {
        size: to_u64(old.len()),
        block,
        every,
    };
    let mut search = Search::new(subject, KEY, &sums);
    let mut built = vec![0; new.len()];
    let (mut literal, mut offset) = (0, 0);
    loop {
        let end = (offset + window).min(new.len());
        let content = &new[offset..end];
        let last = end == new.len();
        let place = if last {
            WindowPlace::Last
        } else {
            WindowPlace::Inner
        };
        let Ok(decided) = search.window(content, place, BLOCK, known);
        for part in decided.parts {
            match part {
                Part::Literal(range) => {
                    literal += range.len();
                    built[offset + range.start..offset + range.end]
                        .copy_from_slice(&content[range]);
                }
                Part::Copy { from, at } => {
                    let from = usize::try_from(from).unwrap();
                    let source = &old[from..from + at.len()];
                    built[offset + at.start..offset + at.end].copy_from_slice(source);
                }
            }
        }
        if last {
            assert_eq!(decided.consumed, content.len());
            return Built {
                content: built,
                literal,
            };
        }
        assert!(decided.consumed > 0 && decided.consumed.is_multiple_of(BLOCK));
        offset += decided.consumed;
    }
}

#[test]
fn an_insertion_is_all_that_is_new() {
    let mut rng = Rng(1);
    let old = rng.bytes(200 * BLOCK + 77);
    for (at, len) in [(0, 13), (0, 5 * BLOCK + 13), (70 * BLOCK, 1), (1234, 9000)] {
        let new = [&old[..at], &rng.bytes(len), &old[at..]].concat();
        let built = build(&old, &new, BLOCK, 3, 16 * BLOCK);
        assert!(built.content == new, "{len} bytes at {at}");
        // No more than the blocks around it.
        assert!(
            built.literal <= len + 2 * BLOCK,
            "{len} bytes at {at}: {} sent",
            built.literal
        );
    }
}

#[test]
fn whatever_was_done_to_it_the_new_content_is_built() {
    for seed in 0..300 {
        let mut rng = Rng(seed);
        let size = 20 * BLOCK + rng.below(60 * BLOCK);
        let old = match seed % 4 {
            // Content that repeats itself, and long runs of zeros.
            0 => {
                let some = rng.bytes(3 * BLOCK / 2);
                some.iter().copied().cycle().take(size).collect()
            }
            1 => [vec![0; size / 2], rng.bytes(size / 2)].concat(),
            _ => rng.bytes(size),
        };
        let mut new = old.clone();
        for _ in 0..=rng.below(4) {
            let at = rng.below(new.len());
            let len = rng.below(3 * BLOCK);
            let end = (at + len).min(new.len());
            match rng.below(4) {
                0 => drop(new.drain(at..end)),
                1 => drop(new.splice(at..at, rng.bytes(len))),
                2 => new[at..end].fill(7),
                _ => {
                    let moved: Vec<u8> = new.drain(at..end).collect();
                    let to = rng.below(new.len());
                    drop(new.splice(to..to, moved));
                }
            }
        }
        let (block, every) = (BLOCK << rng.below(2), 1 + to_u64(rng.below(4)));
        let built = build(&old, &new, block, every, 8 * block * (1 + rng.below(3)));
        assert!(built.content == new, "seed {seed}");
    }
}

#[test]
fn what_changed_between_two_windows_is_sent() {
    let mut rng = Rng(5);
    let old = rng.bytes(64 * BLOCK);
    let new = [&rng.bytes(100), &old[..]].concat();
    let known = |first: u64, count: usize| {
        let tags = old.chunks(BLOCK).skip(usize::try_from(first).unwrap());
        Ok::<_, Infallible>(
            tags.take(count)
                .map(|content| tags::tag(&KEY, &hash::leaves_of(content)))
                .collect(),
        )
    };
    let sums = [Rolling::of(&old[..BLOCK]).value()];
    let subject = Old {
        size: to_u64(old.len()),
        block: BLOCK,
        every: 1000,
    };
    let mut search = Search::new(subject, KEY, &sums);
    let Ok(first) = search.window(&new[..16 * BLOCK], WindowPlace::Inner, BLOCK, known);
    let mut changed = new[first.consumed..].to_vec();
    changed[50] ^= 1;
    let Ok(second) = search.window(&changed, WindowPlace::Last, BLOCK, known);
    assert_eq!(second.parts.first(), Some(&Part::Literal(0..100)));
    assert!(matches!(second.parts.get(1), Some(Part::Copy { .. })));
}

#[test]
fn sums_that_promise_what_is_not_there_cost_no_more_than_a_scan() {
    let mut rng = Rng(6);
    let old = rng.bytes(64 * BLOCK);
    let new = vec![7; 64 * BLOCK];
    // The peer says that the first block is like every place of the new content.
    let sums = [Rolling::of(&new[..BLOCK]).value()];
    let subject = Old {
        size: to_u64(old.len()),
        block: BLOCK,
        every: 1,
    };
    let asked = std::cell::Cell::new(0_u64);
    let known = |_, count| {
        asked.set(asked.get() + 1);
        Ok::<_, Infallible>(vec![Tag([1; 16]); count])
    };
    let mut search = Search::new(subject, KEY, &sums);
    let Ok(decided) = search.window(&new, WindowPlace::Last, BLOCK, known);
    assert_eq!(decided.parts, [Part::Literal(0..new.len())]);
    let (free, every) = VAIN;
    assert!(asked.get() <= free + to_u64(new.len()) / every + 2);
}
