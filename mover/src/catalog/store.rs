//! The store: segments by directory, and how far each of them can be believed.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use livmig_proto::{
    entry::Meta,
    name::RelPath,
    tree::Digest,
    wire::{Decoder, Encoder},
};
use rustix::io::Errno;

use super::{
    log::{Key, Log},
    segment::{Kept, Segment},
    tags::TagFile,
};

/// Segments by directory, in a log on disk with an index in memory.
#[derive(Debug)]
pub struct Store {
    inner: Mutex<Inner>,
    tags: TagFile,
    /// Where a nameless file may be made while the log is rewritten.
    dir: PathBuf,
}

/// Whether anything was changed at the other end for what is now stored.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// Something was.
    Made,
    /// Nothing was: it is merely known better.
    None,
}

/// What a store knows of a directory.
#[derive(Debug)]
pub enum Known {
    /// This.
    Segment(Box<Segment>),
    /// It was being changed when the last word was said: the other end must be asked.
    InFlight,
    /// Nothing.
    Nothing,
}

/// A directory whose metadata has not been applied since something in it was.
#[derive(Debug)]
pub struct Unfinished {
    /// Where it is.
    pub path: RelPath,
    /// Its metadata.
    pub meta: Meta,
    /// What stands for it in the manifest.
    pub member: Digest,
}

/// What a store holds, in numbers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Totals {
    /// Directories.
    pub directories: u64,
    /// Entries in them, and the root.
    pub entries: u64,
    /// Bytes of content, files with several links aside.
    pub bytes: u64,
}

#[derive(Debug)]
struct Inner {
    log: Log,
    key: [u8; 32],
    index: HashMap<Key, Place>,
    /// What groups of hard links share; nothing for a group that is in flight.
    groups: HashMap<u64, Option<(u64, usize)>>,
    head: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    offset: u64,
    len: u32,
    depth: u16,
    state: State,
    entries: u32,
    bytes: u64,
    member: Digest,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    InFlight,
    /// Known, but the directory's own metadata is still to be applied.
    Unfinished,
    Finished,
}

mod kind {
    pub(super) const HEAD: u8 = 1;
    pub(super) const BEGIN: u8 = 2;
    pub(super) const PUT: u8 = 3;
    pub(super) const FORGET: u8 = 4;
    pub(super) const FINISHED: u8 = 5;
    pub(super) const GROUP_BEGIN: u8 = 6;
    pub(super) const GROUP_PUT: u8 = 7;
    pub(super) const GROUP_FORGET: u8 = 8;
}

/// Bytes in which the head of a segment is expected; a longer one is read again, whole.
const HEAD_GUESS: usize = 1024;

/// A log is rewritten when it is this large and three quarters of it are dead.
const COMPACT_MIN: u64 = 64 << 20;

