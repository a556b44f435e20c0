//! The hash tree of a file's content.
//!
//! Content is cut into blocks of [`BLOCK`] bytes. A *leaf* is the BLAKE3 hash of a block, a
//! *node* the keyed BLAKE3 hash of two subtrees, and the *root* binds the length to the top. The
//! shape is BLAKE3's own: the left subtree is the largest full one that leaves something to the
//! right, so a stack of at most 51 digests suffices while a file streams past.
//!
//! Why not plain BLAKE3 of the file: its chunks are hashed with their position, so a run of
//! zeros has no constant digest, and the terabytes of holes in a sparse file would all have to
//! be hashed. Here an all-zero subtree of any level is a constant.
//!
//! A leaf cannot be mistaken for a node, nor either for a root: the two latter use keys.

use std::{fmt, sync::LazyLock};

use serde::{Deserialize, Serialize};

use crate::hex;

/// Bytes of a block. A database page is 4 to 16 KiB; a finer block would cost more memory and
/// hash calls than the bytes it saves.
pub const BLOCK: usize = 8192;

const BLOCK_U64: u64 = 8192;

const NODE_KEY: [u8; 32] = *b"livmig content tree/1 inner node";
const ROOT_KEY: [u8; 32] = *b"livmig content tree/1 root of it";
const RANGE_KEY: [u8; 32] = *b"livmig content tree/1 leaf range";

/// A 32-byte BLAKE3 digest.
#[derive(Clone, Copy, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Digest(#[serde(with = "hex::array")] pub [u8; 32]);

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

/// The leaf of one block, [`BLOCK`] bytes or, at the end of a file, fewer.
pub fn leaf(block: &[u8]) -> Digest {
    if block.len() == BLOCK && is_zero(block) {
        zero_leaf()
    } else {
        Digest(*blake3::hash(block).as_bytes())
    }
}

/// The leaf of a whole block of zeros.
pub fn zero_leaf() -> Digest {
    let [leaf, ..] = *ZERO_SUBTREES;
    leaf
}

/// Whether every byte is zero.
pub fn is_zero(bytes: &[u8]) -> bool {
    // Comparing with itself, shifted, lets the compiler and libc use wide loads.
    match bytes {
        [] => true,
        [first, rest @ ..] => *first == 0 && bytes.get(..rest.len()) == Some(rest),
    }
}

/// One digest for a run of consecutive leaves.
pub fn range_digest(leaves: &[Digest]) -> Digest {
    let mut hasher = blake3::Hasher::new_keyed(&RANGE_KEY);
    for leaf in leaves {
        hasher.update(&leaf.0);
    }
    Digest(*hasher.finalize().as_bytes())
}

/// Computes a root from leaves and runs of zeros, in order.
#[derive(Clone, Debug, Default)]
pub struct ContentTree {
    /// Full subtrees, largest first; their sizes are the set bits of `leaves`.
    stack: Vec<Digest>,
    leaves: u64,
    bytes: u64,
}

impl ContentTree {
    /// A tree of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the leaf of the next block of `len` bytes. Only the last block of a file may be
    /// shorter than [`BLOCK`].
    pub fn push_leaf(&mut self, leaf: Digest, len: usize) {
        debug_assert!(self.bytes.is_multiple_of(BLOCK_U64) && len <= BLOCK);
        self.bytes += u64::try_from(len).unwrap_or(0);
        self.push_subtree(leaf, 0);
    }

    /// Adds content. All but the last call must bring a multiple of [`BLOCK`] bytes.
    pub fn push_content(&mut self, content: &[u8]) {
        for block in content.chunks(BLOCK) {
            self.push_leaf(leaf(block), block.len());
        }
    }

    /// Adds `len` zero bytes in time logarithmic in `len`. All but the last call must bring a
    /// multiple of [`BLOCK`] bytes.
    pub fn push_zeros(&mut self, len: u64) {
        debug_assert!(self.bytes.is_multiple_of(BLOCK_U64));
        let mut blocks = len / BLOCK_U64;
        while blocks > 0 {
            // The largest subtree that is aligned here and not larger than what is left.
            let aligned = if self.leaves == 0 {
                63
            } else {
                self.leaves.trailing_zeros()
            };
            let level = aligned.min(blocks.ilog2());
            let Some(subtree) = usize::try_from(level)
                .ok()
                .and_then(|at| ZERO_SUBTREES.get(at))
            else {
                return;
            };
            self.bytes += BLOCK_U64 << level;
            blocks -= 1 << level;
            self.push_subtree(*subtree, level);
        }
        let tail = usize::try_from(len % BLOCK_U64).unwrap_or(0);
        if tail > 0 {
            self.push_leaf(leaf(ZERO_BLOCK.get(..tail).unwrap_or_default()), tail);
        }
    }

