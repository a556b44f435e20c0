//! A mover never stands in the workload's way: when a pod of the workload leaves its node, or
//! waits for one, the source mover on that claim leaves at once.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::task::AbortHandle;

use super::Movers;
use crate::kube::writers::watch::{Consumers, Seen};

/// The watch over one migration's movers, until it is dropped.
#[derive(Debug)]
pub struct Guard(AbortHandle);

impl Guard {
    /// Watches over `movers` of `claims`, while the workload is not `stopping` by our own wish.
    pub fn new(
        consumers: Arc<Consumers>,
        movers: Arc<Movers>,
        claims: Vec<String>,
        migration: String,
        stopping: Arc<AtomicBool>,
    ) -> Self {
        let watch = async move {
            let mut known = Vec::new();
            loop {
                let disturbed = consumers
                    .wait(|seen| {
                        let now = disturbed(seen, &claims, &migration);
                        (now != known).then_some(now)
                    })
                    .await;
                let Some(now) = disturbed else { return };
                if !stopping.load(Ordering::SeqCst) {
                    for index in now.iter().filter(|index| !known.contains(*index)) {
                        tracing::info!(claim = ?claims.get(*index), "mover leaves its node");
                        if let Err(failure) = movers.yield_node(*index).await {
                            tracing::warn!(%failure, "mover could not be taken off its node");
                        }
                    }
                }
                known = now;
            }
        };
        Self(tokio::spawn(watch).abort_handle())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The claims, by index, of which a user leaves its node or waits for one.
fn disturbed(seen: &Seen, claims: &[String], migration: &str) -> Vec<usize> {
    claims
        .iter()
        .enumerate()
        .filter(|(_, claim)| {
            seen.consumers(std::slice::from_ref(claim), migration)
                .iter()
                .any(|pod| pod.deleting || pod.node.is_none())
        })
        .map(|(index, _)| index)
        .collect()
}
