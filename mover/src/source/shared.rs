//! What the threads of one pass share.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use livmig_proto::{
    attributes::Carry,
    control::{Fault, FaultCode, IoPriority, LeftOut, PassKind, Progress, Reason, Side, Stage},
    limits::LISTED_MAX,
    name::RelPath,
};

use super::{
    link_table::LinkTable, queue::Queue, space::Space, stat_trust::StatTrust,
    throttle::limiter::Limiter,
};
use crate::{
    catalog::{store::Store, tags::TagsRef},
    fault,
    fs::{space::footprint::CacheUse, stat::Identity, volume::Volume},
    stop::Stop,
    transport::data_session::DataSession,
};

/// Everything the workers of a pass have in common.
pub struct Shared<'a> {
    /// The source.
    pub volume: &'a Volume,
    /// What the destination holds.
    pub store: &'a Store,
    /// The session.
    pub link: &'a DataSession,
    /// Live or final.
    pub kind: PassKind,
    /// Whether the destination's file system has a `lost+found` of its own.
    pub reserved: bool,
    /// Whether the destination tells what is reserved beyond the end of its files.
    pub tells_reserved: bool,
    /// Whether an empty source may empty the destination.
    pub allow_empty: bool,
    /// The attributes that are carried.
    pub carry: Carry,
    /// Where nobody could look for `trusted.*` ones.
    pub unseen: Vec<Side>,
    /// The key of block tags.
    pub tag_key: [u8; 32],
    /// What was proven and when it was.
    pub proof: StatTrust,
    /// What is done about room.
    pub room: Space,
    /// Directories to visit.
    pub queue: Queue,
    /// Entries with several links.
    pub links: Mutex<LinkTable>,
    /// Directories that were gone when they were to be visited, to be looked for again.
    pub vanished: Mutex<Vec<RelPath>>,
    /// Something was gone before it could be sent: the destination holds less than the catalog
    /// says, and its digest proves nothing this time.
    pub unproven: AtomicBool,
    /// What never stayed the same while it was looked at, in this round.
    pub unsettled: Faults,
    /// Something was read in a way that moves its access time.
    pub moved_access_times: AtomicBool,
    /// Tags that nothing refers to once this pass is committed.
    pub retired: Mutex<Vec<TagsRef>>,
    /// Numbers.
    pub counts: &'a Counts,
    /// The load that a live pass may be.
    pub limiter: &'a Limiter,
    /// What went wrong here.
    pub faults: Faults,
}

/// The numbers of a pass; also what progress is made of.
#[derive(Debug, Default)]
pub struct Counts {
    /// Entries visited, directories included.
    pub entries: AtomicU64,
    /// Directories visited.
    pub directories: AtomicU64,
    /// Bytes of content of visited entries.
    pub bytes_total: AtomicU64,
    /// Bytes of content read.
    pub bytes_scanned: AtomicU64,
    /// Bytes of content of files that stay hot.
    pub bytes_hot: AtomicU64,
    /// Bytes of frames on their way to the destination.
    pub bytes_sent: AtomicU64,
    /// Entries changed at the destination.
    pub changed: AtomicU64,
    /// Entries removed at the destination.
    pub removed: AtomicU64,
    /// Nanoseconds in which a worker listed and looked.
    pub scan_nanos: AtomicU64,
    /// Nanoseconds in which a worker read and hashed.
    pub read_nanos: AtomicU64,
    /// Nanoseconds in which a worker waited for the destination.
    pub send_nanos: AtomicU64,
    /// The stage, by number.
    stage: AtomicU64,
    /// The wish that it ends early.
    pub stop: Stop,
    /// Ends the connection of a pass that nobody waits for.
    abandon: Mutex<Option<Abandon>>,
    /// The most expensive file.
    largest: Mutex<Option<(RelPath, u64)>>,
    left_out: Mutex<BTreeMap<Reason, LeftOut>>,
    /// The names under which something was left as it is.
    apart: Mutex<BTreeSet<RelPath>>,
}

/// Ends a connection.
struct Abandon(Box<dyn Fn() + Send>);

impl std::fmt::Debug for Abandon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Abandon")
    }
}

