//! What the destination has said so far, for threads that wait for it.

use std::{
    collections::HashSet,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use livmig_proto::{
    control::{Fault, FaultCode, Side},
    hex,
    limits::LISTED_MAX,
    name::RelPath,
    session::{Settled, ToSource},
};

use super::shortage::Shortage;
use crate::fault;

/// Directories in which something failed before the pass is given up.
const FAILED_MAX: usize = 10_000;

/// Acknowledgements, faults and the end, shared between the task that hears them and the threads
/// that wait.
#[derive(Debug, Default)]
pub struct Acks {
    heard: Mutex<Heard>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Heard {
    applied: Vec<u64>,
    settled: Option<Settled>,
    faults: Vec<Fault>,
    faults_total: u64,
    failed: HashSet<RelPath>,
    /// What there was no room for since [`Acks::forget_shortage`].
    shortage: Shortage,
    over: Option<Fault>,
}

impl Acks {
    /// Takes in a message.
    pub fn hear(&self, message: ToSource) {
        let mut heard = self.lock();
        match message {
            ToSource::Ready(_) | ToSource::Probed => {}
            ToSource::Applied { lane, up_to } => {
                let lane = usize::try_from(lane).unwrap_or(usize::MAX);
                // Lanes are ours to number; a peer that invents one is ignored.
                if let Some(applied) = heard.applied.get_mut(lane) {
                    *applied = (*applied).max(up_to);
                }
            }
            ToSource::Fault {
                fault,
                directory,
                fatal,
            } => {
                let directory = directory
                    .and_then(|hex| hex::decode(&hex))
                    .and_then(|bytes| RelPath::new(&bytes).ok());
                // Room may be made before the pass is over.
                if fault.code == FaultCode::NoSpace && !fatal {
                    heard.shortage.add(fault, directory);
                    return;
                }
                heard.failed.extend(directory);
                // What is tried twice fails twice, and is told once.
                if !heard.faults.contains(&fault) {
                    heard.faults_total += 1;
                    if heard.faults.len() < LISTED_MAX {
                        heard.faults.push(fault.clone());
                    }
                }
                // A peer that fails without end is not listened to without end.
                if fatal || heard.failed.len() > FAILED_MAX {
                    heard.over.get_or_insert(fault);
                }
            }
            ToSource::Settled(settled) => heard.settled = Some(settled),
        }
        self.changed.notify_all();
    }

    /// The connection is gone: nobody will hear anything more.
    pub fn lose(&self, why: &str) {
        self.lock()
            .over
            .get_or_insert_with(|| fault::disconnected(Side::Source, why));
        self.changed.notify_all();
    }

    /// Makes room for one more lane; its number.
    pub fn add_lane(&self) -> u32 {
        let mut heard = self.lock();
        heard.applied.push(0);
        u32::try_from(heard.applied.len() - 1).unwrap_or(u32::MAX)
    }

    /// The last frame of `lane` that is applied.
    pub fn applied(&self, lane: u32) -> u64 {
        let lane = usize::try_from(lane).unwrap_or(usize::MAX);
        self.lock().applied.get(lane).copied().unwrap_or(0)
    }

    /// Whether anything was applied.
    pub fn has_applied(&self) -> bool {
        self.lock().applied.iter().any(|applied| *applied > 0)
    }

    /// Waits until `lane` is applied up to `sequence`.
    ///
    /// # Errors
    /// When the pass is over before: the connection is lost, or a fatal fault.
    pub fn wait_applied(&self, lane: u32, sequence: u64) -> Result<(), Fault> {
        let at = usize::try_from(lane).unwrap_or(usize::MAX);
        self.wait(|heard| {
            heard
                .applied
                .get(at)
                .is_some_and(|applied| *applied >= sequence)
                .then_some(())
        })
    }

    /// Waits for the end of the pass at the destination.
    pub fn wait_settled(&self) -> Result<Settled, Fault> {
        self.wait(|heard| heard.settled.take())
    }

    /// Whether an op in the directory at `path` failed.
    pub fn has_failed(&self, path: &RelPath) -> bool {
        let heard = self.lock();
        heard.failed.contains(path) || heard.shortage.concerns(path)
    }

    /// Whether there was no room for something since [`Acks::forget_shortage`].
    pub fn is_short(&self) -> bool {
        !self.lock().shortage.is_empty()
    }

    /// For how much there was no room.
    pub fn refused(&self) -> u64 {
        self.lock().shortage.total()
    }

    /// There was no room to try something in `directory`.
    pub fn refuse(&self, fault: Fault, directory: Option<RelPath>) {
        self.lock().shortage.add(fault, directory);
    }

    /// What there was no room for is about to be tried again. Every frame must have been applied.
    pub fn forget_shortage(&self) {
        self.lock().shortage = Shortage::default();
    }

    /// What there was no room for is wrong with the pass; the first of it.
    pub fn fail_short(&self) -> Option<Fault> {
        let mut heard = self.lock();
        let (faults, total) = heard.shortage.faults();
        heard.faults_total += total;
        let first = faults.first().cloned();
        let free = LISTED_MAX.saturating_sub(heard.faults.len());
        heard.faults.extend(faults.into_iter().take(free));
        first
    }

    /// Why the pass is over, if it is.
    pub fn over(&self) -> Option<Fault> {
        self.lock().over.clone()
    }

    /// The faults so far, the first of them, and how many in all.
    pub fn faults(&self) -> (Vec<Fault>, u64) {
        let heard = self.lock();
        (heard.faults.clone(), heard.faults_total)
    }

    fn wait<T>(&self, mut ready: impl FnMut(&mut Heard) -> Option<T>) -> Result<T, Fault> {
        let mut heard = self.lock();
        loop {
            if let Some(result) = ready(&mut heard) {
                return Ok(result);
            }
            if let Some(fault) = &heard.over {
                return Err(fault.clone());
            }
            heard = self
                .changed
                .wait(heard)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
