//! What was touched since the last verification, noted on disk by directory.

use std::{
    collections::{HashMap, hash_map::Entry},
    fs::File,
    io,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use livmig_proto::{
    name::{Name, RelPath},
    tree::Digest,
    wire::{DecodeError, Decoder, Encoder},
};
use rustix::io::Errno;

use crate::catalog::log::{Key, Log};

/// What a lane did in one directory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Touch {
    /// What the directory should be in the manifest, if its own metadata was applied.
    pub member: Option<Digest>,
    /// What was written.
    pub writes: Vec<Written>,
    /// Whether that is all that can have changed: every op was done, and what it changed is among
    /// the writes, gone from the listing, or new in it.
    pub complete: bool,
}

/// One entry that was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// Its name.
    pub name: Name,
    /// What the entry should be: [`entry_digest`](livmig_proto::entry::entry_digest); zero where
    /// only metadata came.
    pub digest: Digest,
    /// What of its content.
    pub content: WrittenContent,
}

/// What of a file's content was written.
#[derive(Clone, Debug, PartialEq)]
pub enum WrittenContent {
    /// Nothing: only metadata, or it is no file.
    None,
    /// All that there was, into a new file.
    Copied,
    /// All of it.
    Whole {
        /// Its size.
        size: u64,
        /// Its root.
        root: Digest,
    },
    /// Some blocks of it.
    Ranges {
        /// Its size.
        size: u64,
        /// The root of all of it.
        root: Digest,
        /// The root of the content that they were written over.
        base: Digest,
        /// The blocks.
        ranges: Vec<BlockRange>,
    },
}

/// Some blocks that were written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BlockRange {
    /// Where.
    pub offset: u64,
    /// How many bytes.
    pub len: u64,
    /// [`range_digest`](livmig_proto::tree::range_digest) of them; nothing for zeros.
    pub digest: Option<Digest>,
}

/// What the notes of the directory at `path` are found by.
pub fn key_of(path: &RelPath) -> Key {
    let mut key = Key([0; 16]);
    blake3::Hasher::new()
        .update(path.as_bytes())
        .finalize_xof()
        .fill(&mut key.0);
    key
}

/// Touches by directory, in a file.
#[derive(Debug)]
pub struct Touched(Mutex<TouchedInner>);

#[derive(Debug)]
struct TouchedInner {
    log: Log,
    index: HashMap<Key, Vec<(u64, usize)>>,
}

impl Touched {
    /// Nothing touched, in a nameless file in the directory `dir`.
    pub fn new(dir: &Path) -> io::Result<Self> {
        let file: File = tempfile::tempfile_in(dir)?;
        let inner = TouchedInner {
            log: Log::open(file, |_| {})?,
            index: HashMap::new(),
        };
        Ok(Self(Mutex::new(inner)))
    }

    /// Notes a touch of the directory at `path`.
    pub fn push(&self, path: &RelPath, touch: &Touch) -> Result<(), Errno> {
        let body = touch.encode(path);
        let key = key_of(path);
        let mut inner = self.lock();
        let offset = inner.log.append(0, key, &body)?;
        inner
            .index
            .entry(key)
            .or_default()
            .push((offset, body.len()));
        Ok(())
    }

    /// The directories that were touched, in the order in which they first were: neighbours come
    /// together.
    pub fn keys(&self) -> Vec<Key> {
        let inner = self.lock();
        let first = |places: &Vec<(u64, usize)>| places.first().map(|(offset, _)| *offset);
        let mut keys: Vec<(Option<u64>, Key)> = inner
            .index
            .iter()
            .map(|(key, places)| (first(places), *key))
            .collect();
        keys.sort_unstable();
        keys.into_iter().map(|(_, key)| key).collect()
    }

    /// A touched directory and what was written in it, later writes last.
    pub fn get(&self, key: Key) -> Result<Option<(RelPath, Touch)>, Errno> {
        let counted = self.get_counted(key)?;
        Ok(counted.map(|(path, touch, _)| (path, touch)))
    }

