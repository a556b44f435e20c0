//! Settles a pass: durable, surveyed, summed up.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use livmig_proto::{
    control::{Fault, FaultCode, ManifestReport, Side, VerifyLevel},
    hex,
    manifest::manifest_digest,
    name::{Name, RelPath},
    session::Settled,
    tree::Digest,
};

use rustix::io::Errno;

use super::survey::{self, Surveyor};
use crate::destination::{early::When, links::Proven, state::Destination, touched::Touch};
use crate::{
    catalog::{
        segment::{Kept, Seen},
        store::{Change, Known},
    },
    fault,
    fs::{
        dir,
        stat::{Kind, Stat},
        way::Way,
    },
};

/// What came of settling: the end of the pass, and what differs.
#[derive(Debug)]
pub struct SettleOutcome {
    /// For the source.
    pub settled: Settled,
    /// What differs, by name.
    pub mismatches: Vec<Fault>,
}

/// Threads that read back, for each core: they wait for the device most of the time. Four halve what
/// one takes (DESIGN.md); other numbers were not tried. Each has a buffer of its own.
const READERS_PER_CORE: usize = 4;
/// At least so many.
const READERS_MIN: usize = 4;
/// And at most.
const READERS_MAX: usize = 16;

/// What a survey found.
#[derive(Debug, Default)]
struct SurveyFound {
    /// Directories that are not as claimed.
    mismatched: Vec<RelPath>,
    /// What differs, or could not be read back, by name.
    faults: Vec<Fault>,
    /// What directories should be in the manifest, of those that name what has several links.
    claims: Vec<(RelPath, Digest)>,
}

impl SurveyFound {
    fn add(&mut self, other: Self) {
        self.mismatched.extend(other.mismatched);
        self.faults.extend(other.faults);
        self.claims.extend(other.claims);
    }

    /// Whether all that there is could be read.
    fn unread(&self) -> Option<&Fault> {
        self.faults
            .iter()
            .find(|fault| fault.code != FaultCode::Mismatch)
    }
}

/// A directory to survey: by its note, or by its path when there is none.
enum SurveyJob {
    Touched(crate::catalog::log::Key),
    Unknown(RelPath),
}

impl Destination {
    /// Makes everything durable, reads back what was touched, and sums up.
    pub fn settle(&self, level: VerifyLevel) -> Result<SettleOutcome, Fault> {
        let begun = Instant::now();
        self.settle_early()?;
        self.sync()?;
        let flush_seconds = begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        self.read_what_was_left(level)?;
        let earlier_seconds = begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        let found = self.survey_all(level)?;
        self.touched.clear().map_err(Self::state_fault)?;
        self.complete
            .store(found.unread().is_none(), Ordering::SeqCst);
        let (digest, entries, bytes) = self.sum();
        let settled = Settled {
            digest: Some(digest),
            entries,
            bytes,
            on_device: level != VerifyLevel::Wire && self.on_device.load(Ordering::SeqCst),
            flush_seconds,
            verify_seconds: begun.elapsed().as_secs_f64(),
            earlier_seconds,
            mismatched: found
                .mismatched
                .iter()
                .map(|path| hex::encode(path.as_bytes()))
                .collect(),
        };
        Ok(SettleOutcome {
            settled,
            mismatches: found.faults,
        })
    }

    /// Makes everything durable, and leaves it to be read back from now on, beside what follows.
    /// The next pass that is settled otherwise proves all of it.
    pub fn settle_unread(&self) -> Result<SettleOutcome, Fault> {
        let begun = Instant::now();
        self.sync()?;
        let keys = self.touched.keys();
        self.unread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_from(&keys);
        self.early.open(When::AtOnce);
        self.early.flushed(keys);
        let settled = Settled {
            digest: None,
            entries: 0,
            bytes: 0,
            on_device: false,
            flush_seconds: begun.elapsed().as_secs_f64(),
            verify_seconds: 0.0,
            earlier_seconds: 0.0,
            mismatched: Vec::new(),
        };
        Ok(SettleOutcome {
            settled,
            mismatches: Vec::new(),
        })
    }

    /// Reads back the rest of what an earlier pass left. For itself, because it says nothing about
    /// what a pass like this one takes; what differs shows in the survey of all that is left then.
    fn read_what_was_left(&self, level: VerifyLevel) -> Result<(), Fault> {
        let keys = std::mem::take(&mut *self.unread.lock().unwrap_or_else(PoisonError::into_inner));
        self.in_parallel(level, &keys, |surveyor, key| {
            let _ = surveyor.early(*key);
            Ok(None)
        })
        .map(drop)
    }

