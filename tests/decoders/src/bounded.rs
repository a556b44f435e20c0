//! Every decoder on a bounded number of inputs: noise, valid encodings, and valid encodings that
//! were damaged. A failure names the target and its seed; `LIVMIG_SEED=7` tries that one alone.

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind},
};

use livmig_tests::rng::Rng;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{TARGETS, valid};

/// Inputs of each target.
const INPUTS: u64 = 2000;

/// What the process may take beyond what it has: a length that is believed before it is checked
/// asks for more.
const ROOM: u64 = 256 << 20;

/// The words that lengths are most often wrong by.
const LENGTHS: [u32; 8] = [
    0,
    1,
    0x7f,
    0xffff,
    4 << 20,
    0x7fff_ffff,
    0xffff_fffe,
    u32::MAX,
];

#[test]
fn no_decoder_panics_or_believes_a_length() {
    // The limit is the whole process's; the other test here takes next to nothing.
    limit_memory();
    let alone: Option<u64> = env::var("LIVMIG_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    for (name, target) in TARGETS {
        let valid = valid::encodings(name);
        for input in &valid {
            target(input);
        }
        for seed in alone.map_or(0..INPUTS, |seed| seed..seed + 1) {
            let input = input(&valid, &mut Rng::new(seed));
            let outcome = catch_unwind(AssertUnwindSafe(|| target(&input)));
            assert!(
                outcome.is_ok(),
                "target {name}, seed {seed}: {}",
                input.escape_ascii()
            );
        }
    }
}

/// One input: noise, or something valid that was damaged in one to four places.
fn input(valid: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let length = usize::try_from(rng.below(300)).unwrap();
    let mut input = match rng.pick(valid) {
        Some(valid) if !rng.chance(10) => valid.clone(),
        _ => rng.bytes(length),
    };
    for _ in 0..=rng.below(4) {
        damage(&mut input, valid, rng);
    }
    input
}

fn damage(input: &mut Vec<u8>, valid: &[Vec<u8>], rng: &mut Rng) {
    let mut place = |len: usize| usize::try_from(rng.below(len as u64)).unwrap();
    let (at, other) = (place(input.len()), place(input.len() + 1));
    match place(7) {
        0 if !input.is_empty() => input[at] ^= 1 << place(8),
        1 if !input.is_empty() => input[at] = u8::try_from(place(256)).unwrap(),
        2 => input.truncate(other),
        3 => {
            let length = place(20);
            let noise = rng.bytes(length);
            input.splice(other..other, noise);
        }
        4 if at + 4 <= input.len() => {
            let word = LENGTHS[place(LENGTHS.len())];
            let bytes = if place(2) == 0 {
                word.to_le_bytes()
            } else {
                word.to_be_bytes()
            };
            input[at..at + 4].copy_from_slice(&bytes);
        }
        5 => {
            let end = at.max(other).min(input.len());
            input.drain(at.min(end)..end);
        }
        _ => {
            let from = rng.pick(valid).cloned().unwrap_or_default();
            let start = usize::try_from(rng.below(from.len() as u64)).unwrap();
            input.splice(other..other, from[start..].iter().copied());
        }
    }
}

/// Sets the limit on memory to what is in use and [`ROOM`].
fn limit_memory() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let kibibytes: u64 = size
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    let limit = Rlimit {
        current: Some(kibibytes * 1024 + ROOM),
        maximum: getrlimit(Resource::As).maximum,
    };
    setrlimit(Resource::As, limit).unwrap();
}

/// Damage to what was never valid would test little.
#[test]
fn what_is_called_valid_is_accepted() {
    for (name, _) in TARGETS {
        for input in valid::encodings(name) {
            assert!(
                valid::is_accepted(name, &input),
                "{name}: {}",
                input.escape_ascii()
            );
        }
    }
}
