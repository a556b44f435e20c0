//! A mover never stands in the workload's way: when a pod of the workload leaves its node, or
//! waits for one, the source mover on that claim leaves at once.

use std::sync::Arc;

use tokio::task::AbortHandle;

use super::PodMovers;
use crate::kube::{
    migration::{Claim, Migration},
    writers::watch::{Consumers, PodsSeen, WatchedClaims},
};

/// The watch over one migration's movers, until it is dropped.
#[derive(Debug)]
pub struct Guard(AbortHandle);

impl Guard {
    /// Watches over the `movers` of `migration`, while the workload is not going down by our own wish.
    pub fn new(
        consumers: Arc<Consumers>,
        movers: Arc<PodMovers>,
        migration: Arc<Migration>,
        is_stopping: impl Fn() -> bool + Send + 'static,
    ) -> Self {
        let watch = async move {
            let mut known: Vec<String> = Vec::new();
            loop {
                let disturbed = consumers
                    .wait(|seen| {
                        let now = disturbed(seen, &migration);
                        (now != known).then_some(now)
                    })
                    .await;
                let Some(now) = disturbed else { return };
                if !is_stopping() {
                    let claims = migration.claims.iter();
                    let newly = |claim: &&Claim| {
                        now.contains(&claim.claim) && !known.contains(&claim.claim)
                    };
                    for claim in claims.filter(newly) {
                        tracing::info!(claim = claim.claim, "mover leaves its node");
                        if let Err(failure) = movers.yield_node(claim).await {
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

/// The names of the claims of which a user leaves its node or waits for one.
fn disturbed(seen: &PodsSeen, migration: &Migration) -> Vec<String> {
    let mut claims = migration.claim_names();
    claims.retain(|claim| {
        seen.consumers(&WatchedClaims::only(vec![claim.clone()], migration))
            .iter()
            .any(|pod| pod.deleting || pod.node.is_none())
    });
    claims
}