impl Store {
    /// The store in the directory `dir`, as a crashed process left it, or a new one.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let open = |name: &str| {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(dir.join(name))
        };
        Self::new(dir, open("catalog")?, open("tags")?)
    }

    /// A store that ends with this process, in nameless files in the directory `dir`.
    pub fn ephemeral(dir: &Path) -> io::Result<Self> {
        Self::new(
            dir,
            tempfile::tempfile_in(dir)?,
            tempfile::tempfile_in(dir)?,
        )
    }

    fn new(dir: &Path, log: File, tags: File) -> io::Result<Self> {
        let mut index = HashMap::new();
        let mut groups = HashMap::new();
        let mut head: Option<Vec<u8>> = None;
        let log = Log::open(log, |found| {
            let key = found.key;
            match found.kind {
                kind::HEAD => head = Some(found.body),
                kind::BEGIN => {
                    index.insert(key, Place::in_flight());
                }
                kind::PUT => {
                    if let Some(place) = Place::decode(found.offset, found.body) {
                        index.insert(key, place);
                    }
                }
                kind::FORGET => {
                    index.remove(&key);
                }
                kind::FINISHED => finish(&mut index),
                kind::GROUP_BEGIN => {
                    groups.insert(found.key.group(), None);
                }
                kind::GROUP_PUT => {
                    groups.insert(found.key.group(), Some((found.offset, found.body.len())));
                }
                kind::GROUP_FORGET => {
                    groups.remove(&found.key.group());
                }
                _ => {}
            }
        })?;
        // The head begins with the key of the index; without it nothing can be looked up.
        let key = head
            .as_ref()
            .and_then(|head| head.first_chunk::<32>().copied());
        if key.is_none() {
            index.clear();
            groups.clear();
        }
        let key = key.unwrap_or_else(random);
        let inner = Inner {
            log,
            key,
            index,
            groups,
            head,
        };
        Ok(Self {
            inner: Mutex::new(inner),
            tags: TagFile::new(tags)?,
            dir: dir.to_owned(),
        })
    }

    /// What the owner stored with [`Store::reset`].
    pub fn head(&self) -> Option<Vec<u8>> {
        self.lock()
            .head
            .as_ref()
            .and_then(|head| head.get(32..))
            .map(<[u8]>::to_vec)
    }

    /// Forgets everything and stores `head`, the owner's own words.
    pub fn reset(&self, head: &[u8]) -> Result<(), Errno> {
        let mut inner = self.lock();
        inner.index.clear();
        inner.groups.clear();
        inner.log.clear()?;
        inner.store_head(head)
    }

    /// Replaces the owner's words, keeping all else.
    pub fn set_head(&self, head: &[u8]) -> Result<(), Errno> {
        self.lock().store_head(head)
    }

    /// What is known of the directory at `path`.
    pub fn get(&self, path: &RelPath) -> Result<Known, Errno> {
        let mut inner = self.lock();
        let key = inner.key_of(path);
        match inner.index.get(&key).copied() {
            None => Ok(Known::Nothing),
            Some(place) if place.state == State::InFlight => Ok(Known::InFlight),
            Some(place) => {
                let bytes = inner.read(&place)?;
                drop(inner);
                let segment = Segment::decode(bytes).map_err(|_| Errno::IO)?;
                // Two paths with one key would be a defect; never mix them up.
                if segment.path == *path {
                    Ok(Known::Segment(Box::new(segment)))
                } else {
                    Ok(Known::Nothing)
                }
            }
        }
    }

    /// Whether anything is known of the directory at `path`.
    pub fn knows(&self, path: &RelPath) -> bool {
        let inner = self.lock();
        inner
            .index
            .get(&inner.key_of(path))
            .is_some_and(|place| place.state != State::InFlight)
    }

    /// Says that the directory at `path` is about to change. Must be in the kernel's hands
    /// ([`Store::flush`]) before the first change leaves this process.
    pub fn begin(&self, path: &RelPath) -> Result<(), Errno> {
        let mut inner = self.lock();
        let key = inner.key_of(path);
        inner.log.append(kind::BEGIN, key, &[])?;
        inner.index.insert(key, Place::in_flight());
        Ok(())
    }

    /// Stores what is known of a directory now. What was `changed` at the other end still needs
    /// its own metadata; what was not needs it only if it did before.
    pub fn put(&self, segment: &Segment, change: Change) -> Result<(), Errno> {
        let mut inner = self.lock();
        let key = inner.key_of(&segment.path);
        let before = inner.index.get(&key).map(|place| place.state);
        let state = match change {
            Change::Made => State::Unfinished,
            Change::None if before == Some(State::Unfinished) => State::Unfinished,
            Change::None => State::Finished,
        };
        let place = Place {
            offset: 0,
            len: 0,
            depth: u16::try_from(segment.path.components().count()).unwrap_or(u16::MAX),
            state,
            entries: u32::try_from(segment.entries.len()).unwrap_or(u32::MAX),
            bytes: segment.bytes(),
            member: segment.member(),
        };
        let body = place.encode(&segment.encode());
        let offset = inner.log.append(kind::PUT, key, &body)?;
        if let Some(place) = Place::decode(offset, body) {
            inner.index.insert(key, place);
        }
        Ok(())
    }

    /// Forgets the directory at `path` and every one below it that its segments lead to; which.
    /// The tags of their files stay allocated until the store is reset: a crash may still need
    /// them.
    pub fn forget(&self, path: &RelPath) -> Result<Vec<RelPath>, Errno> {
        let mut gone = Vec::new();
        let mut stack = vec![path.clone()];
        while let Some(path) = stack.pop() {
            if !self.lock().has(&path) {
                continue;
            }
            if let Known::Segment(segment) = self.get(&path)? {
                for entry in &segment.entries {
                    if entry.kept == Kept::Directory
                        && let Ok(child) = path.child(&entry.name)
                    {
                        stack.push(child);
                    }
                }
            }
            let mut inner = self.lock();
            let key = inner.key_of(&path);
            inner.index.remove(&key);
            inner.log.append(kind::FORGET, key, &[])?;
            gone.push(path);
        }
        Ok(gone)
    }

    /// Says that what the group of hard links `group` shares is about to change.
    pub fn begin_group(&self, group: u64) -> Result<(), Errno> {
        let mut inner = self.lock();
        inner
            .log
            .append(kind::GROUP_BEGIN, Key::of_group(group), &[])?;
        inner.groups.insert(group, None);
        Ok(())
    }

    /// Stores what the group of hard links `group` shares.
    pub fn put_group(&self, group: u64, shared: &[u8]) -> Result<(), Errno> {
        let mut inner = self.lock();
        let offset = inner
            .log
            .append(kind::GROUP_PUT, Key::of_group(group), shared)?;
        inner.groups.insert(group, Some((offset, shared.len())));
        Ok(())
    }

    /// What the group of hard links `group` shares, if that is known.
    pub fn get_group(&self, group: u64) -> Result<Option<Vec<u8>>, Errno> {
        let mut inner = self.lock();
        match inner.groups.get(&group).copied().flatten() {
            Some((offset, len)) => inner.log.read(offset, len).map(Some),
            None => Ok(None),
        }
    }

    /// Forgets every group but these.
    pub fn retain_groups(&self, keep: impl Fn(u64) -> bool) -> Result<(), Errno> {
        let mut inner = self.lock();
        let gone: Vec<u64> = inner
            .groups
            .keys()
            .copied()
            .filter(|group| !keep(*group))
            .collect();
        for group in gone {
            inner.groups.remove(&group);
            inner
                .log
                .append(kind::GROUP_FORGET, Key::of_group(group), &[])?;
        }
        Ok(())
    }

    /// Hands everything to the kernel, where a crash of this process cannot reach it.
    pub fn flush(&self) -> Result<(), Errno> {
        self.lock().log.flush()
    }

    /// The tags of large files.
    pub fn tags(&self) -> &TagFile {
        &self.tags
    }

    /// The directories whose own metadata is still to be applied, deepest first, as keys for
    /// [`Store::unfinished`].
    pub fn unfinished_keys(&self) -> Vec<Key> {
        let inner = self.lock();
        let mut keys: Vec<(u16, Key)> = inner
            .index
            .iter()
            .filter(|(_, place)| place.state == State::Unfinished)
            .map(|(key, place)| (place.depth, *key))
            .collect();
        keys.sort_unstable_by(|one, other| other.cmp(one));
        keys.into_iter().map(|(_, key)| key).collect()
    }

    /// The unfinished directory with this key.
    pub fn unfinished(&self, key: Key) -> Result<Option<Unfinished>, Errno> {
        let mut inner = self.lock();
        let Some(place) = inner.index.get(&key).copied() else {
            return Ok(None);
        };
        let len = usize::try_from(place.len).unwrap_or(usize::MAX);
        let guess = inner.log.read(place.offset, len.min(HEAD_GUESS))?;
        let head = match Segment::decode_head(guess) {
            Ok(head) => head,
            Err(_) => Segment::decode_head(inner.read(&place)?).map_err(|_| Errno::IO)?,
        };
        Ok(Some(Unfinished {
            path: head.0,
            meta: head.1,
            member: place.member,
        }))
    }

    /// Marks a directory as unfinished: something in it changed behind its segment's back.
    pub fn unfinish(&self, path: &RelPath) -> Result<(), Errno> {
        if let Known::Segment(segment) = self.get(path)? {
            self.put(&segment, Change::Made)?;
        }
        Ok(())
    }

    /// Says that the metadata of every directory is applied.
    pub fn finish_all(&self) -> Result<(), Errno> {
        let mut inner = self.lock();
        let none = Key([0; 16]);
        inner.log.append(kind::FINISHED, none, &[])?;
        finish(&mut inner.index);
        inner.log.flush()
    }

    /// What stands for each directory in the manifest; nothing while one of them is in flight.
    pub fn members(&self) -> Option<Vec<Digest>> {
        let inner = self.lock();
        inner
            .index
            .values()
            .map(|place| (place.state != State::InFlight).then_some(place.member))
            .collect()
    }

    /// How much the store knows of.
    pub fn totals(&self) -> Totals {
        let inner = self.lock();
        let mut totals = Totals::default();
        for place in inner
            .index
            .values()
            .filter(|place| place.state != State::InFlight)
        {
            totals.directories += 1;
            totals.entries += u64::from(place.entries);
            totals.bytes += place.bytes;
        }
        totals.entries += u64::from(totals.directories > 0);
        totals
    }

    /// Rewrites the log when most of it is dead. Called between passes: it takes the time of a
    /// copy.
    pub fn compact(&self) -> Result<(), Errno> {
        let mut inner = self.lock();
        let live: u64 = inner
            .index
            .values()
            .map(|place| u64::from(place.len) + 64)
            .sum();
        if inner.log.len() < COMPACT_MIN || live.saturating_mul(4) > inner.log.len() {
            return Ok(());
        }
        let scratch = tempfile::tempfile_in(&self.dir)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        inner.compact(scratch)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // What the mutex guards is consistent after every append, so a panic elsewhere does not
        // spoil it.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn key_of(&self, path: &RelPath) -> Key {
        let mut key = [0; 16];
        blake3::Hasher::new_keyed(&self.key)
            .update(path.as_bytes())
            .finalize_xof()
            .fill(&mut key);
        Key(key)
    }

    fn has(&self, path: &RelPath) -> bool {
        self.index.contains_key(&self.key_of(path))
    }

    fn store_head(&mut self, head: &[u8]) -> Result<(), Errno> {
        let mut body = self.key.to_vec();
        body.extend_from_slice(head);
        self.log.append(kind::HEAD, Key([0; 16]), &body)?;
        self.head = Some(body);
        self.log.flush()
    }

    fn read(&mut self, place: &Place) -> Result<Vec<u8>, Errno> {
        self.log.read(
            place.offset,
            usize::try_from(place.len).unwrap_or(usize::MAX),
        )
    }

    /// Moves the live segments to the beginning of the log, in the order they lie in. In place
    /// is safe here because the caller holds the lock and a crash meanwhile only costs knowledge:
    /// the head goes last, and without it nothing is believed.
    fn compact(&mut self, scratch: File) -> Result<(), Errno> {
        let mut live: Vec<(Key, Place)> = self
            .index
            .iter()
            .map(|(key, place)| (*key, *place))
            .collect();
        live.sort_unstable_by_key(|(_, place)| place.offset);
        let mut bodies = Log::open(scratch, |_| {})?;
        let mut kept = Vec::with_capacity(live.len());
        for (key, place) in live {
            let body = if place.state == State::InFlight {
                Vec::new()
            } else {
                place.encode(&self.read(&place)?)
            };
            kept.push((key, place.state, bodies.append(0, key, &body)?, body.len()));
        }
        let mut groups = Vec::new();
        for (group, place) in self.groups.clone() {
            let Some((offset, len)) = place else { continue };
            let body = self.log.read(offset, len)?;
            groups.push((group, bodies.append(0, Key::of_group(group), &body)?, len));
        }
        let head = self
            .head
            .as_ref()
            .and_then(|head| head.get(32..))
            .unwrap_or_default()
            .to_vec();
        // A group in flight is as good as an unknown one.
        self.groups.clear();
        self.index.clear();
        self.log.clear()?;
        for (key, state, offset, len) in kept {
            if state == State::InFlight {
                self.log.append(kind::BEGIN, key, &[])?;
                self.index.insert(key, Place::in_flight());
                continue;
            }
            let body = bodies.read(offset, len)?;
            let offset = self.log.append(kind::PUT, key, &body)?;
            if let Some(place) = Place::decode(offset, body) {
                self.index.insert(key, place);
            }
        }
        for (group, offset, len) in groups {
            let body = bodies.read(offset, len)?;
            let offset = self
                .log
                .append(kind::GROUP_PUT, Key::of_group(group), &body)?;
            self.groups.insert(group, Some((offset, len)));
        }
        self.store_head(&head)
    }
}