    /// As [`Touched::get`], and how many notes say so.
    pub fn get_counted(&self, key: Key) -> Result<Option<(RelPath, Touch, usize)>, Errno> {
        let mut inner = self.lock();
        let Some(places) = inner.index.get(&key).cloned() else {
            return Ok(None);
        };
        let count = places.len();
        let mut whole: Option<(RelPath, Touch)> = None;
        for (offset, len) in places {
            let bytes = inner.log.read(offset, len)?;
            let (path, touch) = Touch::decode(bytes).map_err(|_| Errno::IO)?;
            match &mut whole {
                None => whole = Some((path, touch)),
                // Whoever wants to choose another path with one key is only read back twice.
                Some((first, _)) if *first != path => return Err(Errno::IO),
                Some((_, all)) => {
                    all.complete &= touch.complete;
                    all.member = touch.member.or(all.member);
                    all.writes.extend(touch.writes);
                }
            }
        }
        Ok(whole.map(|(path, touch)| (path, touch, count)))
    }

    /// The first `count` notes of a directory are dealt with.
    pub fn consume(&self, key: Key, count: usize) {
        if let Entry::Occupied(mut places) = self.lock().index.entry(key) {
            let dealt_with = count.min(places.get().len());
            places.get_mut().drain(..dealt_with);
            if places.get().is_empty() {
                places.remove();
            }
        }
    }

    /// Forgets everything.
    pub fn clear(&self) -> Result<(), Errno> {
        let mut inner = self.lock();
        inner.index.clear();
        inner.log.clear()
    }

    fn lock(&self) -> MutexGuard<'_, TouchedInner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Written {
    /// The metadata of an entry was written, and this of its content.
    pub fn meta(name: Name, content: WrittenContent) -> Self {
        Self {
            name,
            digest: Digest([0; 32]),
            content,
        }
    }

    /// How much it takes to remember it: 1, and 1 for each range.
    pub fn weight(&self) -> usize {
        match &self.content {
            WrittenContent::None | WrittenContent::Copied | WrittenContent::Whole { .. } => 1,
            WrittenContent::Ranges { ranges, .. } => 1 + ranges.len(),
        }
    }
}

/// What was written, by the name of the entry; later writes last.
pub type ByName<'a> = HashMap<&'a Name, Vec<&'a Written>>;

