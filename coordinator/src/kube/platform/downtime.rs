//! The downtime as a value: what is true from when the workload is asked to stop until it runs again.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use livmig_engine::result::VolumePass;

/// One downtime. The stop makes it; the steps that follow are handed it.
#[derive(Debug)]
pub(super) struct Downtime {
    /// What the watch of the pods had missed when the workload was asked to stop.
    gaps: u64,
    /// The pods, by UID, that had used the claims and were gone when the fence was proven.
    former: Mutex<BTreeSet<String>>,
    final_pass: Mutex<Vec<VolumePass>>,
}

impl Downtime {
    /// How often the watch of the pods had missed something when the workload was asked to stop. Once
    /// it has missed more, nothing is proven.
    pub(super) fn gaps(&self) -> u64 {
        self.gaps
    }

    /// The pods, by UID, whose writes the final pass finds: they were gone when the fence was proven.
    pub(super) fn former(&self) -> BTreeSet<String> {
        let former = self.former.lock().unwrap_or_else(PoisonError::into_inner);
        former.clone()
    }

    /// Notes them.
    pub(super) fn note_former(&self, pods: impl Iterator<Item = String>) {
        *self.former.lock().unwrap_or_else(PoisonError::into_inner) = pods.collect();
    }

    /// The last final pass, for what a manifest does not tell.
    pub(super) fn final_pass(&self) -> Vec<VolumePass> {
        let reports = self.final_pass.lock();
        reports.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes it.
    pub(super) fn note_final_pass(&self, reports: &[VolumePass]) {
        let noted = self.final_pass.lock();
        reports.clone_into(&mut noted.unwrap_or_else(PoisonError::into_inner));
    }
}

/// The downtime that there is now, if there is one. Clones tell the same.
#[derive(Clone, Debug, Default)]
pub(super) struct CurrentDowntime(Arc<RwLock<Option<Arc<Downtime>>>>);

impl CurrentDowntime {
    /// The workload is asked to stop; `gaps` is what the watch has missed until then. Where it was asked
    /// already, what holds is what held then.
    pub(super) fn begin(&self, gaps: u64) {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        current.get_or_insert_with(|| {
            Arc::new(Downtime {
                gaps,
                former: Mutex::default(),
                final_pass: Mutex::default(),
            })
        });
    }

    /// The downtime.
    pub(super) fn get(&self) -> Option<Arc<Downtime>> {
        let current = self.0.read().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }

    /// The workload runs again.
    pub(super) fn end(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_that_is_repeated_does_not_forgive_what_was_missed_since() {
        let current = CurrentDowntime::default();
        assert!(current.get().is_none());
        current.begin(0);
        current.begin(3);
        assert_eq!(current.get().map(|downtime| downtime.gaps()), Some(0));
        current.clone().end();
        assert!(current.get().is_none());
    }
}