    /// Bytes added so far.
    pub fn len(&self) -> u64 {
        self.bytes
    }

    /// Whether nothing was added yet.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The root.
    pub fn finish(mut self) -> Digest {
        let mut top = self.stack.pop().unwrap_or(Digest([0; 32]));
        while let Some(left) = self.stack.pop() {
            top = node(&left, &top);
        }
        let mut hasher = blake3::Hasher::new_keyed(&ROOT_KEY);
        hasher.update(&self.bytes.to_le_bytes()).update(&top.0);
        Digest(*hasher.finalize().as_bytes())
    }

    fn push_subtree(&mut self, mut digest: Digest, mut level: u32) {
        self.leaves += 1 << level;
        while (self.leaves >> level) & 1 == 0 {
            let Some(left) = self.stack.pop() else { break };
            digest = node(&left, &digest);
            level += 1;
        }
        self.stack.push(digest);
    }
}

/// The root of content that is in memory.
pub fn root_of(content: &[u8]) -> Digest {
    let mut tree = ContentTree::new();
    tree.push_content(content);
    tree.finish()
}

fn node(left: &Digest, right: &Digest) -> Digest {
    let mut hasher = blake3::Hasher::new_keyed(&NODE_KEY);
    hasher.update(&left.0).update(&right.0);
    Digest(*hasher.finalize().as_bytes())
}

static ZERO_BLOCK: [u8; BLOCK] = [0; BLOCK];

/// The digest of 2^n zero blocks, for every n that a file's size allows (2^63 / 2^13).
static ZERO_SUBTREES: LazyLock<[Digest; 51]> = LazyLock::new(|| {
    let mut subtree = Digest(*blake3::hash(&ZERO_BLOCK).as_bytes());
    [(); 51].map(|()| {
        let this = subtree;
        subtree = node(&this, &this);
        this
    })
});

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, written as recursion: what the streaming form must equal.
    fn top(leaves: &[Digest]) -> Digest {
        match leaves {
            [] => Digest([0; 32]),
            [leaf] => *leaf,
            _ => {
                let left = 1 << (leaves.len() - 1).ilog2();
                node(&top(&leaves[..left]), &top(&leaves[left..]))
            }
        }
    }

    fn defined(content: &[u8]) -> Digest {
        let leaves: Vec<_> = content
            .chunks(BLOCK)
            .map(|block| Digest(*blake3::hash(block).as_bytes()))
            .collect();
        let mut hasher = blake3::Hasher::new_keyed(&ROOT_KEY);
        hasher
            .update(&(content.len() as u64).to_le_bytes())
            .update(&top(&leaves).0);
        Digest(*hasher.finalize().as_bytes())
    }

    proptest! {
        #[test]
        fn streaming_equals_the_definition(
            runs in prop::collection::vec((any::<bool>(), 0_usize..9), 0..6),
            tail in 0_usize..BLOCK,
            tail_is_zero: bool,
        ) {
            let mut tree = ContentTree::new();
            let mut content = Vec::new();
            for (fill, (zero, blocks)) in (1_u8..).zip(runs) {
                if zero {
                    content.resize(content.len() + blocks * BLOCK, 0);
                    tree.push_zeros((blocks * BLOCK) as u64);
                } else {
                    let fresh = vec![fill; blocks * BLOCK];
                    tree.push_content(&fresh);
                    content.extend(fresh);
                }
            }
            if tail_is_zero {
                content.resize(content.len() + tail, 0);
                tree.push_zeros(tail as u64);
            } else {
                tree.push_content(&vec![7; tail]);
                content.resize(content.len() + tail, 7);
            }
            prop_assert_eq!(tree.finish(), defined(&content));
            prop_assert_eq!(root_of(&content), defined(&content));
        }
    }

    #[test]
    fn the_format_is_fixed() {
        assert_eq!(
            root_of(b"").to_string(),
            "422d7d574dbe9c4c71f1ce61a2a9feafcdbafa1d40db4b1a211b24cf5ec412c2"
        );
        assert_eq!(
            root_of(&vec![1; 3 * BLOCK + 1]).to_string(),
            "d43ffaf6048cf9be41e149519a2533c0359bf84d154c8384f309576dda871920"
        );
    }

    #[test]
    fn holes_of_any_size_cost_nothing() {
        let mut tree = ContentTree::new();
        tree.push_zeros(u64::MAX >> 1);
        assert_eq!(tree.len(), u64::MAX >> 1);
        assert_ne!(tree.finish(), root_of(b""));
    }

    #[test]
    fn zero_is_seen_at_every_position() {
        assert!(is_zero(&[]) && is_zero(&[0; 100]));
        for position in 0..100 {
            let mut bytes = [0; 100];
            bytes[position] = 1;
            assert!(!is_zero(&bytes), "{position}");
        }
    }
}