impl Place {
    fn in_flight() -> Self {
        Self {
            offset: 0,
            len: 0,
            depth: 0,
            state: State::InFlight,
            entries: 0,
            bytes: 0,
            member: Digest([0; 32]),
        }
    }

    /// The body of a record: what the index holds, then the segment.
    fn encode(&self, segment: &[u8]) -> Vec<u8> {
        let mut out = Encoder::with_capacity(Self::HEAD + segment.len());
        out.u8(u8::from(self.state == State::Finished));
        out.u32(u32::from(self.depth));
        out.u32(self.entries);
        out.u64(self.bytes);
        out.digest(&self.member);
        out.raw(segment);
        out.into_bytes().into()
    }

    fn decode(offset: u64, body: Vec<u8>) -> Option<Self> {
        let len = body.len().checked_sub(Self::HEAD)?;
        let mut input = Decoder::new(body.into());
        Some(Self {
            offset: offset + u64::try_from(Self::HEAD).ok()?,
            len: u32::try_from(len).ok()?,
            state: if input.flag().ok()? {
                State::Finished
            } else {
                State::Unfinished
            },
            depth: u16::try_from(input.u32().ok()?).ok()?,
            entries: input.u32().ok()?,
            bytes: input.u64().ok()?,
            member: input.digest().ok()?,
        })
    }

    const HEAD: usize = 1 + 4 + 4 + 8 + 32;
}

fn finish(index: &mut HashMap<Key, Place>) {
    for place in index
        .values_mut()
        .filter(|place| place.state == State::Unfinished)
    {
        place.state = State::Finished;
    }
}

/// Random bytes from the system.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // The system's generator fails only before the machine has booted far enough to run this.
    let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes);
    bytes
}
