//! The proof of no writers: nobody holds the source, and PATH leads nowhere.

use std::fmt::Write as _;
use std::{
    collections::BTreeSet,
    io,
    path::Path,
    time::{Duration, Instant},
};

use livmig_engine::result::Proof;

use super::process::ProcessIdentity;
use super::writers::{Holder, Survey, survey};

/// How long processes that still hold the source get to go away: a stop command may return
/// while the last of them is on its way out.
const LEAVE_GRACE: Duration = Duration::from_secs(2);

/// How long to wait at most before looking again: a file may be closed without its process ending.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What looking for holders came to.
pub enum Held {
    /// Nobody holds the source.
    Nobody(Survey),
    /// Somebody does.
    By(Vec<Holder>),
}

/// Looks once.
pub fn look(source: &Path, except: &BTreeSet<u32>) -> io::Result<Held> {
    let found = survey(source, except)?;
    Ok(if found.holders.is_empty() {
        Held::Nobody(found)
    } else {
        Held::By(found.holders)
    })
}

/// Looks until nobody holds the source or the grace is over.
pub async fn wait_until_left(source: &Path, except: &BTreeSet<u32>) -> io::Result<Held> {
    let deadline = Instant::now() + LEAVE_GRACE;
    loop {
        let held = look(source, except)?;
        let left = deadline.saturating_duration_since(Instant::now());
        match &held {
            Held::By(holders) if !left.is_zero() => {
                if let Some(first) = holders.first() {
                    wait_for(first, left.min(LOOK_AGAIN)).await?;
                }
            }
            _ => return Ok(held),
        }
    }
}

/// What was looked at, for people.
pub fn evidence(survey: &Survey, source: &Path) -> Proof {
    let mut evidence = format!(
        "no process has a file below {} open for writing, mapped writable, or stands in it",
        source.display()
    );
    if survey.unseen > 0 {
        let _ = write!(
            evidence,
            " ({} processes of other users could not be looked into)",
            survey.unseen
        );
    }
    Proof { evidence }
}

async fn wait_for(holder: &Holder, limit: Duration) -> io::Result<()> {
    match ProcessIdentity::of(holder.pid)? {
        Some(process) => process.wait(limit).await.map(|_| ()),
        None => Ok(()),
    }
}
