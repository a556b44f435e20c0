//! Visits a directory: lists it, joins the listing with what is known of the destination, and
//! sends what differs.

use std::{
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
    time::Instant,
};

use livmig_proto::{
    control::{Fault, FaultCode, Reason, Reasons, Side},
    entry::Meta,
    frame::Op,
    name::{Name, RelPath},
    tree::Digest,
};
use rustix::io::Errno;

use super::{listing, read, sight};
use crate::source::{
    lane::Lane,
    queue::{Baseline, Depth, Job, Queue},
    shared::{Counts, Shared, lock},
    throttle::limiter::ThreadPriority,
};
use crate::{
    catalog::{
        segment::{Entry, Kept, Seen, Segment},
        store::{Change, Known},
    },
    fault,
    fs::{
        file,
        metadata::xattr::Reach,
        mounts::other_end,
        stat::{Kind, Stat},
        way::Way,
    },
};

/// A worker: visits directories, one after the other.
pub struct Visitor<'a> {
    pub(crate) shared: &'a Shared<'a>,
    pub(crate) lane: Lane<'a>,
    /// How it got to where it was last.
    pub(crate) way: Way,
    /// Content on its way through; one allocation for all files.
    pub(crate) buffer: Vec<u8>,
    /// The priority of the reads of a thread that has nothing else to do.
    priority: Option<ThreadPriority>,
}

/// The visit of one directory.
pub(crate) struct Visit {
    pub(crate) scope: Scope,
    pub(crate) dir: Arc<OwnedFd>,
    /// Whether directories in it that the destination has are visited too.
    pub(crate) deep: bool,
    /// Something in it waits for room, or was sent in part: it stays in flight.
    pub(crate) doubtful: bool,
    /// Whether it is encrypted, and what is in it with it.
    pub(crate) encrypted: bool,
}

/// What is known of a directory itself.
#[derive(PartialEq)]
struct DirectoryHead {
    meta: Meta,
    seen: Option<Seen>,
}

/// What came of looking at a listed name.
#[expect(
    clippy::large_enum_variant,
    reason = "one at a time, put where it belongs at once"
)]
pub(crate) enum Looked {
    /// Nothing new: what was known of it stays, if anything was.
    AsBefore,
    /// This is known of it now.
    Now(Entry),
    /// It is not carried.
    Absent,
    /// There was nothing of that name. Whether it is gone, a later listing tells.
    Missing,
    /// It became something else meanwhile.
    Changed,
}

/// The directory that ops are about, and whether it was said that there will be some.
pub(crate) struct Scope {
    /// Where it is.
    pub(crate) path: RelPath,
    /// Whether anything was sent.
    pub(crate) begun: bool,
}

/// Gives a job back when it is dropped.
struct Done<'q>(&'q Queue);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.done();
    }
}

impl<'a> Visitor<'a> {
    /// A worker with a lane of its own.
    pub fn new(shared: &'a Shared<'a>) -> Result<Self, Fault> {
        Ok(Self {
            shared,
            lane: Lane::open(shared)?,
            way: Way::new(),
            buffer: Vec::new(),
            priority: None,
        })
    }

    /// The same worker on a thread of its own, which in a live pass reads with the priority that
    /// is wanted.
    pub fn on_own_thread(self) -> Self {
        let live = !self.shared.is_final();
        Self {
            priority: live.then(ThreadPriority::default),
            ..self
        }
    }

    /// Visits what the queue offers until nothing is left, then waits until all that was sent is
    /// applied.
    pub fn run(&mut self) -> Result<(), Fault> {
        while let Some(job) = self.shared.queue.take() {
            if let Some(priority) = &mut self.priority {
                priority.follow(self.shared.limiter);
            }
            // Given back also if the visit panics: the others would wait for ever.
            let done = Done(&self.shared.queue);
            let result = self.visit(&job);
            drop(done);
            if let Err(fault) = result {
                self.shared.queue.stop();
                return Err(fault);
            }
            if self.shared.counts.stop.is_asked() {
                self.shared.queue.stop();
            }
        }
        self.lane.drain()
    }

    /// Visits the directory at `path` once more, and as much below it as `depth` says, and waits until
    /// all of it is applied.
    pub fn visit_again(&mut self, path: RelPath, depth: Depth) -> Result<(), Fault> {
        self.visit(&Job {
            path,
            baseline: Baseline::Remembered,
            deep: depth == Depth::AllBelow,
        })?;
        self.run()
    }