impl Touch {
    /// What was written, by name: a directory may have very many.
    pub fn by_name(&self) -> ByName<'_> {
        let mut names = ByName::new();
        for write in &self.writes {
            names.entry(&write.name).or_default().push(write);
        }
        names
    }

    /// Its bytes, the directory's path before it.
    pub fn encode(&self, path: &RelPath) -> Vec<u8> {
        let mut out = Encoder::new();
        out.path(path);
        out.u8(u8::from(self.member.is_some()));
        out.digest(&self.member.unwrap_or(Digest([0; 32])));
        out.u8(u8::from(self.complete));
        out.count(self.writes.len());
        for write in &self.writes {
            out.name(&write.name);
            out.digest(&write.digest);
            match &write.content {
                WrittenContent::None => out.u8(0),
                WrittenContent::Copied => out.u8(3),
                WrittenContent::Whole { size, root } => {
                    out.u8(1);
                    out.u64(*size);
                    out.digest(root);
                }
                WrittenContent::Ranges {
                    size,
                    root,
                    base,
                    ranges,
                } => {
                    out.u8(2);
                    out.u64(*size);
                    out.digest(root);
                    out.digest(base);
                    out.count(ranges.len());
                    for range in ranges {
                        out.u64(range.offset);
                        out.u64(range.len);
                        out.u8(u8::from(range.digest.is_some()));
                        out.digest(&range.digest.unwrap_or(Digest([0; 32])));
                    }
                }
            }
        }
        out.into_bytes().into()
    }

    /// The directory's path and the touch in `bytes`.
    pub fn decode(bytes: Vec<u8>) -> Result<(RelPath, Self), DecodeError> {
        let mut input = Decoder::new(bytes.into());
        let path = input.path()?;
        let has_member = input.flag()?;
        let member = input.digest()?;
        let complete = input.flag()?;
        let mut writes = Vec::new();
        for _ in 0..input.count(usize::MAX)? {
            let (name, digest) = (input.name()?, input.digest()?);
            let content = match input.u8()? {
                0 => WrittenContent::None,
                3 => WrittenContent::Copied,
                1 => WrittenContent::Whole {
                    size: input.u64()?,
                    root: input.digest()?,
                },
                2 => {
                    let (size, root, base) = (input.u64()?, input.digest()?, input.digest()?);
                    let mut ranges = Vec::new();
                    for _ in 0..input.count(usize::MAX)? {
                        let (offset, len) = (input.u64()?, input.u64()?);
                        let (has_digest, digest) = (input.flag()?, input.digest()?);
                        ranges.push(BlockRange {
                            offset,
                            len,
                            digest: has_digest.then_some(digest),
                        });
                    }
                    WrittenContent::Ranges {
                        size,
                        root,
                        base,
                        ranges,
                    }
                }
                _ => return Err(DecodeError::Invalid("content")),
            };
            writes.push(Written {
                name,
                digest,
                content,
            });
        }
        input.finish()?;
        Ok((
            path,
            Self {
                member: has_member.then_some(member),
                writes,
                complete,
            },
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touches_of_one_directory_come_back_together() {
        let dir = tempfile::tempdir().unwrap();
        let touched = Touched::new(dir.path()).unwrap();
        let path = RelPath::new(b"a/b").unwrap();
        let written = |name: &[u8], content| Written {
            name: Name::new(name).unwrap(),
            digest: Digest([1; 32]),
            content,
        };
        let root = Digest([2; 32]);
        let ranges = vec![
            BlockRange {
                offset: 8192,
                len: 10,
                digest: Some(root),
            },
            BlockRange {
                offset: 0,
                len: 8192,
                digest: None,
            },
        ];
        let first = Touch {
            complete: true,
            member: None,
            writes: vec![
                written(b"x", WrittenContent::Whole { size: 3, root }),
                written(
                    b"y",
                    WrittenContent::Ranges {
                        size: 9,
                        root,
                        base: root,
                        ranges,
                    },
                ),
            ],
        };
        let second = Touch {
            complete: true,
            member: Some(root),
            writes: vec![written(b"z", WrittenContent::None)],
        };
        touched.push(&path, &first).unwrap();
        touched.push(&RelPath::ROOT, &Touch::default()).unwrap();
        touched.push(&path, &second).unwrap();
        let all: HashMap<_, _> = touched
            .keys()
            .into_iter()
            .filter_map(|key| touched.get(key).unwrap())
            .collect();
        assert_eq!(all.len(), 2);
        assert_eq!(all[&path].member, Some(root));
        assert!(all[&path].complete && !all[&RelPath::ROOT].complete);
        assert_eq!(all[&path].writes, [first.writes, second.writes].concat());

        // What came after is still there when what was before is dealt with.
        let key = key_of(&path);
        let (_, _, notes) = touched.get_counted(key).unwrap().unwrap();
        assert_eq!(notes, 2);
        touched.push(&path, &Touch::default()).unwrap();
        let (_, both) = touched.get(key).unwrap().unwrap();
        assert!(!both.complete, "one of three is not");
        touched.consume(key, notes);
        let left = touched.get_counted(key).unwrap().unwrap();
        assert_eq!(left, (path, Touch::default(), 1));
        touched.consume(key, 1);
        assert_eq!(touched.keys(), [key_of(&RelPath::ROOT)]);

        touched.clear().unwrap();
        assert!(touched.keys().is_empty());
    }
}
