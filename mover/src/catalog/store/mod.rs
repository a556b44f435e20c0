//! The store: segments by directory, and how far each of them can be believed.

mod compact;
mod groups;
mod inner;
mod kind;
mod place;
mod unfinished;

use std::{
    fs::{File, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use livmig_proto::{name::RelPath, tree::Digest};
use rustix::io::Errno;

pub use self::unfinished::Unfinished;
use self::{
    inner::Inner,
    place::{PlaceState, StorePlace},
};
use super::log::Key;
use super::{
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
            Some(place) if place.state.is_in_flight() => Ok(Known::InFlight),
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

    /// Whether anything is known of the directory at `path`, for this round at least.
    pub fn knows(&self, path: &RelPath) -> bool {
        let inner = self.lock();
        inner
            .index
            .get(&inner.key_of(path))
            .is_some_and(|place| match place.state {
                PlaceState::InFlight => false,
                PlaceState::Doubtful => place.order > 0,
                PlaceState::Unfinished | PlaceState::Finished => true,
            })
    }

    /// Whether something in the directory at `path` failed in this round.
    pub fn doubts(&self, path: &RelPath) -> bool {
        let inner = self.lock();
        let place = inner.index.get(&inner.key_of(path));
        place.is_some_and(|place| place.state == PlaceState::Doubtful && place.order > 0)
    }

    /// Says that the directory at `path` is about to change. Must be in the kernel's hands
    /// ([`Store::flush`]) before the first change leaves this process.
    pub fn begin(&self, path: &RelPath) -> Result<(), Errno> {
        let mut inner = self.lock();
        let key = inner.key_of(path);
        inner.log.append(kind::BEGIN, key, &[])?;
        let order = inner.order(key);
        inner.index.insert(
            key,
            StorePlace {
                order,
                ..StorePlace::in_flight()
            },
        );
        Ok(())
    }

    /// Stores what is known of a directory now. What was `changed` at the other end still needs
    /// its own metadata; what was not needs it only if it did before.
    pub fn put(&self, segment: &Segment, change: Change) -> Result<(), Errno> {
        self.store(kind::PUT, segment, |before| match change {
            Change::Made => PlaceState::Unfinished,
            Change::None if before == Some(PlaceState::Unfinished) => PlaceState::Unfinished,
            Change::None => PlaceState::Finished,
        })
    }

    /// Stores what a directory was to be in which something failed. For what is left of this round:
    /// whoever asks is told that it is in flight, now and after a crash.
    pub fn doubt(&self, segment: &Segment) -> Result<(), Errno> {
        self.store(kind::DOUBT, segment, |_| PlaceState::Doubtful)
    }

    fn store(
        &self,
        kind: u8,
        segment: &Segment,
        state: impl FnOnce(Option<PlaceState>) -> PlaceState,
    ) -> Result<(), Errno> {
        // What takes long, for a directory of many entries, is done before anybody has to wait for it.
        let (encoded, member) = (segment.encode(), segment.member());
        let mut inner = self.lock();
        let key = inner.key_of(&segment.path);
        let before = inner.index.get(&key).map(|place| place.state);
        let state = state(before);
        let place = StorePlace {
            offset: 0,
            len: 0,
            depth: u16::try_from(segment.path.components().count()).unwrap_or(u16::MAX),
            state,
            entries: u32::try_from(segment.entries.len()).unwrap_or(u32::MAX),
            bytes: segment.bytes(),
            member,
            order: 0,
        };
        let body = place.encode(&encoded);
        let offset = inner.log.append(kind, key, &body)?;
        if let Some(decoded) = StorePlace::decode(offset, body) {
            let place = StorePlace {
                state,
                order: inner.order(key),
                ..decoded
            };
            inner.index.insert(key, place);
        }
        Ok(())
    }

    /// Begins a round in which every directory that exists is spoken of.
    pub fn begin_round(&self) {
        let mut inner = self.lock();
        inner.spoken_of = 0;
        for place in inner.index.values_mut() {
            place.order = 0;
        }
    }

    /// The directory at `path` exists in this round.
    pub fn stamp(&self, path: &RelPath) {
        let mut inner = self.lock();
        let key = inner.key_of(path);
        let order = inner.order(key);
        if let Some(place) = inner.index.get_mut(&key) {
            place.order = order;
        }
    }

    /// As [`Store::stamp`], also of a directory that nothing is known of: it must be asked, as what
    /// is in flight. Said of each before it is of those in it.
    pub fn speak_of(&self, path: &RelPath) {
        let mut inner = self.lock();
        let key = inner.key_of(path);
        let order = inner.order(key);
        let place = inner.index.entry(key).or_insert_with(StorePlace::in_flight);
        place.order = order;
    }

    /// Ends a round: forgets every directory that was not spoken of. A directory that was
    /// forgotten while in flight may have left some below it that nothing leads to any more.
    pub fn prune(&self) -> Result<(), Errno> {
        let mut inner = self.lock();
        let gone: Vec<Key> = inner
            .index
            .iter()
            .filter(|(_, place)| place.order == 0)
            .map(|(key, _)| *key)
            .collect();
        for key in gone {
            inner.index.remove(&key);
            inner.log.append(kind::FORGET, key, &[])?;
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

    /// Hands everything to the kernel, where a crash of this process cannot reach it.
    pub fn flush(&self) -> Result<(), Errno> {
        self.lock().log.flush()
    }

    /// The tags of large files.
    pub fn tags(&self) -> &TagFile {
        &self.tags
    }

    /// What stands for each directory in the manifest; nothing while one of them is in flight.
    pub fn members(&self) -> Option<Vec<Digest>> {
        let inner = self.lock();
        inner
            .index
            .values()
            .map(|place| (!place.state.is_in_flight()).then_some(place.member))
            .collect()
    }

    /// How much the store knows of.
    pub fn totals(&self) -> Totals {
        let inner = self.lock();
        let mut totals = Totals::default();
        for place in inner
            .index
            .values()
            .filter(|place| place.state != PlaceState::InFlight)
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
        if !inner.is_mostly_dead() {
            return Ok(());
        }
        let scratch = tempfile::tempfile_in(&self.dir)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        inner.compact(scratch)
    }

    fn new(dir: &Path, log: File, tags: File) -> io::Result<Self> {
        Ok(Self {
            inner: Mutex::new(Inner::open(log)?),
            tags: TagFile::new(tags)?,
            dir: dir.to_owned(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // What the mutex guards is consistent after every append, so a panic elsewhere does not
        // spoil it.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