    /// Surveys every directory of which nothing is proven yet.
    ///
    /// # Errors
    /// When anything cannot be read; the first of it.
    pub fn survey_everything(&self, level: VerifyLevel) -> Result<(), Fault> {
        match self.survey_all(level)?.unread() {
            Some(fault) => Err(fault.clone()),
            None => Ok(()),
        }
    }

    /// What is proven of everything, in one digest.
    pub fn manifest(&self, level: VerifyLevel) -> ManifestReport {
        let (digest, entries, bytes) = self.sum();
        ManifestReport {
            level,
            digest: digest.to_string(),
            entries,
            bytes,
        }
    }

    fn sum(&self) -> (Digest, u64, u64) {
        let links = self.links();
        let mut members = self.catalog.members().unwrap_or_default();
        members.extend(links.members());
        let totals = self.catalog.totals();
        (
            manifest_digest(members),
            totals.entries,
            totals.bytes + links.bytes(),
        )
    }

    fn survey_all(&self, level: VerifyLevel) -> Result<SurveyFound, Fault> {
        let mut jobs: Vec<SurveyJob> = self
            .touched
            .keys()
            .into_iter()
            .map(SurveyJob::Touched)
            .collect();
        let mut found = SurveyFound::default();
        if !self.complete.load(Ordering::SeqCst) {
            let unknown = self.unknown_directories(&mut found)?;
            jobs.extend(unknown.into_iter().map(SurveyJob::Unknown));
        } else if jobs.is_empty() && !self.catalog.knows(&RelPath::ROOT) {
            // Empty from the beginning, and nothing was sent.
            jobs.push(SurveyJob::Unknown(RelPath::ROOT));
        }
        found.add(self.in_parallel(level, &jobs, |surveyor, job| match job {
            SurveyJob::Touched(key) => match self.touched.get(*key).map_err(Self::state_fault)? {
                Some((path, touch)) => {
                    let surveyed = surveyor.directory(&path, &touch);
                    self.or_doubt(surveyor, path, surveyed)
                }
                None => Ok(None),
            },
            // A touched directory is surveyed by its note.
            SurveyJob::Unknown(path) if !self.catalog.knows(path) => {
                let surveyed = surveyor.directory(path, &Touch::default());
                self.or_doubt(surveyor, path.clone(), surveyed)
            }
            SurveyJob::Unknown(_) => Ok(None),
        })?);
        if !self.complete.load(Ordering::SeqCst) {
            self.prune()?;
        }
        loop {
            let doubtful = self.links().doubtful();
            found.add(self.in_parallel(level, &doubtful, |surveyor, (ino, path)| {
                let surveyed = surveyor.link(*ino, path);
                let parent = path.split().map(|(parent, _)| parent).unwrap_or_default();
                self.or_doubt(surveyor, parent, surveyed)
            })?);
            if !self.reads_only || !self.links().divide() {
                break;
            }
        }
        self.separate_alone()?;
        self.judge_claims(&mut found)?;
        found.mismatched.sort_unstable();
        found.mismatched.dedup();
        Ok(found)
    }

    /// The directory at `path` if it is not as claimed. What could not be read there is noted, and
    /// nothing of the directory is known then; the others are proven all the same.
    fn or_doubt(
        &self,
        surveyor: &mut Surveyor<'_>,
        path: RelPath,
        surveyed: Result<bool, Fault>,
    ) -> Result<Option<RelPath>, Fault> {
        match surveyed {
            Ok(as_claimed) => Ok((!as_claimed).then_some(path)),
            Err(fault) if fault.path.is_some() => {
                surveyor.mismatches.push(fault);
                self.catalog.begin(&path).map_err(Self::state_fault)?;
                Ok(Some(path))
            }
            Err(fault) => Err(fault),
        }
    }

    /// Compares what directories should be in the manifest with what they are, now that it is known
    /// which of their names share an inode with others in the volume.
    fn judge_claims(&self, found: &mut SurveyFound) -> Result<(), Fault> {
        for (path, member) in std::mem::take(&mut found.claims) {
            if let Known::Segment(segment) = self.catalog.get(&path).map_err(Self::state_fault)?
                && segment.member() != member
            {
                found.faults.push(survey::unlike_claim(&path));
                found.mismatched.push(path);
            }
        }
        Ok(())
    }

    /// Forgets every directory that the root does not lead to: what was known of one when its
    /// parent, of which nothing was known, went.
    fn prune(&self) -> Result<(), Fault> {
        self.catalog.begin_round();
        let mut stack = vec![RelPath::ROOT];
        while let Some(path) = stack.pop() {
            self.catalog.stamp(&path);
            if let Known::Segment(segment) = self.catalog.get(&path).map_err(Self::state_fault)? {
                let children = segment.entries.iter().filter(|e| e.kept == Kept::Directory);
                stack.extend(children.filter_map(|entry| path.child(&entry.name).ok()));
            }
        }
        self.catalog.prune().map_err(Self::state_fault)
    }