impl Counts {
    /// Adds to a counter.
    pub fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }

    /// Adds time to a counter.
    pub fn add_time(counter: &AtomicU64, time: Duration) {
        counter.fetch_add(
            u64::try_from(time.as_nanos()).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
    }

    /// A counter's value.
    pub fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }

    /// A file of `bytes` was read at `path`.
    pub fn read_file(&self, path: &RelPath, bytes: u64) {
        let mut largest = lock(&self.largest);
        if largest.as_ref().is_none_or(|(_, most)| bytes > *most) {
            *largest = Some((path.clone(), bytes));
        }
    }

    /// The most expensive file so far.
    pub fn largest(&self) -> Option<(String, u64)> {
        lock(&self.largest)
            .as_ref()
            .map(|(path, bytes)| (path.to_string(), *bytes))
    }

    /// Something at `path` is not carried because of `reason`; `detail` says what of it.
    pub fn leave(&self, path: &RelPath, reason: Reason, detail: impl Into<String>) {
        lock(&self.left_out)
            .entry(reason)
            .or_insert_with(|| LeftOut::new(reason))
            .add(path.to_string(), detail.into());
    }

    /// What stands at `path` was left as it is at either end.
    pub fn set_apart(&self, path: RelPath) {
        lock(&self.apart).insert(path);
    }

    /// The names under which something was left as it is.
    pub fn apart(&self) -> BTreeSet<RelPath> {
        lock(&self.apart).clone()
    }

    /// What is not carried, grave reasons first.
    pub fn left_out(&self) -> Vec<LeftOut> {
        lock(&self.left_out).values().cloned().collect()
    }

    /// Enters a stage.
    pub fn enter(&self, stage: Stage) {
        let number = match stage {
            Stage::Flushing => 0,
            Stage::Transferring => 1,
            Stage::Settling => 2,
            Stage::Verifying => 3,
        };
        self.stage.store(number, Ordering::Relaxed);
    }

    /// Begins another round over the same entries: what it will count again is forgotten.
    pub fn begin_again(&self) {
        let counted_again = [
            &self.entries,
            &self.directories,
            &self.bytes_total,
            &self.bytes_hot,
        ];
        for counter in counted_again {
            counter.store(0, Ordering::Relaxed);
        }
        lock(&self.left_out).clear();
        lock(&self.apart).clear();
    }

    /// From here on [`Counts::abandon`] calls this.
    pub fn on_abandon(&self, end: impl Fn() + Send + 'static) {
        *lock(&self.abandon) = Some(Abandon(Box::new(end)));
    }

    /// Ends the pass at once: another has been asked for. What was sent and not acknowledged is
    /// unknown then.
    pub fn abandon(&self) {
        self.stop.ask();
        if let Some(Abandon(end)) = &*lock(&self.abandon) {
            end();
        }
    }

    /// How far the pass is.
    pub fn progress(&self, expected: Option<u64>, elapsed: Duration) -> Progress {
        Progress {
            stage: match Self::get(&self.stage) {
                0 => Stage::Flushing,
                1 => Stage::Transferring,
                2 => Stage::Settling,
                _ => Stage::Verifying,
            },
            entries: Self::get(&self.entries),
            entries_expected: expected,
            bytes_scanned: Self::get(&self.bytes_scanned),
            bytes_total: Self::get(&self.bytes_total),
            bytes_sent: Self::get(&self.bytes_sent),
            seconds: elapsed.as_secs_f64(),
        }
    }
}

/// What went wrong at the source: the first of it by name, all of it by number.
#[derive(Debug, Default)]
pub struct Faults(Mutex<(Vec<Fault>, u64)>);

impl Faults {
    /// Adds one.
    pub fn push(&self, fault: Fault) {
        let mut faults = lock(&self.0);
        faults.1 += 1;
        if faults.0.len() < LISTED_MAX {
            faults.0.push(fault);
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        lock(&self.0).1 == 0
    }

    /// All of them, of which there are none then.
    pub fn take(&self) -> (Vec<Fault>, u64) {
        std::mem::take(&mut *lock(&self.0))
    }

    /// Adds what another had, the first of it by name.
    pub fn append(&self, (listed, total): (Vec<Fault>, u64)) {
        let mut faults = lock(&self.0);
        faults.1 += total;
        let room = LISTED_MAX.saturating_sub(faults.0.len());
        faults.0.extend(listed.into_iter().take(room));
    }

    /// The first of them, and how many in all.
    pub fn get(&self) -> (Vec<Fault>, u64) {
        lock(&self.0).clone()
    }
}

impl Shared<'_> {
    /// The catalog could not be read or written: a fault of the state directory, not of the
    /// volume.
    pub fn state_fault(errno: rustix::io::Errno) -> Fault {
        fault::plain(
            Side::Source,
            match fault::code_of(errno) {
                FaultCode::NoSpace => FaultCode::NoSpace,
                _ => FaultCode::Io,
            },
            format!("source: could not keep state in the state directory ({errno})"),
        )
    }

    /// Something did not stay what it was for long enough to be carried: another round may find it
    /// quiet. In a final pass that is a writer.
    pub fn unsettle(&self, fault: Fault) {
        if self.is_final() {
            self.faults.push(fault);
        } else {
            self.unsettled.push(fault);
        }
    }

    /// Whether what looked like `before` when it was read, and like `now` afterwards, is the same. On
    /// a file system that makes inode numbers up whenever it is asked they count for nothing; what
    /// took an entry's place in this pass still shows by its change time.
    pub fn is_as_seen(&self, before: &Identity, now: &Identity) -> bool {
        before == now
            || !self.volume.proves_unchanged()
                && before.is_like(now)
                && now.ctime < self.proof.flushed
    }

    /// Whether room is or was short in this pass.
    pub fn is_tight(&self) -> bool {
        self.room.is_tight() || self.link.acks().is_short()
    }

    /// What reading leaves in the page cache. It is filled where everything will be read once more
    /// after the stop: that makes the downtime short.
    pub fn cache_use(&self) -> CacheUse {
        if !self.is_final() && self.proof.possible {
            CacheUse::Spares
        } else {
            CacheUse::Fills
        }
    }

    /// Whether the source's device is kept no busier than one read a thread does: beside a workload
    /// that it is to yield to.
    pub fn reads_gently(&self) -> bool {
        !self.is_final() && self.limiter.get().io_priority != IoPriority::None
    }

    /// In a final pass, what changes is a writer that was left.
    pub fn is_final(&self) -> bool {
        self.kind == PassKind::Final
    }
}

/// Locks a mutex whose content no panic can leave half changed.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
