//! What the demonstration's workload does, as a pure function: operation `n` of a seed is always
//! the same, so whoever knows how many were acknowledged knows what must be on the volume.

use std::{collections::BTreeMap, fmt};

/// Bytes of a page of the large file.
pub const PAGE: usize = 8192;

/// Files of the workload above which it rather deletes one than creates one.
const FILES_MAX: usize = 200;

/// One operation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Operation {
    /// Only the record in the log.
    Append,
    /// Rewrite one page of the large file.
    Page {
        /// Which.
        page: u64,
    },
    /// Create a file.
    Create {
        /// Its name.
        name: String,
    },
    /// Rename a file.
    Rename {
        /// Its name.
        from: String,
        /// Its new name.
        to: String,
    },
    /// Delete a file.
    Delete {
        /// Its name.
        name: String,
    },
}

/// One line, names quoted: what the log records.
impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Append => f.write_str("append"),
            Self::Page { page } => write!(f, "page {page}"),
            Self::Create { name } => write!(f, "create {name:?}"),
            Self::Rename { from, to } => write!(f, "rename {from:?} {to:?}"),
            Self::Delete { name } => write!(f, "delete {name:?}"),
        }
    }
}

/// The operations of a seed one after the other, with what the volume holds after them.
#[derive(Clone, Debug)]
pub struct Script {
    seed: u64,
    large_pages: u64,
    done: u64,
    files: BTreeMap<String, u64>,
    pages: BTreeMap<u64, u64>,
}

impl Script {
    /// Before the first operation on a large file of so many pages.
    pub fn new(seed: u64, large_pages: u64) -> Self {
        Self {
            seed,
            large_pages: large_pages.max(1),
            done: 0,
            files: BTreeMap::new(),
            pages: BTreeMap::new(),
        }
    }

    /// How many operations were taken; the number of the last one.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// The files that exist now, each with the number of the operation that created it.
    pub fn files(&self) -> &BTreeMap<String, u64> {
        &self.files
    }

    /// The pages that were rewritten, each with the number of the last operation that did.
    pub fn pages(&self) -> &BTreeMap<u64, u64> {
        &self.pages
    }

    /// Takes the next operation.
    pub fn advance(&mut self) -> Operation {
        self.done += 1;
        let number = self.done;
        let mut dice = Dice(self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let kind = if self.files.len() >= FILES_MAX {
            99
        } else {
            dice.below(100)
        };
        match kind {
            0..40 => {
                let page = dice.below(self.large_pages);
                self.pages.insert(page, number);
                Operation::Page { page }
            }
            40..60 => Operation::Append,
            60..80 => {
                let name = file_name(number);
                self.files.insert(name.clone(), number);
                Operation::Create { name }
            }
            80..92 => match self.pick(&mut dice) {
                Some((from, created)) => {
                    self.files.remove(&from);
                    let to = format!("renamed-{number}");
                    self.files.insert(to.clone(), created);
                    Operation::Rename { from, to }
                }
                None => Operation::Append,
            },
            _ => match self.pick(&mut dice) {
                Some((name, _)) => {
                    self.files.remove(&name);
                    Operation::Delete { name }
                }
                None => Operation::Append,
            },
        }
    }

    /// The content that page `page` has after operation `number` rewrote it.
    pub fn page_content(&self, page: u64, number: u64) -> Vec<u8> {
        content(self.seed, &format!("page {page} {number}"), PAGE)
    }

    /// The content of the file that operation `number` created.
    pub fn file_content(&self, number: u64) -> Vec<u8> {
        let length = Dice(self.seed.wrapping_add(number)).below(16 * 1024);
        content(
            self.seed,
            &format!("file {number}"),
            usize::try_from(length).unwrap_or(0),
        )
    }

    fn pick(&self, dice: &mut Dice) -> Option<(String, u64)> {
        let count = u64::try_from(self.files.len()).ok()?;
        let index = usize::try_from(dice.below(count.max(1))).ok()?;
        self.files
            .iter()
            .nth(index)
            .map(|(name, created)| (name.clone(), *created))
    }
}

/// The hash of a record: over the one before it, the number and the operation.
pub fn chain(previous: &str, number: u64, operation: &Operation) -> String {
    blake3::hash(format!("{previous} {number} {operation}").as_bytes())
        .to_hex()
        .to_string()
}

/// The line of the log that records an operation.
pub fn record(number: u64, operation: &Operation, hash: &str) -> String {
    format!("{number} {operation} {hash}\n")
}

/// A small generator of numbers (splitmix64): repeatable, nothing more.
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// The next 64 bits.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number below `limit`, 0 when there is none.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.roll().checked_rem(limit).unwrap_or(0)
    }

    /// Fills a buffer.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            let bytes = self.roll().to_le_bytes();
            for (to, from) in chunk.iter_mut().zip(bytes) {
                *to = from;
            }
        }
    }
}

/// Every seventh name is one that a careless program would trip over.
fn file_name(number: u64) -> String {
    if number.is_multiple_of(7) {
        format!("odd \n é {number}")
    } else {
        format!("file-{number}")
    }
}

fn content(seed: u64, what: &str, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .update(what.as_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_script_repeats_itself_and_does_everything() {
        let (mut one, mut other) = (Script::new(7, 100), Script::new(7, 100));
        let mut kinds = BTreeSet::new();
        for number in 1..=2000 {
            let operation = one.advance();
            assert_eq!(operation, other.advance());
            assert_eq!(one.done(), number);
            let text = operation.to_string();
            assert!(!text.contains('\n'), "{text}");
            kinds.insert(text.split(' ').next().unwrap().to_owned());
        }
        let all = ["append", "create", "delete", "page", "rename"];
        assert_eq!(kinds, all.map(str::to_owned).into());
        assert!(one.files().len() <= FILES_MAX);
        assert!(one.pages().keys().all(|page| *page < 100));
    }

    #[test]
    fn contents_differ_by_what_wrote_them() {
        let script = Script::new(7, 100);
        assert_ne!(script.page_content(1, 5), script.page_content(1, 6));
        assert_ne!(script.page_content(1, 5), script.page_content(2, 5));
        assert_eq!(script.file_content(9), Script::new(7, 1).file_content(9));
    }

    #[test]
    fn a_record_depends_on_the_one_before() {
        let first = chain("", 1, &Operation::Append);
        assert_ne!(
            chain(&first, 2, &Operation::Append),
            chain("", 2, &Operation::Append)
        );
    }
}