    /// Writes down as plain entries what has several links of which one is in the volume.
    fn separate_alone(&self) -> Result<(), Fault> {
        // One directory may name very many of them.
        let mut directories: BTreeMap<RelPath, Vec<(Name, Proven)>> = BTreeMap::new();
        for (path, proven) in self.links().alone() {
            if let Some((parent, name)) = path.split() {
                directories.entry(parent).or_default().push((name, proven));
            }
        }
        for (path, alone) in directories {
            let Known::Segment(mut segment) = self.catalog.get(&path).map_err(Self::state_fault)?
            else {
                continue;
            };
            for (name, proven) in alone {
                if let Some(entry) = segment.entry_mut(&name) {
                    entry.seen = Some(Seen::proven(proven.identity));
                    entry.kept = proven.kept();
                }
            }
            self.catalog
                .put(&segment, Change::None)
                .map_err(Self::state_fault)?;
        }
        Ok(())
    }

    /// Gives each of `jobs` to one of several surveyors; the directories that they name, and what
    /// they found to differ.
    fn in_parallel<T: Sync>(
        &self,
        level: VerifyLevel,
        jobs: &[T],
        work: impl Fn(&mut Surveyor<'_>, &T) -> Result<Option<RelPath>, Fault> + Sync,
    ) -> Result<SurveyFound, Fault> {
        let next = AtomicUsize::new(0);
        let found = Mutex::new(SurveyFound::default());
        let failed = Mutex::new(None);
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let threads = (cores * READERS_PER_CORE).clamp(READERS_MIN, READERS_MAX);
        std::thread::scope(|scope| {
            for _ in 0..threads.min(jobs.len()) {
                scope.spawn(|| {
                    let mut surveyor = Surveyor::new(self, level);
                    let mut paths = Vec::new();
                    while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        match work(&mut surveyor, job) {
                            Ok(path) => paths.extend(path),
                            Err(fault) => {
                                failed
                                    .lock()
                                    .unwrap_or_else(PoisonError::into_inner)
                                    .get_or_insert(fault);
                                next.store(jobs.len(), Ordering::Relaxed);
                            }
                        }
                    }
                    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                    found.add(SurveyFound {
                        mismatched: paths,
                        faults: surveyor.mismatches,
                        claims: surveyor.claims,
                    });
                });
            }
        });
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(fault) => Err(fault),
            None => Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    /// Every directory of the volume of which nothing is proven, but for those that cannot be listed.
    fn unknown_directories(&self, found: &mut SurveyFound) -> Result<Vec<RelPath>, Fault> {
        let (mut unknown, mut way) = (Vec::new(), Way::new());
        let mut stack = vec![RelPath::ROOT];
        while let Some(path) = stack.pop() {
            if let Known::Segment(segment) = self.catalog.get(&path).map_err(Self::state_fault)? {
                stack.extend(
                    segment
                        .entries
                        .iter()
                        .filter(|entry| entry.kept == Kept::Directory)
                        .filter_map(|entry| path.child(&entry.name).ok()),
                );
                continue;
            }
            match self.directories_in(&mut way, &path) {
                Ok(below) => {
                    stack.extend(below);
                    unknown.push(path);
                }
                // Removed since its parent was last surveyed.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(errno) => {
                    let fault = fault::at(Side::Destination, &path, "list the directory", errno);
                    found.faults.push(fault);
                    self.catalog.begin(&path).map_err(Self::state_fault)?;
                    found.mismatched.push(path);
                }
            }
        }
        Ok(unknown)
    }

    /// Forgets those that were surveyed early and removed before the pass was over. Only when no
    /// lane is at work.
    pub(crate) fn settle_early(&self) -> Result<(), Fault> {
        self.early.close();
        let mut way = Way::new();
        for path in self.early.take_surveyed() {
            let opened = way.open(self.volume.root(), &path);
            if let Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) = opened {
                self.forget(&path)?;
            }
        }
        Ok(())
    }

    /// The directories in the one at `path`.
    fn directories_in(&self, way: &mut Way, path: &RelPath) -> Result<Vec<RelPath>, Errno> {
        let dir = way.open(self.volume.root(), path)?;
        let mut below = Vec::new();
        for name in dir::list(&dir)? {
            // What cannot be looked at is named when the directory is surveyed.
            let Ok(stat) = Stat::of_entry(&dir, &name) else {
                continue;
            };
            if stat.kind != Kind::Directory || self.apart.is_own(&self.volume, path, &name, &stat) {
                continue;
            }
            let child = path.child(&name).ok();
            below.extend(child.filter(|below| !self.apart.holds(&self.volume, below, &stat)));
        }
        Ok(below)
    }
}

#[cfg(test)]
mod tests;