    /// Visits one directory. Faults of entries are noted; an error ends the pass.
    fn visit(&mut self, job: &Job) -> Result<(), Fault> {
        let begun = Instant::now();
        let path = job.path.clone();
        if job.baseline == Baseline::Absent && self.shared.link.acks().is_short() {
            // Nothing in it could give room back. Unknown, it will be asked for.
            self.shared
                .store
                .forget(&path)
                .map_err(Shared::state_fault)?;
            self.shared.room.defer(&path);
            return Ok(());
        }
        let dir = match self.way.open(self.shared.volume.root(), &path) {
            Ok(dir) => Arc::new(dir),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                lock(&self.shared.vanished).push(path);
                return Ok(());
            }
            Err(errno) => {
                self.note(fault::at(Side::Source, &path, "open the directory", errno));
                if errno == Errno::ACCESS {
                    return self.rights_alone(&path);
                }
                return Ok(());
            }
        };
        // The stat comes first: what changes after it shows in the next pass.
        let stat = Stat::of_fd(&dir)
            .map_err(|errno| fault::at(Side::Source, &path, "look at the directory", errno))?;
        let stat = self.shared.volume.steady(stat);
        if other_end::is_root_of(Side::Destination, &stat) {
            let what = "read the directory, which is the destination itself";
            self.note(fault::at(Side::Source, &path, what, Errno::DEADLK));
            return Ok(());
        }
        let names = match listing::names(&dir, &stat) {
            Ok(names) => names,
            // Removed since it was opened, as if it had been before.
            Err(Errno::NOENT) => {
                lock(&self.shared.vanished).push(path);
                return Ok(());
            }
            // A partial listing is none: nothing below is changed, let alone removed.
            Err(errno) => {
                self.note(fault::listing(Side::Source, &path, errno));
                return Ok(());
            }
        };
        self.shared.reads(&stat);
        // After the listing: what was locked by then may have been locked when it was listed.
        if stat.attributes.is_encrypted()
            && let Some(fault) = sight::locked(&path, dir.as_fd())
        {
            self.note(fault);
            return Ok(());
        }
        if path.is_root() {
            self.shared.look_at_root(&stat);
        }
        if !job.deep {
            lock(&self.shared.links).forget_directory(&path);
        }
        if job.baseline != Baseline::Absent {
            self.shared.store.speak_of(&path);
        }
        let (known, fresh) = self.known(job)?;
        self.refuse_emptied(&path, &names, known.as_ref())?;
        let mut visit = Visit {
            scope: Scope { path, begun: false },
            dir,
            deep: job.deep,
            doubtful: false,
            encrypted: stat.attributes.is_encrypted(),
        };
        if fresh {
            self.begin(&mut visit.scope)?;
        }
        let (known, entries) = known.map_or((None, Vec::new()), |known| {
            let head = DirectoryHead {
                meta: known.meta,
                seen: known.seen,
            };
            (Some(head), known.entries)
        });
        let (entries, same) = self.join(&mut visit, &names, entries)?;
        Counts::add_time(&self.shared.counts.scan_nanos, begun.elapsed());
        let known = known.as_ref().map(|head| (head, same));
        self.conclude(visit, &stat, entries, known)
    }

    /// A directory that may not be listed, which was noted: its own metadata is carried all the same,
    /// so that no right to it stays that was revoked.
    fn rights_alone(&mut self, path: &RelPath) -> Result<(), Fault> {
        let Some((parent, name)) = path.split() else {
            return Ok(());
        };
        let looked = self.shared.volume.dir(&parent).and_then(|parent| {
            let handle = file::open_handle(&parent, &name)?;
            let stat = Stat::of_fd(&handle)?;
            Ok((handle, stat))
        });
        let (handle, stat) = match looked {
            Ok(looked)
                if looked.1.kind == Kind::Directory
                    && looked.1.identity.mtime.nanoseconds < 1_000_000_000 =>
            {
                looked
            }
            // Whatever it is now is for the next pass.
            _ => return Ok(()),
        };
        let meta = match read::meta(self.shared, &Reach::of_handle(&handle), path, &stat) {
            Ok((meta, _)) => meta,
            Err(fault) => {
                self.note(fault);
                return Ok(());
            }
        };
        self.lane.begin(path)?;
        // Nothing is claimed of what it holds.
        let member = Digest([0; 32]);
        self.lane.push(&Op::DirectoryMeta { meta, member }, 512)
    }

    /// What the destination holds, and whether the directory is new there.
    fn known(&mut self, job: &Job) -> Result<(Option<Segment>, bool), Fault> {
        match job.baseline {
            Baseline::Absent => {
                self.shared
                    .store
                    .forget(&job.path)
                    .map_err(Shared::state_fault)?;
                Ok((None, true))
            }
            Baseline::Remembered => {
                match self
                    .shared
                    .store
                    .get(&job.path)
                    .map_err(Shared::state_fault)?
                {
                    Known::Segment(segment) => Ok((Some(*segment), false)),
                    Known::InFlight | Known::Nothing => self.ask(job),
                }
            }
            Baseline::Unknown => self.ask(job),
        }
    }

    fn ask(&mut self, job: &Job) -> Result<(Option<Segment>, bool), Fault> {
        let fetched = super::remote::fetch(self.shared, &job.path)?;
        let fresh = fetched.is_none();
        Ok((fetched, fresh))
    }

    /// A root that held something and now holds nothing is more likely a volume that was not
    /// mounted than a wish.
    fn refuse_emptied(
        &self,
        path: &RelPath,
        names: &[Name],
        known: Option<&Segment>,
    ) -> Result<(), Fault> {
        let held = known.is_some_and(|known| !known.entries.is_empty());
        let own = |name: &Name| {
            Stat::of_entry(self.shared.volume.root(), name)
                .is_ok_and(|stat| self.shared.volume.is_own(name, &stat))
        };
        if path.is_root() && held && !self.shared.allow_empty && names.iter().all(own) {
            return Err(fault::plain(
                Side::Source,
                FaultCode::SourceEmpty,
                "source: the root directory is empty, but the destination holds entries; nothing \
                 was removed (is the volume mounted? --allow-empty empties the destination)",
            ));
        }
        Ok(())
    }

    pub(crate) fn remove(&mut self, visit: &mut Visit, gone: &Entry) -> Result<(), Fault> {
        self.displace(visit, Some(gone))?;
        self.begin(&mut visit.scope)?;
        self.shared.room.free();
        Counts::add(&self.shared.counts.removed, 1);
        self.lane.push(
            &Op::Remove {
                name: gone.name.clone(),
            },
            gone.name.as_bytes().len(),
        )
    }

    /// The directory itself, last: its metadata decides whether it needs any. `known` is what was
    /// known of it, and whether its entries are still the same.
    fn conclude(
        &mut self,
        mut visit: Visit,
        stat: &Stat,
        entries: Vec<Entry>,
        known: Option<(&DirectoryHead, bool)>,
    ) -> Result<(), Fault> {
        let counts = self.shared.counts;
        Counts::add(&counts.directories, 1);
        if visit.scope.path.is_root() {
            Counts::add(&counts.entries, 1);
        }
        let head = known.map(|(head, _)| head);
        let known_seen = head.and_then(|head| head.seen.as_ref());
        let unchanged = self.shared.proof.holds(known_seen, &stat.identity);
        let (meta, left) = match head {
            Some(head) if unchanged => {
                let left = known_seen.map_or(Reasons::NONE, |seen| seen.left);
                self.shared
                    .leave_again(&visit.scope.path, left, stat.attributes);
                (head.meta.clone(), left)
            }
            _ => match read::meta(
                self.shared,
                &Reach::of_open(&visit.dir),
                &visit.scope.path,
                stat,
            ) {
                Ok((meta, mut left)) => {
                    let (shared, path) = (self.shared, &visit.scope.path);
                    left.extend(sight::tell_directory(shared, &visit.dir, path, stat));
                    if visit.scope.path.is_root() && self.shared.volume.has_foreign_root() {
                        counts.leave(&visit.scope.path, Reason::RootTime, "");
                        left.insert(Reason::RootTime);
                    }
                    (self.shared.volume.carried(&visit.scope.path, meta), left)
                }
                Err(fault) => {
                    self.note(fault);
                    return Ok(());
                }
            },
        };
        let looked = Stat::of_fd(&visit.dir).map(|stat| self.shared.volume.steady(stat));
        let after = looked.map_or(stat.identity, |stat| stat.identity);
        // The first look counts: a listing that was overtaken is looked at again.
        let seen = Seen {
            identity: stat.identity,
            ..self.shared.proof.seen(&stat.identity, &after, left)
        };
        if head.is_none_or(|head| head.meta != meta) {
            self.begin(&mut visit.scope)?;
        }
        let now = DirectoryHead {
            meta,
            seen: Some(seen),
        };
        let as_known = known == Some((&now, true));
        let segment = Segment {
            path: visit.scope.path,
            meta: now.meta,
            seen: now.seen,
            entries,
        };
        if visit.doubtful {
            self.lane.doubt_later(segment)?;
        } else if visit.scope.begun {
            self.lane.commit_later(segment)?;
        } else if !as_known {
            self.shared
                .store
                .put(&segment, Change::None)
                .map_err(Shared::state_fault)?;
        }
        Ok(())
    }

    /// What was known below a name is forgotten when the name becomes something else.
    pub(crate) fn displace(&mut self, visit: &Visit, before: Option<&Entry>) -> Result<(), Fault> {
        if let Some(Entry {
            name,
            kept: Kept::Directory,
            ..
        }) = before
            && let Ok(path) = visit.scope.path.child(name)
        {
            let gone = self
                .shared
                .store
                .forget(&path)
                .map_err(Shared::state_fault)?;
            let mut links = lock(&self.shared.links);
            for path in &gone {
                links.forget_directory(path);
            }
        }
        Ok(())
    }

    /// Before the first op in the directory.
    pub(crate) fn begin(&mut self, scope: &mut Scope) -> Result<(), Fault> {
        if scope.begun {
            return self.lane.enter(&scope.path);
        }
        scope.begun = true;
        self.lane.begin(&scope.path)
    }

    pub(crate) fn note(&self, fault: Fault) {
        self.shared.faults.push(fault);
    }
}
