//! Keeps the source mover within the load that is wanted, which may change while a pass runs.
//!
//! The wish is stored where the migration is at home, by `livmig-coord set`, and looked for again
//! and again: so it outlives a coordinator, and no second way to talk to a running one is needed.

use std::{future::Future, time::Duration};

use livmig_proto::control::Limits;
use tokio::time::sleep;

use super::control::{ControlClient, ControlError};

/// How often a changed wish is looked for.
const LOOK: Duration = Duration::from_secs(2);

/// Where the load that is wanted is stored.
pub trait StoredLimits: Sync {
    /// What was wanted when the migration was planned.
    fn planned(&self) -> Limits;

    /// What was wanted last; none when nothing was stored since the migration was planned.
    ///
    /// # Errors
    /// Why that cannot be read.
    fn stored(&self) -> impl Future<Output = Result<Option<Limits>, String>> + Send;
}

/// Runs a live `pass` of the source mover at `client` within what is `wanted`.
///
/// # Errors
/// When the mover could not be told before the pass began.
pub async fn within<W: StoredLimits, T>(
    client: &ControlClient,
    wanted: &W,
    pass: impl Future<Output = T> + Send,
) -> Result<T, ControlError> {
    let first = read(wanted).await.unwrap_or_else(|| wanted.planned());
    client.limit(first).await?;
    let keep = async {
        let mut told = first;
        loop {
            sleep(LOOK).await;
            let Some(load) = read(wanted).await.filter(|load| *load != told) else {
                continue;
            };
            match client.limit(load).await {
                Ok(()) => told = load,
                Err(error) => tracing::warn!(%error, "the mover could not be told its limits"),
            }
        }
    };
    tokio::select! {
        biased;
        passed = pass => Ok(passed),
        never = keep => never,
    }
}

/// What is wanted now; none when nobody can tell.
async fn read<W: StoredLimits>(wanted: &W) -> Option<Limits> {
    match wanted.stored().await {
        Ok(stored) => Some(stored.unwrap_or_else(|| wanted.planned())),
        Err(error) => {
            tracing::warn!(%error, "the limits could not be read");
            None
        }
    }
}
